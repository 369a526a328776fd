//! `sec.integrity`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    error::ToolError,
    facts::Fact,
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

/// Flags of `/proc/sys/kernel/tainted` by their bits (Documentation/admin-guide/tainted-kernels.rst).
const TAINTS: [&str; 19] = [
    "proprietary module",
    "module forced in",
    "unsafe system",
    "module forced out",
    "machine check",
    "bad page",
    "requested by a user",
    "died (oops or bug)",
    "ACPI table overridden",
    "warning",
    "staging driver",
    "firmware workaround",
    "out-of-tree module",
    "unsigned module",
    "soft lockup",
    "live patch",
    "auxiliary",
    "randomised struct layout",
    "in-kernel test",
];

pub struct Integrity;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether the root file system can't be written.
    root_read_only: bool,
    /// File system of the root.
    root_kind: String,
    /// Whether the kernel command line asks for dm-verity for the root, and a device mapper device stands for it.
    dm_verity: Verity,
    /// `none`, `integrity` or `confidentiality`; absent where the kernel has no lockdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    lockdown: Option<String>,
    /// Security modules that are active; empty where the kernel says nothing.
    security_modules: Vec<String>,
    /// Why the kernel is not as it was built; empty where it is.
    taints: Vec<String>,
    /// Whether kernel modules that nobody signed are refused; absent where it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    module_signatures_enforced: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Verity {
    /// Whether the root's hash is on the kernel command line.
    configured: bool,
    /// Device mapper devices whose kind is verity, by name.
    devices: Vec<String>,
}

impl Tool for Integrity {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.integrity",
        description: "Says how the system is protected from changes: read-only root, dm-verity, kernel lockdown, security modules, taint.",
        examples: &[Example { goal: "is this system as it was shipped", arguments: "{}" }],
        needs: &["sec:read:integrity"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        let access = Access::needs("sec:read:integrity").among_processes().knows(Fact::Mounts);
        ["/sys/kernel/security", "/sys/module", "/sys/block", "/sys/devices/virtual/block"]
            .iter()
            .fold(access, Access::sees)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        // Of the first process: what the sandbox shows as its root is its own.
        let mounts = host.text("/proc/1/mountinfo")?;
        let (root_kind, root_read_only) = root(&mounts).unwrap_or_default();
        let tainted = host.line("/proc/sys/kernel/tainted").and_then(|line| line.trim().parse().ok()).unwrap_or(0_u64);
        let command_line = host.line("/proc/cmdline").unwrap_or_default();
        Ok(Output {
            root_read_only,
            root_kind,
            dm_verity: Verity { configured: has_root_hash(&command_line), devices: verity_devices(host) },
            lockdown: host.line("/sys/kernel/security/lockdown").and_then(|line| chosen(&line)),
            security_modules: modules(host),
            taints: taints(tainted),
            module_signatures_enforced: host.line("/sys/module/module/parameters/sig_enforce").map(|line| line == "Y"),
        })
    }
}

/// File system and mode of the last mount at `/` (proc_pid_mountinfo(5)).
fn root(mounts: &str) -> Option<(String, bool)> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let (mount, super_block) = line.split_once(" - ")?;
    let mut fields = super_block.split(' ');
    let kind = plain(fields.next()?, 32);
    let read_only =
        |options: Option<&str>| options.is_some_and(|options| options.split(',').any(|option| option == "ro"));
    Some((kind, read_only(mount.split(' ').nth(5)) || read_only(fields.nth(1))))
}

fn has_root_hash(command_line: &str) -> bool {
    command_line.split_ascii_whitespace().any(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        matches!(key, "roothash" | "verity.roothash" | "aios.roothash" | "aios.verity" | "dm-mod.create")
            && !value.is_empty()
    })
}

/// `CRYPT-VERITY-...` is what dm-verity's tools call their devices, in the device's own id.
fn verity_devices(host: &Host) -> Vec<String> {
    let devices = host.names("/sys/block").into_iter().filter(|name| name.starts_with("dm-"));
    let named = devices.filter_map(|device| {
        let id = host.line(format!("/sys/block/{device}/dm/uuid")).unwrap_or_default();
        let name = host.line(format!("/sys/block/{device}/dm/name"))?;
        (id.contains("VERITY") || name.contains("verity")).then(|| plain(&name, 64))
    });
    named.take(16).collect()
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(line: &str) -> Option<String> {
    Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn modules(host: &Host) -> Vec<String> {
    let line = host.line("/sys/kernel/security/lsm").unwrap_or_default();
    line.split(',').filter(|name| !name.is_empty()).map(|name| plain(name, 32)).collect()
}

fn taints(mask: u64) -> Vec<String> {
    let name = |bit: usize| TAINTS.get(bit).map_or_else(|| format!("bit {bit}"), ToString::to_string);
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::testing::call;

    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        for (path, text) in files {
            let path = host.path(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("write");
        }
        (folder, host)
    }

    #[test]
    fn a_protected_system_says_so() {
        let (_folder, host) = system(&[
            (
                "/proc/1/mountinfo",
                "20 1 254:0 / / ro,relatime shared:1 - erofs /dev/dm-0 ro,user_xattr\n21 20 0:5 / /dev rw - tmpfs dev rw\n",
            ),
            ("/proc/sys/kernel/tainted", "0\n"),
            ("/proc/cmdline", "quiet roothash=0123 root=/dev/dm-0\n"),
            ("/sys/block/dm-0/dm/uuid", "CRYPT-VERITY-0123-root\n"),
            ("/sys/block/dm-0/dm/name", "root\n"),
            ("/sys/block/sda/size", "1\n"),
            ("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            ("/sys/kernel/security/lsm", "lockdown,capability,landlock\n"),
            ("/sys/module/module/parameters/sig_enforce", "Y\n"),
        ]);
        let expected = json!({
            "root_read_only": true, "root_kind": "erofs", "dm_verity": {"configured": true, "devices": ["root"]},
            "lockdown": "integrity", "security_modules": ["lockdown", "capability", "landlock"], "taints": [],
            "module_signatures_enforced": true,
        });
        assert_eq!(call::<Integrity>(&host, json!({})), Ok(expected));
    }

    #[test]
    fn a_bare_system_is_not_said_to_be_protected() {
        let (_folder, host) = system(&[
            ("/proc/1/mountinfo", "broken\n20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
            ("/proc/sys/kernel/tainted", "4609\n"),
            ("/proc/cmdline", "roothash= quiet\n"),
        ]);
        let answer = call::<Integrity>(&host, json!({})).expect("integrity");
        assert_eq!((&answer["root_read_only"], &answer["root_kind"]), (&json!(false), &json!("ext4")));
        assert_eq!(answer["dm_verity"], json!({"configured": false, "devices": []}));
        assert_eq!(answer["taints"], json!(["proprietary module", "warning", "out-of-tree module"]));
        assert_eq!(answer.get("lockdown"), None);
    }
}
