//! `aios selftest`

use std::{
    io::{self, Write},
    process::ExitCode,
};

use aios_selftest::{CHECKS, Check, Options, Report, ScratchDisk, Verdict};
use anyhow::{Result, bail};

use crate::cli::SelftestArgs;

pub fn run(args: SelftestArgs, json: bool) -> Result<ExitCode> {
    let SelftestArgs { checks, list, scratch, suspend, data } = args;
    let mut out = io::stdout().lock();
    if list {
        for check in CHECKS {
            writeln!(out, "{:12} {}", check.name, check.about)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&checks)?;
    if !rustix::process::geteuid().is_root() {
        bail!("selftest needs root: it sets priorities, limits and quotas");
    }
    // All are claimed before anything is written, so that a refusal leaves every disk as it was.
    let scratch = scratch.iter().map(|disk| ScratchDisk::claim(disk)).collect::<Result<_, _>>()?;
    let options = Options { data, scratch, suspend };
    let mut reports = Vec::new();
    for check in chosen {
        let report = check.run(&options);
        let line = if json { serde_json::to_string(&report)? } else { line(&report) };
        writeln!(out, "{line}")?;
        out.flush()?;
        reports.push(report);
    }
    let count = |verdict| reports.iter().filter(|report| report.result == verdict).count();
    let failed = count(Verdict::Fail);
    if !json {
        writeln!(out, "{} passed, {failed} failed, {} skipped", count(Verdict::Pass), count(Verdict::Skip))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The process that a check needs beside itself.
pub fn probe(arguments: &[String]) -> Result<ExitCode> {
    let Some(probe) = aios_selftest::probe::Probe::from_arguments(arguments) else {
        bail!("this command is selftest's own; use aios selftest");
    };
    probe.run()?;
    Ok(ExitCode::SUCCESS)
}

/// All without a name.
fn choose(names: &[String]) -> Result<Vec<&'static Check>> {
    if let Some(unknown) = names.iter().find(|name| !CHECKS.iter().any(|check| check.name == **name)) {
        bail!("there is no check {unknown:?}; aios selftest --list names them");
    }
    Ok(CHECKS.iter().filter(|check| names.is_empty() || names.iter().any(|name| name == check.name)).collect())
}

fn line(report: &Report) -> String {
    let verdict = match report.result {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Skip => "skip",
    };
    format!("{:12} {verdict}  {:5.1} s  {}", report.check, report.seconds, report.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_names_all_checks_are_chosen_and_an_unknown_name_is_refused() {
        assert_eq!(choose(&[]).unwrap().len(), CHECKS.len());
        assert_eq!(choose(&["clocks".into()]).unwrap()[0].name, "clocks");
        assert!(choose(&["cloks".into()]).unwrap_err().to_string().contains("cloks"));
    }
}
