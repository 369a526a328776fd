//! The system as a tool sees it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    error::{Code, ToolError},
    facts::Facts,
};

/// Most that is read of one file of `/proc`, `/sys` or the configuration.
const SYSTEM_FILE_MAX: u64 = 4 << 20;

/// The system: the device's own, or a folder that looks like one, in tests.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    told: Facts,
}

impl Host {
    /// This device.
    pub fn device() -> Self {
        Host { root: PathBuf::from("/"), told: Facts::default() }
    }

    /// The system whose root is the folder `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into(), told: Facts::default() }
    }

    /// The same system, of which some is told that can't be seen from here.
    #[must_use]
    pub fn told(self, told: Facts) -> Self {
        Host { told, ..self }
    }

    /// Where the absolute path `path` lies.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A small text file, for example of `/proc`. Bytes that are not UTF-8 are replaced.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, ToolError> {
        use io::Read as _;
        let path = path.as_ref();
        if let Some(text) = path.to_str().and_then(|path| self.told.text(path)) {
            return Ok(text.to_owned());
        }
        let failed = |error: io::Error| ToolError::io(path, &error);
        let mut bytes = Vec::new();
        let file = fs::File::open(self.path(path)).map_err(failed)?;
        file.take(SYSTEM_FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > SYSTEM_FILE_MAX {
            let text = format!("{}: is longer than {SYSTEM_FILE_MAX} bytes", path.display());
            return Err(ToolError::new(Code::TooLarge, text));
        }
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A small text file without its last line's end; `None` where there is none, or it can't be read (many files of
    /// `/sys` exist on some machines only, and some refuse to be read at times).
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        self.text(path).ok().map(|text| text.trim_end_matches('\n').to_owned())
    }

    /// Where a symbolic link of `/proc` leads; `None` where there is none, or it can't be read.
    pub fn target(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let told = path.to_str().and_then(|path| self.told.target(path)).map(str::to_owned);
        told.or_else(|| Some(fs::read_link(self.path(path)).ok()?.to_string_lossy().into_owned()))
    }

    /// Names in a folder, sorted; empty where there is no such folder.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let told = path.as_ref().to_str().map(|folder| self.told.names(folder)).unwrap_or_default();
        if !told.is_empty() {
            return told;
        }
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether a program of the image exists: [`Code::NotInstalled`] says which package brings it where it does not.
    pub fn program(&self, path: &str, package: &str) -> Result<PathBuf, ToolError> {
        let program = self.path(path);
        if program.is_file() {
            return Ok(program);
        }
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let text = format!("{name} is not installed on this device ({path}); build the image with {package}");
        Err(ToolError::new(Code::NotInstalled, text))
    }
}
