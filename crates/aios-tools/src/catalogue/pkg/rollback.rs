//! `pkg.rollback`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rauc::{self, SlotName};
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct Rollback;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Slot to start next, as pkg.slots has it: the one that does not run.
    slot: SlotName,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Slot that is started at the next boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<String>,
}

impl Tool for Rollback {
    const SPEC: ToolSpec = ToolSpec {
        name: "pkg.rollback",
        description: "Chooses the slot of the system that the boot loader starts next: the earlier system, after a bad update. \
                      Changes nothing until the next boot.",
        examples: &[Example { goal: "go back to the system before the update", arguments: r#"{"slot": "rootfs.1"}"# }],
        needs: &["pkg:rollback:{slot}"],
        risk: Risk::Critical,
        reversible: true,
        sinks: &["/slot"],
        serial: Some(Serial::Slots),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        rauc::access(format!("pkg:rollback:{}", input.slot))
    }

    fn inverse(_: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let Some(primary) = rauc::status(host)?.primary else {
            let text = "rauc does not say which slot is started next: that could not be brought back";
            return Err(ToolError::new(Code::FailedPrecondition, text));
        };
        Ok(Inverse::Call { tool: Self::SPEC.name.to_owned(), arguments: json!({ "slot": primary }) })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        if rauc::status(host)?.slot(&input.slot)?.boot_status.as_deref() == Some("bad") {
            let text = format!("slot {} is marked bad: the device might not start; mark it good first", input.slot);
            return Err(ToolError::new(Code::FailedPrecondition, text));
        }
        rauc::mark(host, "mark-active", &input.slot)?;
        Ok(Output { primary: rauc::status(host)?.primary })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::{
        catalogue::pkg::{mark_bad::MarkBad, mark_good::MarkGood, slots::Slots},
        testing::{call, inverse, undo},
    };

    /// What rauc does to its caller: its answers, in its form, from two files of state.
    const RAUC: &str = r#"#!/bin/sh
set -eu
here=${0%/*}
read -r primary <"$here/primary"
read -r other <"$here/other"
case $* in
"status --detailed --output-format=json")
    printf '{"compatible":"aios","variant":"","booted":"A","boot_primary":"%s","slots":[' "$primary"
    printf '{"rootfs.1":{"class":"rootfs","bootname":"B","state":"inactive","boot_status":"%s"}},' "$other"
    printf '{"rootfs.0":{"class":"rootfs","bootname":"A","state":"booted","boot_status":"good",'
    printf '"slot_status":{"bundle":{"version":"0.1.0"}}}},{"data.0":{"class":"data","bootname":null,"state":"active"}}]}' ;;
"status mark-active rootfs."[01]) echo "$3" >"$here/primary" ;;
"status mark-good rootfs.1") echo good >"$here/other" ;;
"status mark-bad rootfs.1") echo bad >"$here/other" ;;
*) echo "rauc: $* is not known" >&2; exit 1 ;;
esac
"#;

    fn system() -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir_all(host.path("/usr/bin")).expect("folder");
        fs::write(host.path("/usr/bin/rauc"), RAUC).expect("write");
        fs::set_permissions(host.path("/usr/bin/rauc"), fs::Permissions::from_mode(0o755)).expect("mode");
        fs::write(host.path("/usr/bin/primary"), "rootfs.0\n").expect("write");
        fs::write(host.path("/usr/bin/other"), "good\n").expect("write");
        (folder, host)
    }

    #[test]
    fn slots_are_marked_and_chosen_and_that_is_taken_back() {
        let (_folder, host) = system();
        let slots = || call::<Slots>(&host, json!({})).expect("slots");
        let before = slots();
        assert_eq!((&before["booted"], &before["primary"]), (&json!("A"), &json!("rootfs.0")));
        assert_eq!(
            before["slots"][1],
            json!({"name": "rootfs.0", "boot_name": "A", "state": "booted", "boot_status": "good", "version": "0.1.0"})
        );
        let other = json!({"slot": "rootfs.1"});

        let undoing = inverse::<Rollback>(&host, &other).expect("inverse");
        assert_eq!(call::<Rollback>(&host, other.clone()), Ok(json!({"primary": "rootfs.1"})));
        undo(&host, &undoing).expect("a call").expect("undo");
        assert_eq!(slots(), before);

        assert_eq!(inverse::<MarkGood>(&host, &other), Ok(Inverse::Nothing));
        let undoing = inverse::<MarkBad>(&host, &other).expect("inverse");
        assert_eq!(call::<MarkBad>(&host, other.clone()), Ok(json!({"boot_status": "bad"})));
        assert_eq!(call::<Rollback>(&host, other).map_err(|error| error.code), Err(Code::FailedPrecondition));
        undo(&host, &undoing).expect("a call").expect("undo");
        assert_eq!(slots(), before);
    }

    #[test]
    fn what_is_no_slot_to_start_is_refused() {
        let (_folder, host) = system();
        let code = |slot: &str| call::<Rollback>(&host, json!({ "slot": slot })).map_err(|error| error.code);
        assert_eq!(code("rootfs.2"), Err(Code::NotFound));
        assert_eq!(code("data.0"), Err(Code::NotFound));
        for bad in ["--help", "rootfs", "rootfs.", "-a.0", "rootfs.0 x", "ROOTFS.0", "other"] {
            assert_eq!(code(bad), Err(Code::InvalidArgument), "{bad}");
        }
        let folder = tempfile::tempdir().expect("tempdir");
        let none = call::<Slots>(&Host::below(folder.path()), json!({})).map_err(|error| error.code);
        assert_eq!(none, Err(Code::NotInstalled));
    }
}
