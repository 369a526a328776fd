//! `hw.block`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sysfs::{self, Folder};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

const FOLDER: &str = "/sys/block";
/// The kernel counts sizes in sectors of this size, whatever the disk's are.
const SECTOR: u64 = 512;
/// Disks, and partitions of each, that are shown at most.
const DISKS_MAX: usize = 64;
const PARTITIONS_MAX: usize = 64;

pub struct Block;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Disks, cards and other block devices that have a size, the first 64 by name.
    disks: Vec<Disk>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Disk {
    /// The kernel's name; the device node is `/dev/` and this.
    name: String,
    /// Size.
    size_bytes: u64,
    /// Model, as the device says.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Whether it has turning parts.
    rotational: bool,
    /// Whether its medium can be taken out.
    removable: bool,
    /// Whether it can't be written.
    read_only: bool,
    /// Size of the sectors that it really has.
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_sector_bytes: Option<u64>,
    /// Partitions, the first 64.
    partitions: Vec<Partition>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Partition {
    /// The kernel's name.
    name: String,
    /// Number in the table.
    number: u32,
    /// First byte.
    start_bytes: u64,
    /// Size.
    size_bytes: u64,
}

impl Tool for Block {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.block",
        description: "Lists disks and cards with size (bytes), model and partitions.",
        examples: &[Example { goal: "which disks are there", arguments: "{}" }],
        needs: &["hw:read:block"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        sysfs::visible(Access::needs("hw:read:block"), FOLDER)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let disks = host.names(FOLDER).into_iter().filter_map(|name| disk(name, host));
        // Loop devices that nobody uses and drives without a medium have none.
        Ok(Output { disks: disks.filter(|disk| disk.size_bytes > 0).take(DISKS_MAX).collect() })
    }
}

fn disk(name: String, host: &Host) -> Option<Disk> {
    let path = format!("{FOLDER}/{name}");
    let folder = Folder::new(host, &path);
    let mut partitions: Vec<Partition> =
        host.names(&path).into_iter().filter_map(|part| partition(&path, part, host)).collect();
    partitions.sort_by_key(|partition| partition.number);
    partitions.truncate(PARTITIONS_MAX);
    Some(Disk {
        size_bytes: folder.number::<u64>("size")?.saturating_mul(SECTOR),
        model: folder.text("device/model").or_else(|| folder.text("device/name")),
        rotational: folder.is_set("queue/rotational"),
        removable: folder.is_set("removable"),
        read_only: folder.is_set("ro"),
        physical_sector_bytes: folder.number("queue/physical_block_size"),
        partitions,
        name,
    })
}

fn partition(disk: &str, name: String, host: &Host) -> Option<Partition> {
    let path = format!("{disk}/{name}");
    let folder = Folder::new(host, &path);
    Some(Partition {
        number: folder.number("partition")?,
        start_bytes: folder.number::<u64>("start")?.saturating_mul(SECTOR),
        size_bytes: folder.number::<u64>("size")?.saturating_mul(SECTOR),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn partitions_come_in_the_order_of_their_numbers() {
        let system = FakeInit::start(&[]);
        let file = |name: &str, text: &str| system.file(&format!("{FOLDER}/{name}"), text);
        file("loop0/size", "0\n");
        file("mmcblk0/size", "2000\n");
        file("mmcblk0/device/name", "SD32G\n");
        file("mmcblk0/removable", "1\n");
        for (number, start) in [(10, 900), (2, 100)] {
            file(&format!("mmcblk0/mmcblk0p{number}/partition"), &format!("{number}\n"));
            file(&format!("mmcblk0/mmcblk0p{number}/start"), &format!("{start}\n"));
            file(&format!("mmcblk0/mmcblk0p{number}/size"), "100\n");
        }
        let disks = Block::run(Input {}, &system.host()).expect("block").disks;
        let [card] = &disks[..] else { panic!("{disks:?}") };
        assert_eq!((card.size_bytes, card.model.as_deref(), card.removable), (1_024_000, Some("SD32G"), true));
        let starts: Vec<_> = card.partitions.iter().map(|part| (part.number, part.start_bytes)).collect();
        assert_eq!(starts, [(2, 51_200), (10, 460_800)]);
    }
}
