//! `aios ledger export`

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use aios_ledger::{Exported, Snapshot, export};
use anyhow::{Context as _, Result};
use serde_json::json;

/// Writes the export to `output`, a new file for its owner alone, or to standard output.
pub fn run(snapshot: &Snapshot, output: Option<&Path>, from: u64, json: bool) -> Result<()> {
    let exported = match output {
        None => export(snapshot, from, &mut BufWriter::new(io::stdout().lock()))?,
        Some(path) => {
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file = BufWriter::new(new.with_context(|| path.display().to_string())?);
            let exported = export(snapshot, from, &mut file)?;
            file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            exported
        }
    };
    // Standard output may be the export itself.
    let mut out = io::stderr().lock();
    let Exported { first, size, checkpoint } = exported;
    let signed = checkpoint.as_deref().and_then(|note| note.lines().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    if json {
        writeln!(out, "{}", json!({"first": first, "size": size, "signed": signed, "checkpoint": checkpoint}))?;
    } else {
        writeln!(out, "exported {} entries, from {first} on; {signed} of {size} are signed", size - first)?;
    }
    Ok(())
}
