//! `hw.memory`

use std::{fs::File, io::Read as _};

use rustix::param::page_size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::smbios::{self, Slot};
use crate::{
    access::{Access, Privilege},
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

const MEMINFO: &str = "/proc/meminfo";
const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
const NODES: &str = "/sys/devices/system/node";
/// Larger tables of a firmware are cut.
const TABLE_MAX: u64 = 1 << 20;
/// Slots that are shown at most, and characters of their texts.
const SLOTS_MAX: usize = 64;
const TEXT_MAX: usize = 64;

pub struct Memory;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Memory that the kernel manages.
    total_bytes: u64,
    /// Size of a page.
    page_bytes: usize,
    /// Nodes (NUMA) that the memory is spread over.
    nodes: usize,
    /// Huge pages that are set aside.
    huge_pages: u64,
    /// Slots, as a PC's firmware lists them, the first 64; empty on other machines.
    slots: Vec<Module>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Module {
    /// Where on the board.
    place: String,
    /// Size; 0 for an empty slot.
    size_bytes: u64,
    /// Millions of transfers a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mt_per_s: Option<u32>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<String>,
    /// The maker's name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
}

impl Tool for Memory {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.memory",
        description: "Shows the memory that is built in (bytes): total, nodes, and on PCs the slots with size, speed and maker. monitor.memory shows what is in use.",
        examples: &[Example { goal: "how much memory is built in", arguments: "{}" }],
        needs: &["hw:read:memory"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        // Only root may read the firmware's tables.
        Access::needs("hw:read:memory").sees(MEMINFO).sees(NODES).sees(TABLE).with(Privilege::ReadAll)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let meminfo = host.text(MEMINFO)?;
        let field = |key: &str| -> Option<u64> {
            let value = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            value.trim().trim_end_matches(" kB").parse().ok()
        };
        let total = field("MemTotal").and_then(|kib| kib.checked_mul(1024));
        let total_bytes =
            total.ok_or_else(|| ToolError::new(Code::Failed, format!("{MEMINFO} is not what proc(5) describes")))?;
        let is_node = |name: &String| name.strip_prefix("node").is_some_and(|number| number.parse::<u32>().is_ok());
        Ok(Output {
            total_bytes,
            page_bytes: page_size(),
            nodes: host.names(NODES).iter().filter(|name| is_node(name)).count().max(1),
            huge_pages: field("HugePages_Total").unwrap_or_default(),
            slots: slots(host),
        })
    }
}

fn slots(host: &Host) -> Vec<Module> {
    let mut table = Vec::new();
    // Where there is no firmware of this kind, or it can't be read, nothing is known of slots.
    if let Ok(file) = File::open(host.path(TABLE)) {
        let _ = file.take(TABLE_MAX).read_to_end(&mut table);
    }
    let module = |slot: Slot| Module {
        place: plain(&slot.place, TEXT_MAX),
        size_bytes: slot.size_bytes,
        speed_mt_per_s: slot.speed_mt_per_s,
        manufacturer: slot.manufacturer.map(|text| plain(&text, TEXT_MAX)),
        part: slot.part.map(|text| plain(&text, TEXT_MAX)),
    };
    smbios::memory_slots(&table).into_iter().take(SLOTS_MAX).map(module).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn memory_is_told_with_and_without_a_firmwares_tables() {
        let system = FakeInit::start(&[]);
        system.file(MEMINFO, "MemTotal:  2000 kB\nHugePages_Total:  3\n");
        system.file(&format!("{NODES}/node0/cpulist"), "0");
        system.file(&format!("{NODES}/node1/cpulist"), "1");
        system.file(TABLE, "no table at all");
        let output = Memory::run(Input {}, &system.host()).expect("memory");
        assert_eq!((output.total_bytes, output.nodes, output.huge_pages), (2000 << 10, 2, 3));
        assert_eq!(output.slots, []);
        system.file(MEMINFO, "MemTotal: much\n");
        assert!(Memory::run(Input {}, &system.host()).is_err());
    }
}
