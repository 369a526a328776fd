//! A device: a directory with a configuration, and the real binary on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub struct Device {
    root: tempfile::TempDir,
}

impl Device {
    /// A device whose hub is at `endpoint`.
    pub fn new(endpoint: &str) -> Device {
        let device = Device { root: tempfile::tempdir().unwrap() };
        let root = device.root().display();
        let config = format!(
            "[runtime]\nmodel-dirs = [\"{root}/models\"]\n[models]\ndirectory = \"{root}/models\"\nkeys = \"{root}/keys\"\n\
             hub-endpoint = \"{endpoint}\"\n"
        );
        fs::write(device.root().join("aios.toml"), config).unwrap();
        device
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn directory(&self) -> PathBuf {
        self.root().join("models")
    }

    /// Where the hub's own tools keep their files.
    pub fn hub_home(&self) -> PathBuf {
        self.root().join("huggingface")
    }

    /// Adds lines to `[models]`.
    pub fn configure(&self, lines: &str) {
        let path = self.root().join("aios.toml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{config}{lines}\n")).unwrap();
    }

    /// `aios` with these arguments; those of `aios model` get the configuration of this device.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aios"));
        command.args(args).arg("--config").arg(self.root().join("aios.toml"));
        command.env_remove("HF_ENDPOINT").env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        command.env("HF_HOME", self.hub_home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn aios(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Ids of the models that are there.
    pub fn models(&self) -> Vec<String> {
        names(&self.directory()).into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    /// What there is of models that are not complete.
    pub fn partial(&self) -> Vec<String> {
        names(&self.directory().join(".partial"))
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The output of a command that succeeded.
#[track_caller]
pub fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command said that failed.
#[track_caller]
pub fn failure(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stdout));
    said
}
