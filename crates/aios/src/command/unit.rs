//! `aios status`, `start`, `stop`, `restart`, `log`, `poweroff`, `reboot`

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use aios_core::{
    control::{LogLine, Request, Response, SystemStatus, UnitState, UnitStatus},
    quantity::HumanDuration,
};
use anyhow::{Result, bail};

use crate::control;

/// As `systemctl status` exits on a unit that does not run.
const NOT_READY: u8 = 3;

pub fn act(socket: &Path, request: &Request) -> Result<()> {
    control::ask_once(socket, request).map(drop)
}

pub fn status(socket: &Path, unit: Option<String>, json: bool) -> Result<ExitCode> {
    let one = unit.is_some();
    let Response::Status(status) = control::ask_once(socket, &Request::Status { unit })? else {
        bail!("PID 1 answered a status request with something else");
    };
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else if one {
        write!(out, "{}", status.units.iter().map(details).collect::<String>())?;
    } else {
        write!(out, "{}", table(&status))?;
    }
    let ready = status.units.iter().all(|u| u.state == UnitState::Ready);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}

pub fn log(socket: &Path, unit: String, follow: bool, lines: Option<usize>, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    for answer in control::ask(socket, &Request::Log { unit, follow, lines })? {
        let Response::Log(line) = answer? else { continue };
        let LogLine { at_s, text } = &line;
        let written = if json {
            writeln!(out, "{}", serde_json::to_string(&line)?)
        } else {
            writeln!(out, "[{at_s:10.3}] {text}")
        };
        // Somebody piped us into `head`.
        if written.and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    Ok(())
}

/// One line a unit, failures below.
fn table(status: &SystemStatus) -> String {
    let ready = status.units.iter().filter(|u| u.state == UnitState::Ready).count();
    let mut text = format!(
        "{} · aiOS {} · up {} · {ready} of {} units Ready\n",
        status.hostname,
        status.version,
        seconds(status.uptime_s),
        status.units.len(),
    );
    for failure in &status.boot_failures {
        text += &format!("boot: {failure}\n");
    }
    let width = status.units.iter().map(|u| u.name.len()).max().unwrap_or(0).max(4);
    text += &format!("\n{:width$}  {:8}  {:>6}  {:>10}  {:>8}  {}\n", "UNIT", "STATE", "PID", "MEMORY", "SINCE", "");
    for unit in &status.units {
        let remark = unit.failure.as_deref().or(unit.status.as_deref()).unwrap_or(&unit.description);
        text += &format!(
            "{:width$}  {:8}  {:>6}  {:>10}  {:>8}  {remark}\n",
            unit.name,
            format!("{:?}", unit.state),
            unit.pid.map_or("-".into(), |pid| pid.to_string()),
            unit.memory_bytes.map_or("-".into(), mebibytes),
            seconds(unit.since_s),
        );
    }
    text
}

/// Everything about a unit, one fact a line.
fn details(unit: &UnitStatus) -> String {
    let mut text = format!("{} - {}\n", unit.name, unit.description);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("  {name:>8}: {value}\n");
        }
    };
    fact("state", Some(format!("{:?} for {}", unit.state, seconds(unit.since_s))));
    fact("status", unit.status.clone());
    fact("failure", unit.failure.clone());
    fact("pid", unit.pid.map(|pid| pid.to_string()));
    fact("memory", unit.memory_bytes.map(mebibytes));
    fact("restarts", Some(unit.restarts.to_string()));
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A time that people read: milliseconds matter only below ten seconds.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    HumanDuration(std::time::Duration::from_secs(seconds as u64)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, state: UnitState) -> UnitStatus {
        UnitStatus {
            name: name.into(),
            description: format!("The {name}"),
            state,
            pid: (state == UnitState::Ready).then_some(42),
            since_s: 65.2,
            restarts: 1,
            status: None,
            failure: (state == UnitState::Failed).then(|| "readiness: no READY=1 within 90s".into()),
            memory_bytes: (state == UnitState::Ready).then_some(5 << 20),
        }
    }

    fn system() -> SystemStatus {
        SystemStatus {
            version: "0.1.0".into(),
            hostname: "box".into(),
            uptime_s: 3.21,
            boot_failures: vec!["data partition: no space".into()],
            units: vec![unit("network", UnitState::Ready), unit("runtime", UnitState::Failed)],
        }
    }

    #[test]
    fn the_table_shows_each_unit_and_what_failed() {
        insta::assert_snapshot!(table(&system()), @r"
        box · aiOS 0.1.0 · up 3.2s · 1 of 2 units Ready
        boot: data partition: no space

        UNIT     STATE        PID      MEMORY     SINCE  
        network  Ready         42     5.0 MiB      1m5s  The network
        runtime  Failed         -           -      1m5s  readiness: no READY=1 within 90s
        ");
    }

    #[test]
    fn one_unit_is_shown_fact_by_fact() {
        insta::assert_snapshot!(details(&unit("runtime", UnitState::Failed)), @r"
        runtime - The runtime
             state: Failed for 1m5s
           failure: readiness: no READY=1 within 90s
          restarts: 1
        ");
    }
}
