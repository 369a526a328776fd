//! What a check needs another process for: one that may be killed, or that has fewer rights.
//!
//! The program that calls [`crate::Check::run`] is executed again with the arguments of [`Probe::command`], and must
//! then call [`Probe::run`].

use std::{
    fs::{self, File},
    io::{self, BufRead, Write},
    path::PathBuf,
    process::Command,
    str::FromStr,
};

/// First argument of a program that is to be a probe.
pub const ARGUMENT: &str = "selftest-probe";

const CHUNK: usize = 1 << 20;

/// What the other process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// For each line that comes in: as many MiB of memory as it says are taken and written to, then answers `taken`.
    Allocate,
    /// Writes so many MiB into a file, and says how many MiB it could write.
    Fill(PathBuf, usize),
}

impl Probe {
    /// The command that makes this program the probe.
    pub fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT);
        match self {
            Probe::Allocate => command.arg("allocate"),
            Probe::Fill(path, mebibytes) => command.arg("fill").arg(path).arg(mebibytes.to_string()),
        };
        Ok(command)
    }

    /// Reads what [`Probe::command`] gave, without the first argument.
    pub fn from_arguments(arguments: &[String]) -> Option<Self> {
        match arguments {
            [name] if name == "allocate" => Some(Probe::Allocate),
            [name, path, mebibytes] if name == "fill" => Some(Probe::Fill(path.into(), mebibytes.parse().ok()?)),
            _ => None,
        }
    }

    /// Does it; ends with the standard input, or when it is done.
    pub fn run(&self) -> io::Result<()> {
        match self {
            Probe::Allocate => allocate(),
            Probe::Fill(path, mebibytes) => println_flushed(&format!("{}", fill(path, *mebibytes)?)),
        }
    }
}

fn allocate() -> io::Result<()> {
    let mut taken = Vec::new();
    for line in io::stdin().lock().lines() {
        let mebibytes = usize::from_str(line?.trim()).map_err(io::Error::other)?;
        for _ in 0..mebibytes {
            // Not zero, or the kernel would share one page for all of it.
            taken.push(vec![0x5a_u8; CHUNK]);
        }
        println_flushed("taken")?;
    }
    drop(taken);
    Ok(())
}

fn fill(path: &PathBuf, mebibytes: usize) -> io::Result<usize> {
    let mut file = File::create(path)?;
    let chunk = vec![0x5a_u8; CHUNK];
    for written in 0..mebibytes {
        // What lies in memory counts only when it is on the disk.
        match file.write_all(&chunk).and_then(|()| file.sync_data()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => return Ok(written),
            Err(error) => return Err(error),
        }
    }
    drop(file);
    fs::remove_file(path)?;
    Ok(mebibytes)
}

fn println_flushed(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_read_from_the_arguments_it_gave() {
        for probe in [Probe::Allocate, Probe::Fill("/data/x".into(), 7)] {
            let command = probe.command().unwrap();
            let arguments: Vec<String> = command.get_args().map(|a| a.to_str().unwrap().to_owned()).collect();
            assert_eq!(arguments[0], ARGUMENT);
            assert_eq!(Probe::from_arguments(&arguments[1..]), Some(probe));
        }
        assert_eq!(Probe::from_arguments(&["other".into()]), None);
    }

    #[test]
    fn filling_tells_how_much_was_written_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(fill(&path, 2).unwrap(), 2);
        assert!(!path.exists());
    }
}
