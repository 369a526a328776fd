//! The boot stages of PID 1, in order. A stage that fails is said on the console and recorded; boot goes on without what
//! it would have provided.

mod configuration;
mod data;
mod entropy;
mod import;
mod loopback;
mod media;
pub mod mounts;

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use aios_core::config::Config;

use crate::cmdline::Cmdline;
use crate::console::say;
use crate::layout::ROOT_VARIABLE;
use crate::modules::{Hotplug, ModuleTree, Round, RunningKernel, coldplug};
use crate::watchdog::Watchdog;
use crate::{Mode, modules};

pub use data::Storage;
pub use entropy::save as save_entropy;
pub use media::find as find_root;

/// sysfs of the running kernel.
const SYS: &str = "/sys";

/// What the run loop must know of the boot.
#[derive(Debug)]
pub struct BootReport {
    /// Stages that failed or went without, as they were said on the console: `<stage>: <reason>`.
    pub failures: Vec<String>,
    /// The configuration in force.
    pub config: Config,
    /// Where `/var/lib/aios` is kept.
    pub storage: Storage,
    /// The opened hardware watchdog, when there is one and it is configured.
    pub watchdog: Option<Watchdog>,
    /// The kernel's events of new devices, on a machine that is ours.
    pub hotplug: Option<Hotplug>,
    /// The terminal for the emergency shell, when the configuration or the kernel command line allows one.
    pub emergency_shell: Option<PathBuf>,
}

/// Performs the boot stages.
pub fn bring_up(mode: Mode) -> BootReport {
    say(format_args!("PID 1 (aios {})", env!("CARGO_PKG_VERSION")));
    let mut stages = Stages::default();
    let hosted = mode == Mode::Container && std::env::var_os(ROOT_VARIABLE).is_some();
    let (storage, hotplug, cmdline) = match (mode, hosted) {
        (Mode::Machine, _) => machine(&mut stages),
        (Mode::Container, false) => (container(&mut stages), None, Cmdline::default()),
        (Mode::Container, true) => (Storage::Container, None, Cmdline::default()),
    };
    if !hosted {
        stages.run("data", data::make_folders);
    }
    let config = configuration::load(&mut stages, mode, storage);
    let mut report =
        BootReport { failures: Vec::new(), emergency_shell: None, watchdog: None, config, storage, hotplug };
    if !hosted {
        stages.run("hostname", || rustix::system::sethostname(report.config.system.hostname.as_bytes()));
    }
    if mode == Mode::Machine {
        report.watchdog = stages.run("watchdog", || Watchdog::open(report.config.init.watchdog.0)).flatten();
        if let Some(watchdog) = &report.watchdog {
            let seconds = watchdog.timeout().as_secs();
            say(format_args!("watchdog armed: the machine is reset when PID 1 hangs for {seconds} s"));
        }
        if cmdline.shell || report.config.console.emergency_shell {
            report.emergency_shell = Some(terminal(Path::new(SYS)));
        }
    }
    report.failures = stages.failures;
    report
}

/// The stages so far.
#[derive(Debug, Default)]
pub struct Stages {
    failures: Vec<String>,
}

impl Stages {
    /// Performs a stage; a failure is said and recorded.
    pub fn run<T, E: Display>(&mut self, name: &str, stage: impl FnOnce() -> Result<T, E>) -> Option<T> {
        match stage() {
            Ok(value) => Some(value),
            Err(reason) => {
                self.failed(name, reason);
                None
            }
        }
    }

    /// Says and records that a stage had nothing to do its work with, though nothing failed.
    pub fn without(&mut self, name: &str, reason: impl Display) {
        say(format_args!("{reason}"));
        self.failures.push(format!("{name}: {reason}"));
    }

    /// Says and records that a stage failed.
    pub fn failed(&mut self, name: &str, reason: impl Display) {
        say(format_args!("stage {name} failed: {reason}"));
        self.failures.push(format!("{name}: {reason}"));
    }
}

fn machine(stages: &mut Stages) -> (Storage, Option<Hotplug>, Cmdline) {
    mounts::kernel_file_systems(stages);
    // Ctrl-Alt-Del reaches PID 1 as SIGINT and does not reset the machine under the running services.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
    let cmdline = stages.run("command line", Cmdline::read).unwrap_or_default();
    let mut hotplug = stages.run("hotplug", Hotplug::open);
    // A kernel without module support has no such file, and everything built in.
    let mut tree = match Path::new("/proc/modules").exists() {
        true => stages.run("modules", ModuleTree::of_running_kernel),
        false => None,
    };
    if let Some(tree) = &mut tree {
        load_file_systems(stages, tree);
    }
    mounts::writable_places(stages);
    stages.run("loopback", loopback::up);
    // Drivers take their time to probe; the disk is there already, so its stages go on meanwhile.
    let (drivers, storage) = std::thread::scope(|scope| {
        let drivers = tree.map(|tree| scope.spawn(|| load_drivers(tree)));
        stages.run("models", || media::mount_models(&cmdline));
        let storage = data::bring_up(stages, &cmdline);
        (drivers.map(|thread| thread.join()), storage)
    });
    match drivers {
        Some(Ok((tree, Ok(loaded)))) => {
            loaded.failed.iter().for_each(|reason| stages.failed("modules", reason));
            if let Some(hotplug) = &mut hotplug {
                hotplug.continue_from(tree);
            }
            let later = std::thread::Builder::new().name("drivers".into()).spawn(load_later_drivers);
            stages.run("modules", || later.map(drop));
        }
        Some(Ok((_, Err(error)))) => stages.failed("modules", error),
        Some(Err(_)) => stages.failed("modules", "loading ended by a defect of init itself"),
        None => {}
    }
    if storage == Storage::Partition {
        stages.run("entropy", entropy::load);
    }
    (storage, hotplug, cmdline)
}

/// File systems and quotas: no device asks for them by an alias.
fn load_file_systems(stages: &mut Stages, tree: &mut ModuleTree) {
    let mut outcome = modules::Loaded::default();
    ["overlay", "ext4", "quota_v2"].iter().for_each(|name| tree.load(name, &mut RunningKernel, &mut outcome));
    outcome.failed.iter().for_each(|reason| stages.failed("modules", reason));
}

fn load_drivers(mut tree: ModuleTree) -> (ModuleTree, Result<modules::Loaded, modules::TreeError>) {
    let loaded = coldplug(&mut tree, Round::First, &mut RunningKernel, Path::new(SYS));
    (tree, loaded)
}

/// The drivers that no service waits for, behind everything that starts meanwhile.
fn load_later_drivers() {
    // Signals are the run loop's: one that was delivered here would be lost.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    let _ = rustix::process::setpriority_process(None, 19);
    let loaded = ModuleTree::of_running_kernel()
        .and_then(|mut tree| coldplug(&mut tree, Round::Later, &mut RunningKernel, Path::new(SYS)));
    match loaded {
        Ok(loaded) => loaded.failed.iter().for_each(|reason| say(format_args!("module not loaded: {reason}"))),
        Err(error) => say(format_args!("modules not loaded: {error}")),
    }
}

fn container(stages: &mut Stages) -> Storage {
    mounts::container(stages);
    data::bring_up_in_container(stages)
}

/// The terminal behind `/dev/console`, which can't be a controlling terminal itself: the last one that sysfs names.
pub fn terminal(sys: &Path) -> PathBuf {
    let active = std::fs::read_to_string(sys.join("class/tty/console/active")).unwrap_or_default();
    // `tty0` stands for whichever virtual terminal is shown.
    let name = active.split_ascii_whitespace().next_back().map(|name| if name == "tty0" { "tty1" } else { name });
    match name.map(|name| Path::new("/dev").join(name)).filter(|path| path.exists()) {
        Some(path) => path,
        None => "/dev/console".into(),
    }
}

/// Says what was being done in an error of the operating system.
fn doing(what: impl Display) -> impl FnOnce(rustix::io::Errno) -> io::Error {
    move |errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_stage_is_recorded_with_its_reason_and_the_next_one_runs() {
        let mut stages = Stages::default();
        assert_eq!(stages.run("data", || Err::<(), _>("no room")), None);
        assert_eq!(stages.run("watchdog", || Ok::<_, String>(7)), Some(7));
        stages.without("models", "no disk has them");
        assert_eq!(stages.failures, ["data: no room", "models: no disk has them"]);
    }

    #[test]
    fn the_console_terminal_is_the_last_active_one() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(terminal(sys.path()), Path::new("/dev/console"));
        std::fs::create_dir_all(sys.path().join("class/tty/console")).unwrap();
        std::fs::write(sys.path().join("class/tty/console/active"), "tty0 null\n").unwrap();
        assert_eq!(terminal(sys.path()), Path::new("/dev/null"));
    }
}
