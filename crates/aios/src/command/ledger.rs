//! `aios ledger verify`, `show` and `export`

mod export;
mod show;
mod text;
mod verify;

use std::process::ExitCode;

use aios_ledger::{ReadError, Reader, Snapshot};
use anyhow::Result;

use crate::cli::{LedgerArgs, LedgerCommand};

/// Runs what was typed after `aios ledger`.
pub fn run(command: LedgerCommand, json: bool) -> Result<ExitCode> {
    match command {
        LedgerCommand::Verify { export, known, place } => {
            return verify::run(&place, export.as_deref(), &known, json);
        }
        LedgerCommand::Show { seq: Some(seq), place, .. } => show::one(&snapshot(&place)?, seq, json)?,
        LedgerCommand::Show { seq: None, agent, tool, kind, since, limit, place } => {
            let since = since.map(|since| show::since(&since)).transpose()?;
            let filter = aios_ledger::Filter { agent, tool, kind, since, until: None };
            show::list(&snapshot(&place)?, filter, limit, json)?;
        }
        LedgerCommand::Export { output, from, place } => {
            export::run(&snapshot(&place)?, output.as_deref(), from, json)?
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The ledger as it is now.
fn snapshot(place: &LedgerArgs) -> Result<Snapshot, ReadError> {
    Reader::open(&place.ledger)?.snapshot()
}
