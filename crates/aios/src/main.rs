//! `aios`: the command line on a device.

mod cli;
mod command;
mod control;
mod hub;
mod install;
mod service;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The sandbox of `aios tools` runs this program again, as its fork server.
    aios_sandbox::serve_if_asked(aios_tools::job::handle);
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aios: {error:#}");
            ExitCode::FAILURE
        }
    }
}
