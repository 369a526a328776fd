//! A module: valid WebAssembly that asks for nothing but what a plugin gets.

use wasmi::{CompilationMode, Config, EnforcedLimits, Engine, ExternType, Linker, Store, StoreLimitsBuilder};

use crate::wasi::{self, State};

/// Largest module, in bytes.
pub const MODULE_MAX: u64 = 16 << 20;

/// Calls inside each other. Each takes some of [`STACK_MAX`] too.
const DEPTH_MAX: usize = 10_000;
/// Room for the values of those calls, in bytes.
const STACK_MAX: usize = 4 << 20;
/// Elements of a table: functions that are called by number.
const TABLE_MAX: usize = 100_000;

/// A module that can run.
#[derive(Debug)]
pub struct Module {
    module: wasmi::Module,
    linker: Linker<State>,
}

/// Why a module can't run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// It is no WebAssembly, or uses what the interpreter does not know, or is beyond its bounds.
    #[error("plugin.wasm is no module that this device can run: {0}")]
    Invalid(String),
    /// It asks for something that no plugin gets.
    #[error(
        "plugin.wasm asks for {module:?} {name:?}, and a plugin gets only functions of wasi_snapshot_preview1 that deal \
         with its own folders, clocks and randomness (no network): build it for wasm32-wasip1 without that"
    )]
    Import {
        /// Module that it asks.
        module: String,
        /// What it asks for.
        name: String,
    },
    /// It has not what a command has.
    #[error("plugin.wasm is no command: it exports no {0}; build it for wasm32-wasip1 as a program, not as a library")]
    NoCommand(&'static str),
    /// It wants more memory from the start than the manifest allows.
    #[error("plugin.wasm can't be started within {memory} bytes of memory (limits.memory): {reason}")]
    Start {
        /// Limit.
        memory: u64,
        /// What the interpreter said.
        reason: String,
    },
}

impl Module {
    /// Checks a module in full: its code, what it asks for, and what it offers.
    pub fn new(bytes: &[u8]) -> Result<Module, ModuleError> {
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .allow_start_fn(false)
            .compilation_mode(CompilationMode::LazyTranslation)
            .enforced_limits(EnforcedLimits::strict())
            .ignore_custom_sections(true)
            .set_max_recursion_depth(DEPTH_MAX)
            .set_max_stack_height(STACK_MAX);
        let engine = Engine::new(&config);
        let invalid = |error: wasmi::Error| ModuleError::Invalid(shortened(&error));
        let module = wasmi::Module::new(&engine, bytes).map_err(invalid)?;
        for import in module.imports() {
            let known = import.module() == wasi::MODULE && wasi::is_function(import.name());
            if !known || !matches!(import.ty(), ExternType::Func(_)) {
                let short = |text: &str| text.chars().take(64).collect();
                return Err(ModuleError::Import { module: short(import.module()), name: short(import.name()) });
            }
        }
        match module.get_export("_start") {
            Some(ExternType::Func(start)) if start.params().is_empty() && start.results().is_empty() => {}
            _ => return Err(ModuleError::NoCommand("function _start without arguments")),
        }
        if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err(ModuleError::NoCommand("memory"));
        }
        let linker = wasi::linker(&engine).map_err(|error| invalid(error.into()))?;
        Ok(Module { module, linker })
    }

    /// Makes an instance that sees `state` and has up to `memory` bytes.
    pub(crate) fn start(&self, state: State, memory: u64) -> Result<(Store<State>, wasmi::Instance), ModuleError> {
        let failed = |error: wasmi::Error| ModuleError::Start { memory, reason: shortened(&error) };
        let limits = StoreLimitsBuilder::new()
            .memory_size(usize::try_from(memory).unwrap_or(usize::MAX))
            .table_elements(TABLE_MAX)
            .instances(1)
            .tables(4)
            .memories(1)
            .trap_on_grow_failure(true);
        let mut store = Store::new(self.module.engine(), state.with_limits(limits.build()));
        store.limiter(|state| state.limits());
        // Copying the data segments is the only work, and the module's size bounds it.
        store.set_fuel(u64::MAX).map_err(failed)?;
        let instance = self.linker.instantiate_and_start(&mut store, &self.module).map_err(failed)?;
        let exported = instance.get_memory(&store, "memory").ok_or(ModuleError::NoCommand("memory"))?;
        store.data_mut().set_memory(exported);
        Ok((store, instance))
    }

    /// Whether an instance with `memory` bytes can be made.
    pub fn check_start(&self, memory: u64) -> Result<(), ModuleError> {
        self.start(State::idle(), memory).map(drop)
    }
}

/// What the interpreter said, on one line.
fn shortened(error: &wasmi::Error) -> String {
    error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
