//! `aios config`

use std::{path::PathBuf, process::ExitCode};

use aios_core::config;
use anyhow::{Context, Result};

use crate::cli::ConfigCommand;

/// `EX_USAGE`, as every aiOS program exits on a configuration it can't take.
const BAD_CONFIG: u8 = 64;

pub fn run(command: ConfigCommand, json: bool) -> Result<ExitCode> {
    let (files, show) = match command {
        ConfigCommand::Check { files } => (files, false),
        ConfigCommand::Show { files } => (files, true),
    };
    let files = or_the_devices(files)?;
    let config = match config::load(&files) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("aios: {error}");
            return Ok(ExitCode::from(BAD_CONFIG));
        }
    };
    match (show, json) {
        (true, false) => print!("{}", toml::to_string(&config)?),
        (true, true) => println!("{}", serde_json::to_string_pretty(&config)?),
        (false, _) => println!("configuration is valid: {}", names(&files)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Files that a person names must exist; of the device's own, either may be absent.
fn or_the_devices(files: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if files.is_empty() {
        return Ok(config::system_layers());
    }
    for file in &files {
        std::fs::metadata(file).with_context(|| format!("{}", file.display()))?;
    }
    Ok(files)
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
}
