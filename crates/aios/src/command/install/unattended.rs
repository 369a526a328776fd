//! `aios install --unattended`: what the unit `install` runs at each boot. There is something to do only on a live system
//! with `install.disk` in its configuration.

use std::{
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use aios_core::config::{self, Install, InstallDisk};
use anyhow::{Context, Result, bail};

use super::{Console, end, install, names};
use crate::install::{Candidate, Contents, Machine, Overwrite, Plan, Refusal};

/// How long a disk may take to appear. A USB disk behind a hub takes ten seconds at worst.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so long without a new disk all are taken to be there.
const SETTLED: Duration = Duration::from_secs(3);

/// How often the disks are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What was found.
enum Found {
    Disk(Box<Candidate>),
    Refused(Refusal),
}

pub fn run(socket: &Path, medium: &Path) -> Result<ExitCode> {
    if !medium.exists() {
        println!("not a live system: nothing to install");
        return Ok(ExitCode::SUCCESS);
    }
    let settings = config::load(&config::system_layers())?.install;
    let Some(disk) = &settings.disk else {
        println!("install.disk is not set: nothing to install");
        return Ok(ExitCode::SUCCESS);
    };
    let mut console = Console::machine();
    match to_disk(disk, &settings, medium, &mut console) {
        Ok(true) => end(socket, settings.then)?,
        Ok(false) => {}
        Err(error) => {
            console.say(format_args!("failed: {error:#}"));
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs; false where the disk has aiOS already, as after a restart from the medium.
fn to_disk(disk: &InstallDisk, settings: &Install, medium: &Path, console: &mut Console) -> Result<bool> {
    let plan = Plan::read(medium)?;
    let machine = Machine::this(medium);
    let overwrite = if settings.force { Overwrite::AllButAios } else { Overwrite::Nothing };
    let found = match disk {
        InstallDisk::Path(path) => named(&machine, &plan, path, overwrite),
        InstallDisk::Auto => only_empty(&machine, &plan)?,
    };
    match found {
        Found::Disk(candidate) => install(&candidate, &plan, medium, console).map(|()| true),
        Found::Refused(refusal @ Refusal::Installed(_)) => {
            console.say(refusal);
            Ok(false)
        }
        Found::Refused(refusal) => Err(refusal).context("nothing was written"),
    }
}

fn named(machine: &Machine, plan: &Plan, path: &Path, overwrite: Overwrite) -> Found {
    let began = Instant::now();
    loop {
        match machine.find(path, plan) {
            Ok(candidate) => {
                return match candidate.refusal(plan, overwrite) {
                    None => Found::Disk(Box::new(candidate)),
                    Some(refusal) => Found::Refused(refusal),
                };
            }
            Err(Refusal::Missing(..)) if began.elapsed() < PATIENCE => sleep(LOOK_AGAIN),
            Err(refusal) => return Found::Refused(refusal),
        }
    }
}

/// Waits until no more disks appear, and takes the only one that is empty.
fn only_empty(machine: &Machine, plan: &Plan) -> Result<Found> {
    let began = Instant::now();
    let (mut known, mut since) = (Vec::new(), began);
    loop {
        let candidates = machine.list(plan);
        let names: Vec<String> = candidates.iter().map(|candidate| candidate.device.name.clone()).collect();
        if names != known {
            (known, since) = (names, Instant::now());
        }
        let patience = if candidates.iter().any(|candidate| candidate.is_choice(plan)) { SETTLED } else { PATIENCE };
        if since.elapsed() >= patience || began.elapsed() >= PATIENCE {
            return choose(candidates, plan);
        }
        sleep(LOOK_AGAIN);
    }
}

fn choose(candidates: Vec<Candidate>, plan: &Plan) -> Result<Found> {
    // Also where another disk is empty: this may be the restart after an installation.
    if let Some(installed) = candidates.iter().find(|candidate| candidate.contents == Ok(Contents::Aios)) {
        return Ok(Found::Refused(Refusal::Installed(installed.path.clone())));
    }
    let choices: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.is_choice(plan)).collect();
    match choices[..] {
        [only] => Ok(Found::Disk(Box::new(only.clone()))),
        [] => {
            let reasons = candidates.iter().filter_map(|candidate| candidate.refusal(plan, Overwrite::Nothing));
            let reasons: Vec<String> = reasons.map(|refusal| refusal.to_string()).collect();
            bail!("nothing was written: there is no empty disk; {}", reasons.join("; "))
        }
        _ => bail!("nothing was written: {} are empty; name one in install.disk", names(&choices)),
    }
}
