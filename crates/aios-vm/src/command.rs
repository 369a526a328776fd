//! The commands, and what they share: settings from the environment and where things are.

pub mod bench;
pub mod boot;
pub mod demo;
pub mod down;
pub mod progress;
pub mod up;

use std::path::PathBuf;

use aios_core::quantity::ByteSize;
use aios_vm::{Board, Images, RunDir, StartError, Vm, VmBuilder, accel, ports::Forwards};

/// The guest needs room for the model, its context and the services.
const DEFAULT_MEMORY_MIB: u64 = 2048;
const LEAST_MEMORY_MIB: u64 = 256;

/// What was built, and where.
pub struct Build {
    /// The build's output directory, which holds images/ and run/.
    pub output: PathBuf,
    pub board: Board,
}

/// What the environment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    port: Option<u16>,
    memory_mib: u64,
    keep_disk: bool,
}

/// The developer's machine: the run directory, accelerator, ports, memory and disk that the environment asks for.
pub fn developer_vm(build: &Build) -> Result<VmBuilder, StartError> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let run_dir = run_dir(build)?;
    let choice = accelerator(build)?;
    println!("QEMU with {}: {}", choice.accelerator, choice.reason);
    let builder = Vm::builder(&images(build), run_dir.path())
        .accelerator(choice.accelerator)
        .memory_mib(settings.memory_mib)
        .forwards(Forwards::for_developer(settings.port)?);
    Ok(if settings.keep_disk { builder.keep_disk() } else { builder })
}

pub fn images(build: &Build) -> Images {
    Images::of_board(build.output.join("images"), build.board.clone())
}

pub fn run_dir(build: &Build) -> Result<RunDir, StartError> {
    RunDir::open(build.output.join("run"))
}

/// The accelerator; a first probe takes some seconds.
pub fn accelerator(build: &Build) -> Result<accel::Choice, StartError> {
    accel::choose(&accel::cache_in(run_dir(build)?.path()), build.board.architecture)
}

/// `accel`.
pub fn print_accelerator(build: &Build) -> anyhow::Result<()> {
    let choice = accelerator(build)?;
    println!("{}: {}", choice.accelerator, choice.reason);
    Ok(())
}

/// Says where a kept disk went that was made on an earlier build of the image.
pub fn tell_of_set_aside_disk(vm: &Vm) {
    if let Some(path) = vm.set_aside() {
        println!("the image was built anew: a new disk is used, and the kept one is {}", path.display());
    }
}

impl Settings {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let bad = |variable: &'static str, value: &str, reason: String| StartError::BadVariable {
            variable,
            value: value.into(),
            reason,
        };
        let port = match variable("AIOS_PORT") {
            Some(text) => match text.parse() {
                Ok(port @ 1..) => Some(port),
                _ => return Err(bad("AIOS_PORT", &text, "write a port number from 1 to 65535".into())),
            },
            None => None,
        };
        let memory_mib = match variable("AIOS_MEMORY") {
            Some(text) => {
                let size: ByteSize = text.parse().map_err(|error| bad("AIOS_MEMORY", &text, format!("{error}")))?;
                size.0 >> 20
            }
            None => DEFAULT_MEMORY_MIB,
        };
        if memory_mib < LEAST_MEMORY_MIB {
            let asked = variable("AIOS_MEMORY").unwrap_or_default();
            return Err(bad("AIOS_MEMORY", &asked, format!("the system needs at least {LEAST_MEMORY_MIB}MiB")));
        }
        Ok(Settings { port, memory_mib, keep_disk: variable("KEEP").is_some_and(|value| value != "0") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, StartError> {
        let variables: Vec<(String, String)> = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Settings::read(move |name| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn without_variables_there_are_two_gibibytes_any_port_and_no_kept_disk() {
        assert_eq!(read(&[]).unwrap(), Settings { port: None, memory_mib: 2048, keep_disk: false });
    }

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        assert_eq!(read(&[("AIOS_PORT", ""), ("AIOS_MEMORY", ""), ("KEEP", "")]).unwrap(), read(&[]).unwrap());
    }

    #[test]
    fn variables_are_read_with_their_units() {
        let settings = read(&[("AIOS_PORT", "8123"), ("AIOS_MEMORY", "512MiB"), ("KEEP", "1")]).unwrap();
        assert_eq!(settings, Settings { port: Some(8123), memory_mib: 512, keep_disk: true });
    }

    #[test]
    fn a_bad_variable_is_named_with_its_value() {
        for (name, value) in
            [("AIOS_PORT", "http"), ("AIOS_PORT", "0"), ("AIOS_MEMORY", "lots"), ("AIOS_MEMORY", "8MiB")]
        {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}={value}: ")), "{error}");
        }
    }
}
