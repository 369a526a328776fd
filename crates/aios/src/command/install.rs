//! `aios install`

mod console;
mod table;
mod unattended;

use std::{path::Path, process::ExitCode};

use aios_core::{config::AfterInstall, control::Request};
use aios_storage::FileDisk;
use anyhow::{Context, Result};

use self::console::Console;
use crate::{
    cli::{InstallArgs, Then},
    control,
    install::{Candidate, Machine, Medium, Overwrite, Plan, Refusal, write},
};

pub fn run(args: InstallArgs, socket: &Path, json: bool) -> Result<ExitCode> {
    let InstallArgs { disk, list, unattended, force, then, medium } = args;
    if unattended {
        return unattended::run(socket, &medium);
    }
    let plan = Plan::read(&medium)?;
    let machine = Machine::this(&medium);
    match disk {
        Some(disk) if !list => {
            let overwrite = if force { Overwrite::Anything } else { Overwrite::Nothing };
            by_hand(&machine, &plan, &medium, &disk, overwrite)?;
            match then {
                Some(then) => end(socket, then.into())?,
                None => println!("take the medium out and start from the disk: `aios reboot`"),
            }
        }
        _ => print!("{}", table::of(&machine.list(&plan), &plan, json)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn by_hand(machine: &Machine, plan: &Plan, medium: &Path, disk: &Path, overwrite: Overwrite) -> Result<()> {
    let candidate = machine.find(disk, plan)?;
    match candidate.refusal(plan, overwrite) {
        Some(refusal) => Err(refusal).context("nothing was written"),
        None => install(&candidate, plan, medium, &mut Console::terminal()),
    }
}

/// Installs to a disk that was not refused.
fn install(candidate: &Candidate, plan: &Plan, medium: &Path, console: &mut Console) -> Result<()> {
    let path = &candidate.path;
    let opened = FileDisk::open_exclusive(path).map_err(|error| busy_or(path, error));
    let mut disk = opened.context("nothing was written")?;
    console.say(format_args!("installing to {}, {} MiB", path.display(), candidate.device.size >> 20));
    write(&mut disk, plan, &Medium::new(medium), console).with_context(|| {
        format!("{} is not installed and does not boot; the next installation starts over", path.display())
    })?;
    console.say(format_args!("{} is installed, written and read back", path.display()));
    Ok(())
}

fn busy_or(path: &Path, error: std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::ResourceBusy => Refusal::InUse(
            path.to_owned(),
            "something of this system has it open; `aios install --list` shows it".into(),
        ),
        _ => Refusal::Missing(path.to_owned(), error.to_string()),
    }
}

fn end(socket: &Path, then: AfterInstall) -> Result<()> {
    let request = match then {
        AfterInstall::PowerOff => Request::PowerOff,
        AfterInstall::Reboot => Request::Reboot,
    };
    control::ask_once(socket, &request).map(drop)
}

impl From<Then> for AfterInstall {
    fn from(then: Then) -> Self {
        match then {
            Then::Poweroff => AfterInstall::PowerOff,
            Then::Reboot => AfterInstall::Reboot,
        }
    }
}

/// Disks for a sentence.
fn names(candidates: &[&Candidate]) -> String {
    let names: Vec<String> = candidates.iter().map(|candidate| candidate.path.display().to_string()).collect();
    names.join(", ")
}
