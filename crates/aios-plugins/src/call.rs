//! One call of a plugin's tool.

use std::{os::fd::OwnedFd, time::Instant};

use serde_json::Value;
use wasmi::{Store, TrapCode, TypedResumableCall};

use crate::{
    manifest::{Limits, Risk, ToolEntry},
    module::{Module, ModuleError},
    name::Name,
    package::Package,
    schema::{Checker, SchemaError},
    wasi::{Bounds, Folder, State, Stop},
};

/// Fuel after which the clock is looked at: some hundredths of a second.
const SLICE: u64 = 5_000_000;

/// A folder that is handed over.
#[derive(Debug)]
pub struct Mount {
    /// The module sees it as `/<name>`.
    pub name: Name,
    /// The folder, opened.
    pub folder: OwnedFd,
    /// Whether anything below can be changed. A tool of low risk changes nothing even so.
    pub writable: bool,
}

/// A call as it is made.
#[derive(Debug)]
pub struct Call<'a> {
    /// The plugin.
    pub package: &'a Package,
    /// Which of its tools.
    pub tool: &'a Name,
    /// Arguments, checked against the tool's schema.
    pub arguments: &'a Value,
    /// Folders that it sees.
    pub mounts: Vec<Mount>,
}

/// Why a call has no result. What the module did to its folders before stays.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin has no such tool.
    #[error("the plugin has no tool {0}")]
    UnknownTool(Name),
    /// The arguments are not what the tool's schema says.
    #[error("the arguments are not those of the tool: {0}")]
    Arguments(String),
    /// The module can't run.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// A schema can't be used.
    #[error("a schema of the tool {0}")]
    Schema(#[from] SchemaError),
    /// It worked longer than it may.
    #[error("the plugin used up its {0} units of fuel (limits.fuel), and was ended")]
    Fuel(u64),
    /// It took more memory than it may.
    #[error("the plugin needed more than {0} bytes of memory (limits.memory), and was ended")]
    Memory(u64),
    /// Its time was up.
    #[error("the plugin took longer than {0:?} (limits.timeout), and was ended")]
    Time(std::time::Duration),
    /// It wrote too large a result.
    #[error("the plugin's result is longer than {0} bytes (limits.output), and the plugin was ended")]
    Output(u64),
    /// It wrote too much to files.
    #[error("the plugin wrote more than {0} bytes to files (limits.write), and was ended")]
    Write(u64),
    /// Its functions called each other too deeply.
    #[error("the plugin's calls were nested too deeply, and it was ended")]
    Depth,
    /// It did something impossible.
    #[error("the plugin broke down: {what}{}", complaint(stderr))]
    Trap {
        /// What.
        what: String,
        /// End of its standard error.
        stderr: String,
    },
    /// It says that it failed.
    #[error("the plugin ended with status {code}{}", complaint(stderr))]
    Exit {
        /// Status, not 0.
        code: u32,
        /// End of its standard error.
        stderr: String,
    },
    /// What it wrote is no result of the tool.
    #[error("the plugin's result is not what its tool promises: {reason}{}", complaint(stderr))]
    Result {
        /// Why.
        reason: String,
        /// End of its standard error.
        stderr: String,
    },
}

/// What a plugin said on standard error, as the end of a sentence.
fn complaint(stderr: &str) -> String {
    let text: String = stderr.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_empty() { text } else { format!("; it said: {text}") }
}

/// How a module ended.
enum End {
    /// It returned, or ended itself with this status.
    Exit(u32),
    /// It was ended.
    Stopped(Stop),
    /// By a trap.
    Error(wasmi::Error),
    /// All fuel is used.
    Fuel,
}

/// Calls a tool. The module gets its name as first argument after its own, and the arguments as JSON on standard input;
/// what it writes to standard output is the result.
pub fn call(call: Call<'_>) -> Result<Value, CallError> {
    let Call { package, tool, arguments, mounts } = call;
    let limits = &package.manifest().limits;
    let deadline = Instant::now() + limits.timeout.0;
    let tool = package.manifest().tool(tool).ok_or_else(|| CallError::UnknownTool(tool.clone()))?;
    if let Some(violation) = Checker::new(&tool.input)?.violation(arguments) {
        return Err(CallError::Arguments(violation));
    }
    let module = Module::new(package.module())?;
    let input = serde_json::to_vec(arguments).expect("invariant: keys are texts, so it is JSON");
    let folders = mounts.into_iter().map(|mount| Folder {
        path: format!("/{}", mount.name),
        folder: mount.folder,
        writable: mount.writable && tool.risk > Risk::Low,
    });
    let bounds = Bounds { output: limits.output.0, write: limits.write.0, deadline };
    let arguments = [package.manifest().name.as_str(), tool.name.as_str()];
    let state = State::new(&arguments, input, folders.collect(), &bounds);
    let (mut store, instance) = module.start(state, limits.memory.0)?;
    let end = run(&mut store, &instance, limits.fuel);
    let (output, stderr) = store.into_data().into_output();
    finish(end, output, stderr, limits, tool)
}

/// Runs the module in slices, between which the clock is looked at.
fn run(store: &mut Store<State>, instance: &wasmi::Instance, fuel: u64) -> End {
    let mut left = fuel;
    let mut grant = |store: &mut Store<State>, needed: u64| -> Result<(), End> {
        let debt = store.data_mut().take_debt();
        left = left.saturating_sub(debt);
        let at_hand = store.get_fuel().map_err(End::Error)?;
        let more = SLICE.max(needed.saturating_sub(at_hand)).min(left);
        left -= more;
        if at_hand + more == 0 || at_hand + more < needed {
            return Err(End::Fuel);
        }
        store.set_fuel(at_hand + more).map_err(End::Error)
    };
    let started = store.set_fuel(0).map_err(End::Error).and_then(|()| grant(store, 0));
    if let Err(end) = started {
        return end;
    }
    let start = match instance.get_typed_func::<(), ()>(&*store, "_start") {
        Ok(start) => start,
        Err(error) => return End::Error(error),
    };
    let mut state = start.call_resumable(&mut *store, ());
    loop {
        state = match state {
            Ok(TypedResumableCall::Finished(())) => return End::Exit(0),
            Ok(TypedResumableCall::HostTrap(trap)) => return ended(trap.host_error()),
            Ok(TypedResumableCall::OutOfFuel(paused)) => {
                if Instant::now() >= store.data().deadline() {
                    return End::Stopped(Stop::Time);
                }
                if let Err(end) = grant(store, paused.required_fuel()) {
                    return end;
                }
                paused.resume(&mut *store)
            }
            Err(error) if error.downcast_ref::<Stop>().is_some() => return ended(&error),
            Err(error) => return End::Error(error),
        };
    }
}

/// The end that a function of the host has made.
fn ended(error: &wasmi::Error) -> End {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Exit(code)) => End::Exit(*code),
        Some(stop) => End::Stopped(*stop),
        None => End::Error(wasmi::Error::new(error.to_string())),
    }
}

fn finish(end: End, output: Vec<u8>, stderr: String, limits: &Limits, tool: &ToolEntry) -> Result<Value, CallError> {
    match end {
        End::Exit(0) => result(output, stderr, tool),
        End::Exit(code) | End::Stopped(Stop::Exit(code)) => Err(CallError::Exit { code, stderr }),
        End::Fuel => Err(CallError::Fuel(limits.fuel)),
        End::Stopped(Stop::Output) => Err(CallError::Output(limits.output.0)),
        End::Stopped(Stop::Write) => Err(CallError::Write(limits.write.0)),
        End::Stopped(Stop::Time) => Err(CallError::Time(limits.timeout.0)),
        End::Error(error) => Err(match error.as_trap_code() {
            Some(TrapCode::OutOfFuel) => CallError::Fuel(limits.fuel),
            Some(TrapCode::GrowthOperationLimited | TrapCode::OutOfSystemMemory) => CallError::Memory(limits.memory.0),
            Some(TrapCode::StackOverflow) => CallError::Depth,
            _ => CallError::Trap { what: error.to_string(), stderr },
        }),
    }
}

fn result(output: Vec<u8>, stderr: String, tool: &ToolEntry) -> Result<Value, CallError> {
    let refuse = |reason: String, stderr: String| Err(CallError::Result { reason, stderr });
    let value: Value = match serde_json::from_slice(&output) {
        Ok(value) => value,
        Err(error) => return refuse(format!("its output is no JSON ({error})"), stderr),
    };
    match Checker::new(&tool.output)?.violation(&value) {
        Some(violation) => refuse(violation, stderr),
        None => Ok(value),
    }
}
