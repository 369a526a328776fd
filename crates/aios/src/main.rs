//! `aios`: the command line on a device.

mod cli;
mod command;
mod control;
mod hub;
mod install;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aios: {error:#}");
            ExitCode::FAILURE
        }
    }
}
