//! The tools of e2fsprogs.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Label of the data file system.
pub const LABEL: &str = "aios-data";

/// A tool that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("{tool} can't be started: {source}")]
    Start {
        /// Path of the tool.
        tool: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{tool} {status}: {message}")]
    Failed {
        /// Path of the tool.
        tool: &'static str,
        /// Exit status or signal.
        status: std::process::ExitStatus,
        /// The last line it wrote.
        message: String,
    },
}

/// What `e2fsck -p` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing wrong, or wrong no longer.
    Usable,
    /// Errors that need a person to decide.
    Damaged,
}

/// Makes the data file system, with the features that per-service quotas need.
pub fn make(device: &Path) -> Result<(), ToolError> {
    let options = ["-q", "-F", "-t", "ext4", "-L", LABEL, "-I", "256", "-m", "1", "-O", "quota,project"];
    run("/usr/sbin/mke2fs", &options, device, &[0]).map(drop)
}

/// Replays the journal and repairs what can be repaired without asking.
pub fn check(device: &Path) -> Result<Check, ToolError> {
    // 1: repaired; 2: repaired, and a mounted file system would need a reboot (it is not mounted); 4: left as it is.
    match run("/usr/sbin/e2fsck", &["-p"], device, &[0, 1, 2, 3, 4])? {
        4 => Ok(Check::Damaged),
        _ => Ok(Check::Usable),
    }
}

/// Grows the mounted file system to the size of its partition.
pub fn grow(device: &Path) -> Result<(), ToolError> {
    run("/usr/sbin/resize2fs", &[], device, &[0]).map(drop)
}

fn run(tool: &'static str, options: &[&str], device: &Path, fine: &[i32]) -> Result<i32, ToolError> {
    let output = Command::new(tool)
        .args(options)
        .arg(device)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ToolError::Start { tool, source })?;
    match output.status.code() {
        Some(code) if fine.contains(&code) => Ok(code),
        _ => {
            let text = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
            let message = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned();
            Err(ToolError::Failed { tool, status: output.status, message })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_file_system_is_made_checked_and_judged() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("data.img");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        make(&image).unwrap();
        assert_eq!(check(&image).unwrap(), Check::Usable);
        // The inode table's first blocks hold the root directory's inode: that is not for a machine to repair.
        let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
        for block in 1..512u64 {
            file.write_all_at(&[0x5a; 4096], block * 4096).unwrap();
        }
        let verdict = check(&image);
        assert!(matches!(verdict, Ok(Check::Damaged) | Err(ToolError::Failed { .. })), "{verdict:?}");
    }

    #[test]
    fn a_tool_that_fails_gives_its_last_line() {
        let message = make(Path::new("/nonexistent/disk")).unwrap_err().to_string();
        assert!(message.starts_with("/usr/sbin/mke2fs exit status: 1: "), "{message}");
        assert!(message.contains("/nonexistent/disk"), "{message}");
    }
}
