//! Changes that are taken back unless somebody confirms them in time.
//!
//! The file is written before the change, so that the change is taken back whatever dies: the daemon of the tools looks at it
//! when it starts and while it runs, and calls `firewall.revert` where [`Pending::is_due`].

use std::{fs, io::Write as _, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::nft::{self, Table};
use crate::{
    error::{Code, ToolError},
    host::Host,
};

/// Folder of the file. The daemon makes it.
pub const FOLDER: &str = "/var/lib/aios/tools/firewall";

const FILE: &str = "/var/lib/aios/tools/firewall/pending.json";
const NEW_FILE: &str = "/var/lib/aios/tools/firewall/pending.json.new";

/// A change that waits for confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// When it is taken back, in milliseconds of CLOCK_BOOTTIME: the time of day may jump.
    deadline_ms: u64,
    /// Boot in which that counts: the table does not outlive it.
    boot_id: String,
    /// What was there before.
    previous: Table,
}

/// Where time stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since boot, sleep included.
    pub since_boot: Duration,
    /// Which boot.
    pub boot_id: String,
}

impl Now {
    /// The time of this device.
    pub fn of(host: &Host) -> Result<Now, ToolError> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        let boot_id = host.text("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Now { since_boot, boot_id })
    }
}

impl Pending {
    /// The change that waits, where one does.
    pub fn read(host: &Host) -> Result<Option<Pending>, ToolError> {
        match host.text(FILE) {
            Err(error) if error.code == Code::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                let text = format!("{FILE} is damaged ({error}); remove it, and look at the rules with firewall.show");
                ToolError::new(Code::Failed, text)
            }),
        }
    }

    /// Whether its time is over. One of another boot is, too: its rules are gone, and taking it back removes the file.
    pub fn is_due(&self, now: &Now) -> bool {
        self.left(now).is_none()
    }

    /// How long it can still be confirmed.
    pub fn left(&self, now: &Now) -> Option<Duration> {
        let left = Duration::from_millis(self.deadline_ms).checked_sub(now.since_boot)?;
        (self.boot_id == now.boot_id && !left.is_zero()).then_some(left)
    }

    /// Brings back what was there before the change. Doing it twice is right.
    pub fn revert(&self, host: &Host, now: &Now) -> Result<(), ToolError> {
        if self.boot_id == now.boot_id {
            nft::replace(host, &self.previous)?;
        }
        forget(host)
    }
}

/// Makes a change that is taken back after `seconds` unless it is confirmed; 0: at once for good.
///
/// While a change waits, no other one is begun: what would be confirmed, and what taken back, would not be clear.
pub fn guard<T>(host: &Host, seconds: u64, change: impl FnOnce() -> Result<T, ToolError>) -> Result<T, ToolError> {
    if Pending::read(host)?.is_some() {
        let text = "an earlier change waits to be confirmed: call firewall.confirm or firewall.revert first";
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    if seconds == 0 {
        return change();
    }
    let now = Now::of(host)?;
    let deadline = now.since_boot + Duration::from_secs(seconds);
    let previous = nft::read(host)?.table()?;
    write(host, &Pending { deadline_ms: deadline.as_millis() as u64, boot_id: now.boot_id, previous })?;
    change().inspect_err(|_| {
        // What could not be changed needs no taking back; where the file stays, taking it back changes nothing.
        let _ = forget(host);
    })
}

/// Nothing waits any more.
pub fn forget(host: &Host) -> Result<(), ToolError> {
    let sync_folder = || fs::File::open(host.path(FOLDER))?.sync_all();
    match fs::remove_file(host.path(FILE)).and_then(|()| sync_folder()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ToolError::io(Path::new(FILE), &error)),
        _ => Ok(()),
    }
}

fn write(host: &Host, pending: &Pending) -> Result<(), ToolError> {
    let bytes = serde_json::to_vec(pending).map_err(|error| ToolError::new(Code::Failed, error.to_string()))?;
    let write = || {
        let mut file = fs::File::create(host.path(NEW_FILE))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(host.path(NEW_FILE), host.path(FILE))?;
        fs::File::open(host.path(FOLDER))?.sync_all()
    };
    write().map_err(|error| ToolError::io(Path::new(FILE), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_due_after_its_time_and_after_another_boot() {
        let pending = Pending { deadline_ms: 60_000, boot_id: "a".to_owned(), previous: Table::default() };
        let now = |seconds, boot: &str| Now { since_boot: Duration::from_secs(seconds), boot_id: boot.to_owned() };
        assert!(!pending.is_due(&now(59, "a")));
        assert_eq!(pending.left(&now(50, "a")), Some(Duration::from_secs(10)));
        assert!(pending.is_due(&now(60, "a")) && pending.is_due(&now(61, "a")) && pending.is_due(&now(1, "b")));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_nothing() {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        assert_eq!(Pending::read(&host), Ok(None));
        fs::create_dir_all(host.path(FOLDER)).expect("folder");
        fs::write(host.path(FILE), "{\"deadline_ms\": 1").expect("write");
        assert_eq!(Pending::read(&host).map_err(|error| error.code), Err(Code::Failed));
    }
}
