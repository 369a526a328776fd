//! What the commands do; one room for each group of them.

mod config;
mod install;
mod key;
mod ledger;
mod mcp;
mod memory;
mod model;
mod selftest;
mod token;
mod tool;
mod unit;

use std::process::ExitCode;

use aios_core::control::Request;
use anyhow::Result;

use crate::cli::{Cli, Command};

/// Runs what was typed.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { socket, json, command } = cli;
    match command {
        Command::Status { unit } => return unit::status(&socket, unit, json),
        Command::Start { unit } => unit::act(&socket, &Request::Start { unit })?,
        Command::Stop { unit } => unit::act(&socket, &Request::Stop { unit })?,
        Command::Restart { unit } => unit::act(&socket, &Request::Restart { unit })?,
        Command::PowerOff => unit::act(&socket, &Request::PowerOff)?,
        Command::Reboot => unit::act(&socket, &Request::Reboot)?,
        Command::Log { unit, follow, lines } => unit::log(&socket, unit, follow, lines, json)?,
        Command::Config(command) => return config::run(command, json),
        Command::Model(command) => return model::run(command, json),
        Command::Tool(command) => return tool::run(command, json),
        Command::Token(command) => return token::run(command, json),
        Command::Key(command) => return key::run(command, json),
        Command::Fleet { config } => return Ok(aios_fleet::daemon::run(config)),
        Command::Rollback(args) => return tool::rollback(args, json),
        Command::Memory(command) => return memory::run(command, json),
        Command::Mcp(args) => mcp::run(args)?,
        Command::Tools(args) => return Ok(tool::serve(args)),
        Command::Ask(args) => model::ask(args, json)?,
        Command::Selftest(args) => return selftest::run(args, json),
        Command::SelftestProbe { arguments } => return selftest::probe(&arguments),
        Command::Ledger(command) => return ledger::run(command, json),
        Command::Install(args) => return install::run(args, &socket, json),
    }
    Ok(ExitCode::SUCCESS)
}
