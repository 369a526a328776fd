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
    Architecture, StartError,
    firmware::Uefi,
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
    architecture: Architecture,
    choice: Choice,
}

/// A working KVM prints UEFI's first lines within two seconds; a TCG guest would take about four.
const PROBE_PATIENCE: Duration = Duration::from_secs(8);
/// Printed by EDK II when it has gone through paging and interrupts to its boot manager.
const ALIVE: &str = "BdsDxe";

impl Accelerator {
    /// Under TCG the guest has one processor: with two, QEMU 7.2 lets Linux 6.12 panic now and then, where one processor
    /// patches a jump label that the other one runs. It costs a fifth of the time to the first token. Who asks for more
    /// gets processors that take turns in one thread, which knows no such race.
    pub(crate) fn add_to(self, args: &mut Arguments, architecture: Architecture, processors: Option<usize>) {
        let (accelerator, cpu, usual) = match (self, processors) {
            (Accelerator::Kvm, _) => ("kvm", "host", 2),
            (Accelerator::Tcg, None | Some(1)) => ("tcg", architecture.translated_processor(), 1),
            (Accelerator::Tcg, Some(_)) => ("tcg,thread=single", architecture.translated_processor(), 1),
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
pub fn choose(cache: &Path, architecture: Architecture) -> Result<Choice, StartError> {
    match std::env::var("AIOS_ACCEL") {
        Ok(asked) => return from_variable(&asked),
        Err(std::env::VarError::NotPresent) => {}
        Err(error) => return from_variable(&error.to_string()),
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if let Some(choice) = read_cache(cache, &boot_id, architecture) {
        return Ok(choice);
    }
    let choice = probe(architecture)?;
    let cached = Cached { boot_id, architecture, choice: choice.clone() };
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

fn read_cache(cache: &Path, boot_id: &str, architecture: Architecture) -> Option<Choice> {
    let cached: Cached = serde_json::from_str(&fs::read_to_string(cache).ok()?).ok()?;
    let same = cached.boot_id == boot_id && cached.architecture == architecture;
    (!boot_id.is_empty() && same).then_some(cached.choice)
}

fn probe(architecture: Architecture) -> Result<Choice, StartError> {
    let tcg = |reason: String| Ok(Choice { accelerator: Accelerator::Tcg, reason });
    if !architecture.is_host() {
        return tcg(format!("an {architecture} guest on an {} machine is translated", std::env::consts::ARCH));
    }
    match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => {}
        Err(error) => return tcg(format!("/dev/kvm cannot be opened: {error}")),
    }
    let Ok(uefi) = Uefi::find(architecture) else {
        let package = architecture.firmware_package();
        return tcg(format!("no UEFI firmware to try /dev/kvm with (apt-get install {package})"));
    };
    match run_firmware(&uefi, architecture)? {
        Ok(after) => Ok(Choice {
            accelerator: Accelerator::Kvm,
            reason: format!("UEFI firmware ran under /dev/kvm within {:.1} s", after.as_secs_f64()),
        }),
        Err(seen) => tcg(format!("/dev/kvm is there, but no guest runs under it: {seen}")),
    }
}

/// Starts UEFI under KVM: how long it took to its boot manager, or what was seen instead.
fn run_firmware(uefi: &Uefi, architecture: Architecture) -> Result<Result<Duration, String>, StartError> {
    let mut args = Arguments::machine(architecture.machine());
    Accelerator::Kvm.add_to(&mut args, architecture, None);
    args.option("-m", "256M").option("-serial", "stdio").option("-monitor", "none");
    for flash in [&uefi.code, &uefi.vars_template] {
        args.option("-drive", format!("if=pflash,format=raw,readonly=on,file={}", escape(flash)));
    }
    let mut command = Command::new(architecture.qemu());
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
        let cached = Cached { boot_id: "one".into(), architecture: Architecture::X86_64, choice: choice.clone() };
        fs::write(&cache, serde_json::to_string(&cached).unwrap()).unwrap();
        assert_eq!(read_cache(&cache, "one", Architecture::X86_64), Some(choice));
        assert_eq!(read_cache(&cache, "two", Architecture::X86_64), None);
        assert_eq!(read_cache(&cache, "one", Architecture::Aarch64), None, "asked for another architecture");
    }

    #[test]
    fn a_damaged_cache_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(cache_in(dir.path()), "{").unwrap();
        assert_eq!(read_cache(&cache_in(dir.path()), "one", Architecture::X86_64), None);
    }

    #[test]
    fn an_accelerator_is_asked_for_by_name_only() {
        assert_eq!(from_variable("tcg").unwrap().accelerator, Accelerator::Tcg);
        assert!(from_variable("xen").unwrap_err().to_string().contains("write kvm or tcg"));
    }

    #[test]
    fn the_probe_ends_within_its_patience_with_a_reason() {
        let started = Instant::now();
        let here = Architecture::from_name(std::env::consts::ARCH).expect("the tests run on one of the architectures");
        let choice = probe(here).unwrap();
        assert!(started.elapsed() < PROBE_PATIENCE + Duration::from_secs(4), "{:?}", started.elapsed());
        assert!(!choice.reason.is_empty());
    }

    #[test]
    fn a_guest_of_another_architecture_is_translated() {
        for architecture in [Architecture::X86_64, Architecture::Aarch64].into_iter().filter(|a| !a.is_host()) {
            assert_eq!(probe(architecture).unwrap().accelerator, Accelerator::Tcg);
        }
    }
}
