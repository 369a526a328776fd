//! `aios ledger verify`

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use aios_keys::{hex, note::Verifier};
use aios_ledger::{Checkpoint, Report, verifier, verify, verify_export};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::text::plain;
use crate::cli::LedgerArgs;

/// Checks this device's ledger, or an export.
pub fn run(place: &LedgerArgs, export: Option<&Path>, known: &[PathBuf], json: bool) -> Result<ExitCode> {
    let keys = verifier(&place.keys)?;
    let known = known.iter().map(|path| checkpoint(path, &keys)).collect::<Result<Vec<_>>>()?;
    let report = match export {
        None => verify(&super::snapshot(place)?, &keys, &known)?,
        Some(path) if path == Path::new("-") => verify_export(&mut io::stdin().lock(), &keys, &known)?,
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            verify_export(&mut BufReader::new(file), &keys, &known).with_context(|| path.display().to_string())?
        }
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&object(&report))?),
        false => print!("{}", text(&report)),
    }
    Ok(if report.fault.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A checkpoint that was kept elsewhere.
fn checkpoint(path: &Path, keys: &Verifier) -> Result<Checkpoint> {
    let note = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Checkpoint::open(&note, keys).with_context(|| path.display().to_string())
}

fn text(report: &Report) -> String {
    let Report { origin, first, size, signed, checkpoints, known, unknown, root, fault, .. } = report;
    let mut text = format!("ledger {}\n", plain(origin));
    let mut fact =
        |name: &str, value: String| writeln!(text, "  {name:>11}: {value}").expect("invariant: a string takes it");
    let kept = size - first;
    fact("entries", if kept == 0 { "none".into() } else { format!("{kept}, from {first} to {}", size - 1) });
    fact(
        "checkpoints",
        match (checkpoints, size - signed) {
            (0, 0) => "none".into(),
            (0, _) => "none: the entries are chained, and not signed yet".into(),
            (count, 0) => format!("{count}; all entries are signed"),
            (count, later) => {
                format!("{count}; {signed} entries are signed, {later} later ones chained and not signed yet")
            }
        },
    );
    if known + unknown > 0 {
        let older = if *unknown > 0 { format!(", {unknown} older than what is kept") } else { String::new() };
        fact("known", format!("{known} continued{older}"));
    }
    fact("root", hex::encode(root));
    match fault {
        None => text += "sound\n",
        Some(fault) => {
            writeln!(text, "NOT SOUND: {}", plain(&fault.to_string())).expect("invariant: a string takes it")
        }
    }
    text
}

fn object(report: &Report) -> Value {
    let fault = report.fault.as_ref().map(|fault| json!({"seq": fault.seq, "reason": fault.to_string()}));
    json!({
        "ok": fault.is_none(), "origin": report.origin, "first": report.first, "size": report.size, "signed": report.signed,
        "checkpoints": report.checkpoints, "known": report.known, "older": report.unknown, "root": hex::encode(&report.root),
        "chain": hex::encode(&report.chain), "fault": fault,
    })
}

#[cfg(test)]
mod tests {
    use aios_ledger::{Fault, Reason};

    use super::*;

    fn report() -> Report {
        Report {
            origin: "aios/ledger/93f2a1c04d5e6b78".into(),
            first: 0,
            size: 1093,
            signed: 1024,
            checkpoints: 1,
            known: 0,
            unknown: 0,
            root: [0xab; 32],
            chain: [0xcd; 32],
            fault: None,
        }
    }

    #[test]
    fn a_sound_ledger_is_told_with_what_is_signed_of_it() {
        insta::assert_snapshot!(text(&report()), @r"
        ledger aios/ledger/93f2a1c04d5e6b78
              entries: 1093, from 0 to 1092
          checkpoints: 1; 1024 entries are signed, 69 later ones chained and not signed yet
                 root: abababababababababababababababababababababababababababababababab
        sound
        ");
        let pruned = Report { first: 1024, signed: 1093, checkpoints: 2, known: 1, unknown: 3, ..report() };
        insta::assert_snapshot!(text(&pruned), @r"
        ledger aios/ledger/93f2a1c04d5e6b78
              entries: 69, from 1024 to 1092
          checkpoints: 2; all entries are signed
                known: 1 continued, 3 older than what is kept
                 root: abababababababababababababababababababababababababababababababab
        sound
        ");
        let empty = Report { size: 0, signed: 0, checkpoints: 0, ..report() };
        insta::assert_snapshot!(text(&empty), @r"
        ledger aios/ledger/93f2a1c04d5e6b78
              entries: none
          checkpoints: none
                 root: abababababababababababababababababababababababababababababababab
        sound
        ");
    }

    #[test]
    fn a_fault_is_the_last_thing_that_is_said() {
        let fault = Some(Fault { seq: 17, reason: Reason::Hash });
        let report = Report { size: 17, signed: 0, checkpoints: 0, fault, ..report() };
        insta::assert_snapshot!(text(&report), @r"
        ledger aios/ledger/93f2a1c04d5e6b78
              entries: 17, from 0 to 16
          checkpoints: none: the entries are chained, and not signed yet
                 root: abababababababababababababababababababababababababababababababab
        NOT SOUND: entry 17 is not the one that was recorded: its hash differs
        ");
        insta::assert_snapshot!(serde_json::to_string_pretty(&object(&report)).unwrap(), @r#"
        {
          "ok": false,
          "origin": "aios/ledger/93f2a1c04d5e6b78",
          "first": 0,
          "size": 17,
          "signed": 0,
          "checkpoints": 0,
          "known": 0,
          "older": 0,
          "root": "abababababababababababababababababababababababababababababababab",
          "chain": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
          "fault": {
            "seq": 17,
            "reason": "entry 17 is not the one that was recorded: its hash differs"
          }
        }
        "#);
    }
}
