//! Stage 1, `/init` of the initramfs: loads the modules that the root file system needs, finds and mounts it, and becomes
//! the init on it.

mod media;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount_move};
use rustix::system::{RebootCommand, reboot};

use crate::boot::{mounts, terminal};
use crate::cmdline::{Cmdline, Root};
use crate::console::say;
use crate::modules::{Loaded, RunningKernel, insert};
use crate::storage::BlockDevice;

pub use media::MEDIA;

const SYS: &str = "/sys";
const SYSROOT: &str = "/sysroot";
const MODULES: &str = "/modules.load";
const INIT: &str = "/usr/sbin/aios-init";
const SHELL: &str = "/bin/sh";

/// How long a root device may take to appear. A USB disk behind a hub takes ten seconds at worst.
const ROOT_PATIENCE: Duration = Duration::from_secs(30);

/// How often the devices are looked at: a few files in memory.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time to read the reason on the screen before the machine starts again.
const REBOOT_DELAY: Duration = Duration::from_secs(30);

/// Runs stage 1; ends in the init of the root file system, or in a restart.
pub fn run() -> ! {
    let reason = match start() {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    give_up(&reason)
}

enum Never {}

fn start() -> Result<Never, String> {
    mounts::early().map_err(|error| format!("mounts: {error}"))?;
    say("stage 1");
    load_modules();
    let cmdline = Cmdline::read().map_err(|error| error.to_string())?;
    let root = cmdline.root.ok_or("the kernel command line has neither aios.root= nor aios.live=")?;
    fs::create_dir_all(SYSROOT).map_err(|error| format!("{SYSROOT}: {error}"))?;
    mount_root(&root)?;
    enter_root()
}

fn load_modules() {
    let begin = Instant::now();
    let list = fs::read_to_string(MODULES).unwrap_or_default();
    let frees_memory = root_is_in_memory();
    let mut outcome = Loaded::default();
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty()).map(Path::new) {
        insert(&mut RunningKernel, path, &mut outcome);
        if frees_memory {
            // The initramfs is memory: once the module is in the kernel, or unwanted, its file is waste.
            let _ = fs::remove_file(path);
        }
    }
    for reason in &outcome.failed {
        say(format_args!("module not loaded: {reason}"));
    }
    say(format_args!("{} modules loaded in {} ms", outcome.inserted, begin.elapsed().as_millis()));
}

/// Waits for the root device and mounts it at [`SYSROOT`].
fn mount_root(root: &Root) -> Result<(), String> {
    let begin = Instant::now();
    let mut last_failure = None;
    let mut told = false;
    loop {
        let devices = BlockDevice::list(Path::new(SYS));
        match try_root(root, &devices) {
            Ok(Some(device)) => {
                say(format_args!("root: {root} is {device}"));
                return Ok(());
            }
            Ok(None) => {}
            Err(error) => last_failure = Some(error.to_string()),
        }
        if begin.elapsed() > ROOT_PATIENCE {
            let what = last_failure.unwrap_or_else(|| "no such device".into());
            return Err(format!("root: {root}: {what} after {} s; {}", ROOT_PATIENCE.as_secs(), present(&devices)));
        }
        if !told && begin.elapsed() > Duration::from_secs(3) {
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
fn give_up(reason: &str) -> ! {
    say(format_args!("stage stage 1 failed: {reason}"));
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
