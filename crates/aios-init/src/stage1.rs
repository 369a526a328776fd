//! Stage 1, `/init` of the initramfs: loads the modules that the root file system needs, finds and mounts it, and becomes
//! the init on it.

mod drivers;
mod media;

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aios_storage::BlockDevice;
use rustix::mount::{MountFlags, mount_move};
use rustix::system::{RebootCommand, reboot};

use crate::boot::{mounts, terminal};
use crate::cmdline::{Cmdline, Root};
use crate::console::say;
use crate::modules::RunningKernel;

use drivers::Drivers;
pub use media::MEDIA;

const SYS: &str = "/sys";
const SYSROOT: &str = "/sysroot";
const MODULES: &str = "/modules.load";
const INIT: &str = "/usr/sbin/aios-init";
const SHELL: &str = "/bin/sh";

/// How long a root device may take to appear. A USB disk behind a hub takes ten seconds at worst.
const ROOT_PATIENCE: Duration = Duration::from_secs(30);

/// After this without a root the modules that no device asked for are loaded as well.
const DRIVER_PATIENCE: Duration = Duration::from_secs(2);

/// After this the console says what is waited for.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// How often the devices are looked at: a few files in memory.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time to read the reason on the screen before the machine starts again.
const REBOOT_DELAY: Duration = Duration::from_secs(30);

/// Runs stage 1; ends in the init of the root file system, or in a restart.
pub fn run() -> ! {
    let failure = match start() {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    give_up(&failure)
}

enum Never {}

/// Why stage 1 did not reach the root file system.
struct Failure {
    stage: &'static str,
    reason: String,
}

/// Makes a [`Failure`] of an error.
fn at<E: Display>(stage: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure { stage, reason: error.to_string() }
}

fn start() -> Result<Never, Failure> {
    mounts::early().map_err(at("mounts"))?;
    say("stage 1");
    let cmdline = Cmdline::read().map_err(at("command line"))?;
    let root = cmdline.root.ok_or("there is neither aios.root= nor aios.live=").map_err(at("command line"))?;
    fs::create_dir_all(SYSROOT).map_err(at("root"))?;
    let mut drivers = Drivers::read(Path::new(MODULES));
    let found = find_root(&root, &mut drivers);
    for reason in &drivers.outcome.failed {
        say(format_args!("module not loaded: {reason}"));
    }
    let device = found.map_err(at("root"))?;
    say(format_args!("root: {root} is {device}; {} modules loaded", drivers.outcome.inserted));
    if root_is_in_memory() {
        drivers.remove_files();
    }
    enter_root().map_err(at("root"))
}

/// Loads drivers and waits until the root file system is mounted at [`SYSROOT`]; returns where it was.
fn find_root(root: &Root, drivers: &mut Drivers) -> Result<String, String> {
    let begin = Instant::now();
    let mut told = false;
    drivers.load("erofs", &mut RunningKernel);
    if let Root::Live(_) = root {
        drivers.load("isofs", &mut RunningKernel);
    }
    loop {
        let more = drivers.load_for_next_device(Path::new(SYS), &mut RunningKernel);
        let devices = BlockDevice::list(Path::new(SYS));
        let tried = try_root(root, &devices);
        if let Ok(Some(device)) = tried {
            return Ok(device);
        }
        if more {
            continue;
        }
        // A device that does not say what drives it, or a file system that needs one more module.
        if (tried.is_err() || begin.elapsed() > DRIVER_PATIENCE) && drivers.load_rest(&mut RunningKernel) {
            continue;
        }
        if begin.elapsed() > ROOT_PATIENCE {
            let what = tried.err().map_or_else(|| "no such device".into(), |error| error.to_string());
            return Err(format!("{root}: {what} after {} s; {}", ROOT_PATIENCE.as_secs(), present(&devices)));
        }
        if !told && begin.elapsed() > TELL_AFTER {
            say(format_args!("root: waiting for {root}"));
            told = true;
        }
        sleep(LOOK_AGAIN);
    }
}

/// Mounts the root if its device is there: which one it was, or `None`.
fn try_root(root: &Root, devices: &[BlockDevice]) -> io::Result<Option<String>> {
    if let Root::Live(image) = root {
        return media::mount_live(devices, image, Path::new(SYSROOT));
    }
    let Some(device) = crate::boot::find_root(devices, root) else { return Ok(None) };
    mounts::mount_fs(device.path(), Path::new(SYSROOT), "erofs", MountFlags::RDONLY, "")?;
    Ok(Some(device.to_string()))
}

fn present(devices: &[BlockDevice]) -> String {
    let list: Vec<String> = devices.iter().map(|device| format!("[{device}]")).collect();
    match list.is_empty() {
        true => "there are no block devices: a driver is missing in the initramfs".into(),
        false => format!("there are {}", list.join(" ")),
    }
}

/// Moves the kernel's file systems along, makes [`SYSROOT`] the root, and becomes its init.
fn enter_root() -> Result<Never, String> {
    let failed = |what: &str, error: rustix::io::Errno| format!("{what}: {error}");
    for dir in ["/dev", "/proc", "/sys", "/run"] {
        mount_move(dir, format!("{SYSROOT}{dir}")).map_err(|error| failed(dir, error))?;
    }
    if root_is_in_memory() {
        // Frees the memory of this program's file once the exec below lets go of it.
        let _ = fs::remove_file("/init");
    }
    std::env::set_current_dir(SYSROOT).map_err(|error| format!("{SYSROOT}: {error}"))?;
    mount_move(".", "/").map_err(|error| failed("moving the root", error))?;
    rustix::process::chroot(".").map_err(|error| failed("entering the root", error))?;
    std::env::set_current_dir("/").map_err(|error| format!("/: {error}"))?;
    let error = Command::new(INIT).env_clear().env("PATH", "/usr/sbin:/usr/bin").env("TERM", "linux").exec();
    Err(format!("{INIT} on the root file system: {error}"))
}

/// Says why, offers a shell where the command line allows it, and starts the machine again.
fn give_up(failure: &Failure) -> ! {
    say(format_args!("stage {} failed: {}", failure.stage, failure.reason));
    if Cmdline::read().is_ok_and(|cmdline| cmdline.shell) {
        match run_shell() {
            Ok(()) => {}
            Err(error) => say(format_args!("no emergency shell: {SHELL}: {error}")),
        }
    }
    say(format_args!("reboot in {} s", REBOOT_DELAY.as_secs()));
    sleep(REBOOT_DELAY);
    say("reboot now");
    rustix::fs::sync();
    loop {
        let _ = reboot(RebootCommand::Restart);
        sleep(Duration::from_secs(5));
    }
}

/// A shell with a session and a terminal of its own, until the operator leaves it.
fn run_shell() -> io::Result<()> {
    if !Path::new(SHELL).exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this initramfs has none"));
    }
    let path = terminal(Path::new(SYS));
    let open = || fs::OpenOptions::new().read(true).write(true).open(&path);
    let tty = open()?;
    let mut shell = Command::new(SHELL);
    shell.stdin(open()?).stdout(open()?).stderr(open()?).env("PS1", "aios stage 1 # ");
    // SAFETY: setsid(2) and ioctl(2) are async-signal-safe, and nothing here allocates.
    unsafe {
        shell.pre_exec(move || {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(&tty)?)
        });
    }
    say(format_args!("emergency shell on {}; leave it to restart the machine", path.display()));
    shell.status().map(drop)
}

/// Whether `/` is the initramfs, whose files are memory.
fn root_is_in_memory() -> bool {
    const RAMFS: i64 = 0x8584_58f6;
    const TMPFS: i64 = 0x0102_1994;
    #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
    let kind = rustix::fs::statfs("/").map(|root| root.f_type as i64 & 0xffff_ffff);
    matches!(kind, Ok(RAMFS | TMPFS))
}
