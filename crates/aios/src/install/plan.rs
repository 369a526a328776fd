//! `aios/install.toml` of a live medium: the partitions of an installed disk and where their bytes are on the medium.

use std::{fs, path::Path};

use aios_storage::gpt::{BOOT_CODE, Guid};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Where the plan is on the medium.
const FILE: &str = "aios/install.toml";

/// The format that this program reads.
const FORMAT: u32 = 1;

/// Partitions begin at multiples of this many bytes; and so much is left free in front of the first.
pub const ALIGNMENT: u64 = 1 << 20;

/// Room for the data partition of the first boot, and for the backup of the table behind it.
const ROOM_BEHIND: u64 = aios_storage::data::SMALLEST + 2 * ALIGNMENT;

/// Why a medium can't be installed from.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No plan.
    #[error("{path}: {source}: this is not the live system; start from the installation medium (the ISO)")]
    NotLive {
        /// Where it was looked for.
        path: String,
        /// Why it can't be read.
        source: std::io::Error,
    },
    /// A plan that can't be followed.
    #[error("{path}: {reason}: the medium is damaged or of another version; write the ISO to it again")]
    Bad {
        /// The plan.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// What belongs on a disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    format: u32,
    /// The boot code of the first sector.
    pub boot_code: BootCode,
    /// The partitions in the order of their numbers and places.
    #[serde(rename = "partition")]
    pub partitions: Vec<Partition>,
}

/// Where the first bytes of the disk are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootCode {
    /// File on the medium.
    pub file: String,
    /// First byte in it.
    pub at: u64,
    length: u64,
}

/// A partition. Sizes and places are in bytes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Name in the table.
    pub name: String,
    /// Type in the table.
    #[serde(deserialize_with = "guid")]
    pub kind: Guid,
    /// Where it begins on the disk.
    pub start: u64,
    /// Its size.
    pub size: u64,
    /// How much of it has contents; behind that it is empty.
    pub length: u64,
    /// Hash of the contents.
    #[serde(deserialize_with = "hash")]
    pub sha256: [u8; 32],
    /// What the contents are made of, in order; zeros lie between.
    pub extents: Vec<Extent>,
}

/// A piece of a partition that is a piece of a file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Where it begins in the partition.
    pub offset: u64,
    /// File on the medium.
    pub file: String,
    /// Where it begins in the file.
    pub at: u64,
    /// Its length.
    pub length: u64,
}

impl Plan {
    /// Reads the plan of the medium mounted at `medium`.
    pub fn read(medium: &Path) -> Result<Plan, PlanError> {
        let path = medium.join(FILE);
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(|source| PlanError::NotLive { path: name.clone(), source })?;
        Plan::parse(&text).map_err(|reason| PlanError::Bad { path: name, reason })
    }

    /// Reads a plan and checks that it can be followed.
    pub fn parse(text: &str) -> Result<Plan, String> {
        let plan: Plan = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        match plan.mistake() {
            None => Ok(plan),
            Some(mistake) => Err(mistake),
        }
    }

    /// Bytes that a disk must have.
    pub fn needed(&self) -> u64 {
        self.partitions.last().map_or(0, |last| last.start + last.size) + ROOM_BEHIND
    }

    fn mistake(&self) -> Option<String> {
        if self.format != FORMAT {
            return Some(format!("it has format {}, and this program knows {FORMAT}", self.format));
        }
        if self.boot_code.length != BOOT_CODE as u64 || !is_on_medium(&self.boot_code.file) {
            return Some(format!("the boot code is not {BOOT_CODE} bytes of a file"));
        }
        if self.partitions.is_empty() {
            return Some("it has no partitions".into());
        }
        let mut free = ALIGNMENT;
        for partition in &self.partitions {
            if let Some(mistake) = partition.mistake(free) {
                return Some(format!("partition {}: {mistake}", partition.name));
            }
            free = partition.start + partition.size;
        }
        None
    }
}

impl Partition {
    fn mistake(&self, free: u64) -> Option<&'static str> {
        // Far beyond every disk, and far from where sums overflow.
        const LARGE: u64 = 1 << 60;
        let numbers = [self.start, self.size, self.length];
        if numbers.iter().any(|number| *number > LARGE || !number.is_multiple_of(512)) || self.size == 0 {
            return Some("its place or size is impossible");
        }
        if self.start < free || !self.start.is_multiple_of(ALIGNMENT) || self.length > self.size {
            return Some("it has no room");
        }
        let mut end = 0;
        for extent in &self.extents {
            let of_file = extent.at.max(extent.length) <= LARGE && is_on_medium(&extent.file);
            if extent.offset < end || extent.offset > self.length || !of_file {
                return Some("its contents are in disorder");
            }
            end = extent.offset + extent.length;
        }
        (end > self.length).then_some("its contents are longer than it says")
    }
}

/// Whether a file's name stays on the medium.
fn is_on_medium(name: &str) -> bool {
    !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn guid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Guid, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = |at: usize| text.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..32).map(digits).collect();
    match bytes.and_then(|bytes| bytes.try_into().ok()) {
        Some(hash) if text.len() == 64 => Ok(hash),
        _ => Err(D::Error::custom("a sha256 has 64 hexadecimal digits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
format = 1
boot-code = { file = "aios/install.bin", at = 0, length = 440 }

[[partition]]
name = "esp"
kind = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
start = 1048576
size = 2097152
length = 8192
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
extents = [ { offset = 512, file = "boot/bzImage", at = 0, length = 7680 } ]
"#;

    #[test]
    fn a_plan_says_how_large_a_disk_must_be() {
        let plan = Plan::parse(PLAN).unwrap();
        assert_eq!(plan.partitions[0].kind.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(plan.partitions[0].sha256[..2], [0xe3, 0xb0]);
        assert_eq!(plan.needed(), (1 + 2 + 64 + 2) << 20);
    }

    #[test]
    fn a_plan_that_cannot_be_followed_is_refused() {
        for (from, to, reason) in [
            ("format = 1", "format = 2", "it has format 2"),
            ("length = 440", "length = 512", "the boot code"),
            ("start = 1048576", "start = 0", "it has no room"),
            ("start = 1048576", "start = 1048577", "its place or size is impossible"),
            ("start = 1048576", "start = 1049088", "it has no room"),
            ("size = 2097152", "size = 9223372036854775807", "its place or size is impossible"),
            ("length = 8192", "length = 4194304", "it has no room"),
            ("length = 7680", "length = 8192", "its contents are longer"),
            ("boot/bzImage", "boot/../../etc/passwd", "in disorder"),
            ("boot/bzImage", "/etc/passwd", "in disorder"),
            ("c12a7328-", "c12a7328", "is not a GUID"),
            ("e3b0c4", "e3b0", "64 hexadecimal digits"),
            ("size =", "colour = 1\nsize =", "unknown field"),
        ] {
            let bad = PLAN.replace(from, to);
            assert_ne!(bad, PLAN);
            let error = Plan::parse(&bad).expect_err(to);
            assert!(error.contains(reason), "{to}: {error}");
        }
    }

    #[test]
    fn without_a_plan_one_is_told_to_start_from_the_medium() {
        let dir = tempfile::tempdir().unwrap();
        let error = Plan::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("install.toml") && error.contains("start from the installation medium"), "{error}");
    }
}
