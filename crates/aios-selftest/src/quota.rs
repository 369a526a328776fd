//! Disk quotas of projects on the data partition.

use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::{fs::chown, process::CommandExt},
    },
    path::PathBuf,
    process::Stdio,
};

use crate::{Options, Problem, absent, failed, kernel, probe::Probe};

const LIMIT_MIB: usize = 8;
/// `nobody`: root may exceed every quota.
const NOBODY: u32 = 65534;
/// Projects of services and agents are numbered from 1; these are out of their way.
const OFFENDER: u32 = 0x7fff_fff0;
const NEIGHBOUR: u32 = 0x7fff_fff1;

/// Of two projects, the one with a limit is stopped there, and the other writes twice as much.
pub fn project(options: &Options) -> Result<String, Problem> {
    let base = Scratch::make(options.data.join(format!("selftest-{}", std::process::id())))?;
    let offender = base.project("offender", OFFENDER)?;
    let neighbour = base.project("neighbour", NEIGHBOUR)?;
    let folder = File::open(&offender).map_err(Problem::io(offender.display()))?;
    if let Err(error) = kernel::set_project_limit(folder.as_fd(), OFFENDER, (LIMIT_MIB as u64) << 10) {
        return absent(format!("{} has no project quotas: {error}", options.data.display()));
    }
    let written = fill(offender, LIMIT_MIB * 2);
    let other = fill(neighbour, LIMIT_MIB * 2);
    kernel::set_project_limit(folder.as_fd(), OFFENDER, 0).map_err(Problem::io("taking the limit off"))?;
    let (written, other) = (written?, other?);
    let told = format!("limited to {LIMIT_MIB} MiB: wrote {written} of {}, its neighbour {other}", LIMIT_MIB * 2);
    // Metadata counts as well, so that a little less than the limit fits.
    let stopped = (LIMIT_MIB / 2..=LIMIT_MIB).contains(&written);
    if stopped && other == LIMIT_MIB * 2 { Ok(told) } else { failed(told) }
}

/// MiB that could be written.
fn fill(folder: PathBuf, mebibytes: usize) -> Result<usize, Problem> {
    let command = Probe::Fill(folder.join("file"), mebibytes).command();
    let output = command.and_then(|mut command| command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).output());
    let output = output.map_err(Problem::io("starting a process"))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| {
        Problem::Failed(format!("writing to {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr).trim()))
    })
}

/// A folder that is removed with all in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(path: PathBuf) -> Result<Self, Problem> {
        fs::create_dir(&path).map_err(Problem::io(path.display()))?;
        Ok(Scratch(path))
    }

    fn project(&self, name: &str, project: u32) -> Result<PathBuf, Problem> {
        let path = self.0.join(name);
        fs::create_dir(&path).map_err(Problem::io(path.display()))?;
        chown(&path, Some(NOBODY), Some(NOBODY)).map_err(Problem::io(path.display()))?;
        let folder = File::open(&path).map_err(Problem::io(path.display()))?;
        match kernel::set_project(folder.as_fd(), project) {
            Ok(()) => Ok(path),
            Err(error) => absent(format!("{} has no projects: {error}", self.0.display())),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
