//! `output/run/env`: what a shell must know to speak with the running machine.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::ports::Forwards;

/// The addresses and the token of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Without `/v1`.
    pub api: String,
    pub console: String,
    pub token: String,
}

impl Environment {
    pub fn new(forwards: Forwards, token: &str) -> Self {
        Environment {
            api: format!("http://127.0.0.1:{}", forwards.api),
            console: format!("http://127.0.0.1:{}", forwards.console),
            token: token.into(),
        }
    }

    /// Writes the file for its owner alone, because it holds the token.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, self.to_string().as_bytes())
    }

    /// Reads back what [`Environment::write`] wrote.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let value =
            |name: &str| {
                let lines = text.lines().filter_map(|line| line.split_once('='));
                lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next().ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{} has no {name}", path.display()))
                })
            };
        Ok(Environment { api: value("AIOS_API")?, console: value("AIOS_CONSOLE")?, token: value("AIOS_TOKEN")? })
    }
}

/// Shell assignments. No value needs quoting: addresses and hexadecimal digits.
impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "AIOS_API={}", self.api)?;
        writeln!(f, "AIOS_CONSOLE={}", self.console)?;
        writeln!(f, "AIOS_TOKEN={}", self.token)
    }
}

/// Writes a file that was private before it had content.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    fn environment() -> Environment {
        Environment::new(Forwards { api: 8081, console: 9090 }, "00ff")
    }

    #[test]
    fn the_file_reads_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        fs::write(&path, "left over, readable by all").unwrap();
        environment().write(&path).unwrap();
        assert_eq!(Environment::read(&path).unwrap(), environment());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_shell_can_source_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        environment().write(&path).unwrap();
        let script = format!(". {}; echo \"$AIOS_API $AIOS_CONSOLE $AIOS_TOKEN\"", path.display());
        let output = Command::new("sh").args(["-eu", "-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "http://127.0.0.1:8081 http://127.0.0.1:9090 00ff\n");
    }
}
