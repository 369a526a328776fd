//! Writes a disk, in an order in which a power cut anywhere leaves one that is known to be unfinished, or a whole one.

use std::io::{self, Read};

use aios_storage::{
    Disk,
    gpt::{BOOT_CODE, Entry, GptError, Guid, Table, protective_mbr},
};
use sha2::{Digest, Sha256};

use super::{
    Medium, Plan,
    contents::MARK,
    plan::{ALIGNMENT, Partition},
};

/// So much is read and written at once.
const CHUNK: usize = 1 << 20;

/// So much may wait in the kernel's memory, so that what is said about progress is true.
const SYNC_EVERY: u64 = 32 << 20;

/// Behind the contents of a partition so much is cleared: nothing that lay there before is taken for a part of it.
const CLEARED: u64 = 1 << 20;

/// Why a disk is not installed. If anything was written, the disk is marked as unfinished and can be taken again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The medium can't be read.
    #[error("reading {partition}: {source}: the installation medium is damaged; write the ISO to another one")]
    Medium {
        /// What was read.
        partition: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The medium gives something else than was put on it.
    #[error(
        "{partition} on the installation medium has another sha256 than it should: write the ISO to the medium again"
    )]
    MediumDamaged {
        /// Contents of which partition.
        partition: String,
    },
    /// The disk does not take or give bytes.
    #[error("{doing}: {source}: the disk may be failing")]
    Disk {
        /// What was done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk gives something else than was written.
    #[error("{what} reads back differently from what was written: the disk is failing, or smaller than it says")]
    Differs {
        /// Of what.
        what: String,
    },
    /// The table.
    #[error("partition table: {0}")]
    Table(#[from] GptError),
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Writing,
    Checking,
}

/// Hears how far it is.
pub trait Progress {
    /// `done` of `total` bytes of this step; called often.
    fn at(&mut self, step: Step, partition: &str, done: u64, total: u64);
}

/// Writes what `plan` says to `disk` and reads it back. Returns once the disk is bootable.
pub fn write(disk: &mut dyn Disk, plan: &Plan, medium: &Medium, progress: &mut dyn Progress) -> Result<(), WriteError> {
    let boot_code = medium
        .boot_code(&plan.boot_code)
        .map_err(|source| WriteError::Medium { partition: "the boot code".into(), source })?;
    begin(disk)?;
    write_contents(disk, plan, medium, progress)?;
    disk.forget_cached().map_err(on_disk("reading back"))?;
    check_contents(disk, plan, progress)?;
    write_table(disk, plan)?;
    finish(disk, &boot_code)
}

/// Marks the disk, then takes away what was there: from here on it is nobody's but ours.
fn begin(disk: &mut dyn Disk) -> Result<(), WriteError> {
    let sector = disk.sector();
    let mut mark = MARK.to_vec();
    mark.resize(sector as usize, 0);
    disk.write_at(0, &mark).and_then(|()| disk.sync()).map_err(on_disk("marking the disk"))?;
    let end = disk.size() / sector * sector;
    clear(disk, sector, ALIGNMENT - sector)
        .and_then(|()| clear(disk, end - ALIGNMENT, ALIGNMENT))
        .and_then(|()| disk.sync())
        .map_err(on_disk("clearing both ends of the disk"))
}

fn write_contents(
    disk: &mut dyn Disk,
    plan: &Plan,
    medium: &Medium,
    progress: &mut dyn Progress,
) -> Result<(), WriteError> {
    let mut steps = Steps::new(plan, Step::Writing, progress);
    for partition in &plan.partitions {
        let mut contents = medium.contents(partition);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut unsynced = 0;
        for (at, length) in chunks(partition.length) {
            let bytes = &mut buffer[..length];
            contents
                .read_exact(bytes)
                .map_err(|source| WriteError::Medium { partition: partition.name.clone(), source })?;
            hash.update(&*bytes);
            disk.write_at(partition.start + at, bytes).map_err(on_disk(&partition.name))?;
            unsynced += length as u64;
            if unsynced >= SYNC_EVERY {
                disk.sync().map_err(on_disk(&partition.name))?;
                unsynced = 0;
            }
            steps.advance(partition, length);
        }
        if hash.finalize()[..] != partition.sha256 {
            return Err(WriteError::MediumDamaged { partition: partition.name.clone() });
        }
        let rest = (partition.size - partition.length).min(CLEARED);
        clear(disk, partition.start + partition.length, rest)
            .and_then(|()| disk.sync())
            .map_err(on_disk(&partition.name))?;
    }
    Ok(())
}

fn check_contents(disk: &dyn Disk, plan: &Plan, progress: &mut dyn Progress) -> Result<(), WriteError> {
    let mut steps = Steps::new(plan, Step::Checking, progress);
    let mut buffer = vec![0; CHUNK];
    for partition in &plan.partitions {
        let mut hash = Sha256::new();
        for (at, length) in chunks(partition.length) {
            let bytes = &mut buffer[..length];
            disk.read_at(partition.start + at, bytes).map_err(on_disk(&partition.name))?;
            hash.update(&*bytes);
            steps.advance(partition, length);
        }
        if hash.finalize()[..] != partition.sha256 {
            return Err(WriteError::Differs { what: format!("partition {}", partition.name) });
        }
    }
    Ok(())
}

/// Writes the table with identifiers of its own: two disks of one machine are never mistaken for each other.
fn write_table(disk: &mut dyn Disk, plan: &Plan) -> Result<(), WriteError> {
    let sector = disk.sector();
    let random = || Guid::random().map_err(GptError::Io);
    let mut table = Table::new(disk, random()?);
    for part in &plan.partitions {
        let (first, last) = (part.start / sector, (part.start + part.size) / sector - 1);
        table.add(Entry::new(part.kind, random()?, first, last, &part.name))?;
    }
    table.write(disk)?;
    disk.forget_cached().map_err(on_disk("reading back the partition table"))?;
    match Table::read(disk)? == table {
        true => Ok(()),
        false => Err(WriteError::Differs { what: "the partition table".into() }),
    }
}

/// Replaces the mark. With this one sector the disk becomes bootable.
fn finish(disk: &mut dyn Disk, boot_code: &[u8; BOOT_CODE]) -> Result<(), WriteError> {
    let first = protective_mbr(disk, boot_code);
    let doing = "writing the first sector";
    disk.write_at(0, &first).and_then(|()| disk.sync()).map_err(on_disk(doing))?;
    let mut found = vec![0; first.len()];
    disk.forget_cached().and_then(|()| disk.read_at(0, &mut found)).map_err(on_disk(doing))?;
    match found == first {
        true => Ok(()),
        false => Err(WriteError::Differs { what: "the first sector".into() }),
    }
}

/// Writes zeros where there is something else: flash is spared, and an empty disk stays as it is.
fn clear(disk: &mut dyn Disk, start: u64, length: u64) -> io::Result<()> {
    let mut found = vec![0; length as usize];
    disk.read_at(start, &mut found)?;
    if found.iter().any(|byte| *byte != 0) {
        found.fill(0);
        disk.write_at(start, &found)?;
    }
    Ok(())
}

/// Begin and length of the pieces that `length` bytes are worked on in.
fn chunks(length: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..length).step_by(CHUNK).map(move |at| (at, (length - at).min(CHUNK as u64) as usize))
}

fn on_disk(doing: &str) -> impl FnOnce(io::Error) -> WriteError {
    let doing = doing.to_owned();
    move |source| WriteError::Disk { doing, source }
}

/// Counts a step's bytes.
struct Steps<'a> {
    step: Step,
    done: u64,
    total: u64,
    progress: &'a mut dyn Progress,
}

impl<'a> Steps<'a> {
    fn new(plan: &Plan, step: Step, progress: &'a mut dyn Progress) -> Self {
        let total = plan.partitions.iter().map(|partition| partition.length).sum();
        Steps { step, done: 0, total, progress }
    }

    fn advance(&mut self, partition: &Partition, length: usize) {
        self.done += length as u64;
        self.progress.at(self.step, &partition.name, self.done, self.total);
    }
}

#[cfg(test)]
mod tests;
