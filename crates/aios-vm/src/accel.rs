//! Hardware virtualisation where a guest really runs under it, else QEMU's translator (TCG).
//!
//! `/dev/kvm` may be present and useless: on some nested hosts SeaBIOS runs under it, and UEFI firmware ends in a "KVM
//! internal error". So a guest is started, and what it prints decides; the answer is kept until the next boot.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    StartError,
    firmware::Ovmf,
    machine::{Arguments, escape},
    process,
};

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// An accelerator, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub accelerator: Accelerator,
    pub reason: String,
}

/// A probe's answer, good for one boot of the host.
#[derive(Serialize, Deserialize)]
struct Cached {
    boot_id: String,
    choice: Choice,
}

/// A working KVM prints UEFI's first lines within two seconds; a TCG guest would take about four.
const PROBE_PATIENCE: Duration = Duration::from_secs(8);
/// Printed by OVMF when it has gone through long mode, paging and interrupts to its boot manager.
const ALIVE: &str = "BdsDxe";

impl Accelerator {
    /// Under TCG the guest has one processor: with two, QEMU 7.2 lets Linux 6.12 panic now and then, where one processor
    /// patches a jump label that the other one runs. It costs a fifth of the time to the first token. Who asks for more
    /// gets processors that take turns in one thread, which knows no such race.
    pub(crate) fn add_to(self, args: &mut Arguments, processors: Option<usize>) {
        let (accelerator, cpu, usual) = match (self, processors) {
            (Accelerator::Kvm, _) => ("kvm", "host", 2),
            (Accelerator::Tcg, None | Some(1)) => ("tcg", "max", 1),
            (Accelerator::Tcg, Some(_)) => ("tcg,thread=single", "max", 1),
        };
        args.option("-accel", accelerator).option("-cpu", cpu).option("-smp", processors.unwrap_or(usual).to_string());
    }

    /// How much longer than under hardware virtualisation a boot may take.
    pub fn patience(self) -> u32 {
        match self {
            Accelerator::Kvm => 1,
            Accelerator::Tcg => 5,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

/// `AIOS_ACCEL` if set, else the cached answer in `cache`, else a probe whose answer is put there.
pub fn choose(cache: &Path) -> Result<Choice, StartError> {
    match std::env::var("AIOS_ACCEL") {
        Ok(asked) => return from_variable(&asked),
        Err(std::env::VarError::NotPresent) => {}
        Err(error) => return from_variable(&error.to_string()),
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if let Some(choice) = read_cache(cache, &boot_id) {
        return Ok(choice);
    }
    let choice = probe()?;
    let cached = Cached { boot_id, choice: choice.clone() };
    // A cache that cannot be written only costs the next start a probe.
    if let Ok(text) = serde_json::to_string(&cached) {
        let _ = fs::create_dir_all(cache.parent().unwrap_or(Path::new("."))).and_then(|()| fs::write(cache, text));
    }
    Ok(choice)
}

fn from_variable(asked: &str) -> Result<Choice, StartError> {
    let accelerator = match asked {
        "kvm" => Accelerator::Kvm,
        "tcg" => Accelerator::Tcg,
        other => {
            return Err(StartError::BadVariable {
                variable: "AIOS_ACCEL",
                value: other.into(),
                reason: "write kvm or tcg".into(),
            });
        }
    };
    Ok(Choice { accelerator, reason: format!("AIOS_ACCEL={asked}") })
}

fn read_cache(cache: &Path, boot_id: &str) -> Option<Choice> {
    let cached: Cached = serde_json::from_str(&fs::read_to_string(cache).ok()?).ok()?;
    (!boot_id.is_empty() && cached.boot_id == boot_id).then_some(cached.choice)
}

fn probe() -> Result<Choice, StartError> {
    let tcg = |reason: String| Ok(Choice { accelerator: Accelerator::Tcg, reason });
    match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => {}
        Err(error) => return tcg(format!("/dev/kvm cannot be opened: {error}")),
    }
    let Ok(ovmf) = Ovmf::find() else {
        return tcg("no UEFI firmware to try /dev/kvm with (apt-get install ovmf)".into());
    };
    match run_firmware(&ovmf)? {
        Ok(after) => Ok(Choice {
            accelerator: Accelerator::Kvm,
            reason: format!("UEFI firmware ran under /dev/kvm within {:.1} s", after.as_secs_f64()),
        }),
        Err(seen) => tcg(format!("/dev/kvm is there, but no guest runs under it: {seen}")),
    }
}

/// Starts OVMF under KVM: how long it took to its boot manager, or what was seen instead.
fn run_firmware(ovmf: &Ovmf) -> Result<Result<Duration, String>, StartError> {
    let mut args = Arguments::default();
    args.option("-machine", "q35,graphics=off").flag("-nodefaults").option("-display", "none").option("-vga", "none");
    Accelerator::Kvm.add_to(&mut args, None);
    args.option("-m", "256M").option("-serial", "stdio").option("-monitor", "none");
    for flash in [&ovmf.code, &ovmf.vars_template] {
        args.option("-drive", format!("if=pflash,format=raw,readonly=on,file={}", escape(flash)));
    }
    let mut command = Command::new(process::QEMU);
    command.args(args.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut qemu = process::Guarded::spawn(&mut command)?;
    let (sender, chunks) = mpsc::channel();
    if let Some(stdout) = qemu.take_stdout() {
        forward(stdout, sender.clone());
    }
    if let Some(stderr) = qemu.take_stderr() {
        forward(stderr, sender);
    }
    let mut seen = Vec::new();
    while let Some(left) = PROBE_PATIENCE.checked_sub(started.elapsed()) {
        match chunks.recv_timeout(left) {
            Ok(chunk) => seen.extend_from_slice(&chunk),
            Err(mpsc::RecvTimeoutError::Timeout) => break,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        let text = String::from_utf8_lossy(&seen);
        if text.contains(ALIVE) {
            return Ok(Ok(started.elapsed()));
        }
        if let Some(line) = text.lines().find(|line| line.contains("KVM internal error")) {
            return Ok(Err(line.trim().to_owned()));
        }
    }
    let text = String::from_utf8_lossy(&seen);
    let last =
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed nothing").trim().to_owned();
    Ok(Err(format!("{last} (after {} s)", started.elapsed().as_secs())))
}

fn forward(mut from: impl std::io::Read + Send + 'static, to: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
}

/// Where a run directory keeps the probe's answer.
pub fn cache_in(run_dir: &Path) -> PathBuf {
    run_dir.join("accel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_from_an_earlier_boot_of_the_host_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache_in(dir.path());
        let choice = Choice { accelerator: Accelerator::Kvm, reason: "seen".into() };
        let cached = Cached { boot_id: "one".into(), choice: choice.clone() };
        fs::write(&cache, serde_json::to_string(&cached).unwrap()).unwrap();
        assert_eq!(read_cache(&cache, "one"), Some(choice));
        assert_eq!(read_cache(&cache, "two"), None);
    }

    #[test]
    fn a_damaged_cache_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(cache_in(dir.path()), "{").unwrap();
        assert_eq!(read_cache(&cache_in(dir.path()), "one"), None);
    }

    #[test]
    fn an_accelerator_is_asked_for_by_name_only() {
        assert_eq!(from_variable("tcg").unwrap().accelerator, Accelerator::Tcg);
        assert!(from_variable("xen").unwrap_err().to_string().contains("write kvm or tcg"));
    }

    #[test]
    fn the_probe_ends_within_its_patience_with_a_reason() {
        let started = Instant::now();
        let choice = probe().unwrap();
        assert!(started.elapsed() < PROBE_PATIENCE + Duration::from_secs(4), "{:?}", started.elapsed());
        assert!(!choice.reason.is_empty());
    }
}
