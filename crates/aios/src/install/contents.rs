//! What is on a disk, so that nothing is overwritten that somebody may want back.

use std::{fmt, io};

use aios_storage::{
    Disk,
    disk::Window,
    gpt::{GptError, Table},
    signature,
};

use super::plan::{Partition, Plan};

/// The first bytes of a disk while an installation is at work on it. Neither BIOS nor UEFI nor the kernel takes a first
/// sector like this for anything.
pub const MARK: &[u8] = b"aiOS: the installation on this disk is not finished\n";

/// A disk is empty when so much at its beginning and at its end is. Every table, every file system and every member of
/// an array that is known has something there.
const ENDS: u64 = 1 << 20;

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing: zeros, or erased flash.
    Empty,
    /// What an installation left that did not come to its end.
    Unfinished,
    /// An installed aiOS.
    Aios,
    /// A partition table, with the partitions' names where it has names.
    Partitions(Vec<String>),
    /// A file system on the whole disk.
    FileSystem(String),
    /// Something.
    Unknown,
}

impl Contents {
    /// Looks at `disk`; `plan` says what an installed aiOS looks like.
    pub fn of(disk: &dyn Disk, plan: &Plan) -> io::Result<Contents> {
        let mut first = vec![0; disk.sector() as usize];
        if disk.size() < 2 * ENDS {
            return Ok(Contents::Unknown);
        }
        disk.read_at(0, &mut first)?;
        let found = signature::contents(&Window::new(disk, 0, disk.size()))?;
        match found {
            signature::Contents::Ext { label, .. } if label.is_empty() => Ok(Contents::FileSystem("ext".into())),
            signature::Contents::Ext { label, .. } => Ok(Contents::FileSystem(format!("ext \"{label}\""))),
            signature::Contents::Other(name) => Ok(Contents::FileSystem(name.into())),
            signature::Contents::Nothing if first.starts_with(MARK) => Ok(Contents::Unfinished),
            signature::Contents::Nothing => without_file_system(disk, plan, &first),
        }
    }

    /// Whether nobody can want it back.
    pub fn is_free(&self) -> bool {
        matches!(self, Contents::Empty | Contents::Unfinished)
    }
}

fn without_file_system(disk: &dyn Disk, plan: &Plan, first: &[u8]) -> io::Result<Contents> {
    match Table::read(disk) {
        Ok(table) if is_installed(&table, plan) => return Ok(Contents::Aios),
        Ok(table) => {
            let names = table.partitions().map(|(_, entry)| entry.name().to_owned());
            return Ok(Contents::Partitions(names.filter(|name| !name.is_empty()).collect()));
        }
        Err(GptError::Io(error)) => return Err(error),
        Err(_) => {}
    }
    // The boot signature alone shows an old table, with or without partitions in it.
    if first[510..512] == [0x55, 0xaa] {
        return Ok(Contents::Partitions(Vec::new()));
    }
    match is_uniform(disk, 0)? && is_uniform(disk, disk.size() - ENDS)? {
        true => Ok(Contents::Empty),
        false => Ok(Contents::Unknown),
    }
}

/// Whether the table has all that an installation makes; the data partition comes later.
fn is_installed(table: &Table, plan: &Plan) -> bool {
    let is_there = |part: &Partition| table.find(&part.name).is_some_and(|(_, entry)| entry.kind() == part.kind);
    plan.partitions.iter().all(is_there)
}

fn is_uniform(disk: &dyn Disk, start: u64) -> io::Result<bool> {
    let mut bytes = vec![0; ENDS as usize];
    disk.read_at(start, &mut bytes)?;
    Ok(matches!(bytes[0], 0 | 0xff) && bytes.iter().all(|byte| *byte == bytes[0]))
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contents::Empty => f.write_str("empty"),
            Contents::Unfinished => f.write_str("an unfinished installation"),
            Contents::Aios => f.write_str("aiOS"),
            Contents::Partitions(names) if names.is_empty() => f.write_str("a partition table"),
            Contents::Partitions(names) => write!(f, "partitions: {}", names.join(", ")),
            Contents::FileSystem(name) => write!(f, "a file system: {name}"),
            Contents::Unknown => f.write_str("data of an unknown kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use aios_storage::{
        disk::testing::MemoryDisk,
        gpt::{BOOT_CODE, Guid, protective_mbr},
    };

    use super::*;

    const SIZE: usize = 64 << 20;

    fn plan() -> Plan {
        let text = "format = 1\nboot-code = { file = \"a\", at = 0, length = 440 }\n[[partition]]\nname = \"esp\"\n\
                    kind = \"c12a7328-f81f-11d2-ba4b-00a0c93ec93b\"\nstart = 1048576\nsize = 1048576\nlength = 0\n\
                    sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\nextents = []\n";
        Plan::parse(text).unwrap()
    }

    fn with(changes: &[(usize, &[u8])]) -> Contents {
        let mut disk = MemoryDisk::new(SIZE);
        changes.iter().for_each(|(at, bytes)| disk.put(*at, bytes));
        Contents::of(&disk, &plan()).unwrap()
    }

    #[test]
    fn an_empty_disk_has_nothing_at_either_end() {
        assert_eq!(with(&[]), Contents::Empty);
        assert_eq!(with(&[(30 << 20, b"somewhere in the middle")]), Contents::Empty);
        assert_eq!(with(&[(0, &[0xff; 1 << 20])]), Contents::Empty, "erased flash");
        assert_eq!(with(&[(700_000, b"x")]), Contents::Unknown);
        assert_eq!(with(&[(SIZE - 700_000, b"x")]), Contents::Unknown, "RAID keeps its superblock at the end");
    }

    #[test]
    fn what_somebody_may_want_back_is_named() {
        assert_eq!(with(&[(510, &[0x55, 0xaa])]), Contents::Partitions(Vec::new()));
        assert_eq!(with(&[(0x36, b"FAT1")]).to_string(), "a file system: vfat");
        assert_eq!(
            with(&[(1080, &[0x53, 0xef]), (1024 + 120, b"photos")]).to_string(),
            "a file system: ext \"photos\""
        );
        assert_eq!(with(&[(32769, b"CD001")]).to_string(), "a file system: iso9660");
    }

    #[test]
    fn a_table_is_aios_when_the_plans_partitions_are_in_it() {
        let kind = plan().partitions[0].kind;
        for (name, kind, expected) in [
            ("esp", kind, Contents::Aios),
            ("esp", Guid([1; 16]), Contents::Partitions(vec!["esp".into()])),
            ("EFI", kind, Contents::Partitions(vec!["EFI".into()])),
        ] {
            let mut disk = MemoryDisk::new(SIZE);
            let mut table = Table::new(&disk, Guid([5; 16]));
            table.add(aios_storage::gpt::Entry::new(kind, Guid([6; 16]), 2048, 4095, name)).unwrap();
            table.write(&mut disk).unwrap();
            let mbr = protective_mbr(&disk, &[0; BOOT_CODE]);
            disk.put(0, &mbr);
            assert_eq!(Contents::of(&disk, &plan()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn the_mark_of_an_installation_counts_unless_somebody_used_the_disk_since() {
        assert_eq!(with(&[(0, MARK)]), Contents::Unfinished);
        assert!(with(&[(0, MARK)]).is_free());
        assert_eq!(with(&[(0, MARK), (1080, &[0x53, 0xef])]), Contents::FileSystem("ext".into()));
        assert_eq!(with(&[(0, &MARK[1..])]), Contents::Unknown);
    }
}
