//! `firewall.apply`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    nft::{self, Table},
    pending,
    rule::{Policy, Rule},
};
use crate::{
    access::Access,
    args::Count,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct Apply;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Rules, in their order: of each chain, the first one that fits a packet decides. Up to 128.
    rules: Vec<Rule>,
    /// Packets to this device that no rule names.
    #[serde(default)]
    input_policy: Policy,
    /// Packets through this device that no rule names.
    #[serde(default)]
    forward_policy: Policy,
    /// Packets from this device that no rule names.
    #[serde(default)]
    output_policy: Policy,
    /// What was there comes back after so many seconds unless `firewall.confirm` is called; 0: this stays, and a change
    /// that waits is forgotten.
    #[serde(default)]
    confirm_within_s: Count<0, 3600, 60>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Rules that are there now.
    rules: usize,
    /// Seconds until what was there comes back unless this is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverts_in_s: Option<u64>,
}

impl Tool for Apply {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.apply",
        description: "Replaces all firewall rules of the table inet aios at once, until the next boot. What was there comes back \
                      after 60 s unless confirmed with firewall.confirm, so that a mistake locks nobody out.",
        examples: &[
            Example {
                goal: "let only SSH and answers in",
                arguments: r#"{"input_policy": "drop", "rules": [
                    {"id": "local", "chain": "input", "action": "accept", "interface": "lo"},
                    {"id": "answers", "chain": "input", "action": "accept", "connections": ["established", "related"]},
                    {"id": "ssh", "chain": "input", "action": "accept", "protocol": "tcp", "ports": {"first": 22, "last": 22}}]}"#,
            },
            Example { goal: "remove all firewall rules", arguments: r#"{"rules": []}"# },
        ],
        needs: &["firewall:write:table"],
        risk: Risk::Critical,
        reversible: true,
        sinks: &["/rules", "/input_policy", "/forward_policy", "/output_policy"],
        serial: Some(Serial::Firewall),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        nft::access("firewall:write:table").changes(pending::FOLDER).sees("/proc/sys/kernel/random/boot_id")
    }

    fn inverse(_: &Input, host: &Host) -> Result<Inverse, ToolError> {
        inverse_to(nft::read(host)?.table()?)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let Input { rules, input_policy, forward_policy, output_policy, confirm_within_s } = input;
        let table = Table { rules, input_policy, forward_policy, output_policy };
        table.check()?;
        let seconds = confirm_within_s.get();
        if seconds == 0 {
            // In this order: if this is ended in between, the older state comes back, not an unconfirmed one.
            nft::replace(host, &table)?;
            pending::forget(host)?;
        } else {
            pending::guard(host, seconds, || nft::replace(host, &table))?;
        }
        Ok(Output { rules: table.rules.len(), reverts_in_s: (seconds > 0).then_some(seconds) })
    }
}

/// The call that makes the table what `table` says, for good.
pub fn inverse_to(table: Table) -> Result<Inverse, ToolError> {
    let Table { rules, input_policy, forward_policy, output_policy } = table;
    let confirm_within_s = Count::try_from(0).expect("invariant: 0 is in bounds");
    let input = Input { rules, input_policy, forward_policy, output_policy, confirm_within_s };
    let arguments = serde_json::to_value(input)
        .map_err(|error| ToolError::new(Code::Failed, format!("the rules can't be written: {error}")))?;
    Ok(Inverse::Call { tool: Apply::SPEC.name.to_owned(), arguments })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::firewall::{
            confirm::Confirm,
            pending::{Now, Pending},
            revert::Revert,
            show::Show,
        },
        testing::{apart, call},
    };

    /// A system with this machine's `nft` and with room for the file of a change that waits.
    fn system() -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().expect("tempdir");
        let host = Host::below(folder.path());
        fs::create_dir_all(host.path(pending::FOLDER)).expect("folder");
        fs::create_dir_all(host.path("/usr/sbin")).expect("folder");
        symlink("/usr/sbin/nft", host.path("/usr/sbin/nft")).expect("link");
        fs::create_dir_all(host.path("/proc/sys/kernel/random")).expect("folder");
        fs::write(host.path("/proc/sys/kernel/random/boot_id"), "a-boot\n").expect("write");
        (folder, host)
    }

    fn rules(host: &Host) -> usize {
        call::<Show>(host, json!({})).expect("show")["rules"].as_array().expect("rules").len()
    }

    fn drop_all(seconds: u64) -> serde_json::Value {
        json!({"rules": [{"id": "all", "chain": "input", "action": "drop"}], "confirm_within_s": seconds})
    }

    #[test]
    fn what_nobody_confirms_is_taken_back_by_whoever_reads_the_file() {
        let (_folder, host) = system();
        apart(|| {
            assert_eq!(call::<Apply>(&host, drop_all(60)).expect("apply")["reverts_in_s"], 60);
            assert_eq!(rules(&host), 1);
            // Nothing but the file and the kernel remember the call.
            let pending = Pending::read(&host).expect("read").expect("a change waits");
            let now = Now::of(&host).expect("now");
            assert!(!pending.is_due(&now));
            let later = Now { since_boot: now.since_boot + std::time::Duration::from_secs(61), ..now };
            assert!(pending.is_due(&later));
            pending.revert(&host, &later).expect("revert");
            assert_eq!((rules(&host), Pending::read(&host)), (0, Ok(None)));
            pending.revert(&host, &later).expect("a second time");
        });
    }

    #[test]
    fn a_confirmed_change_stays_and_a_second_one_waits_for_that() {
        let (_folder, host) = system();
        apart(|| {
            assert_eq!(call::<Confirm>(&host, json!({})), Ok(json!({"confirmed": false})));
            call::<Apply>(&host, drop_all(60)).expect("apply");
            let second = call::<Apply>(&host, json!({"rules": []})).map_err(|error| error.code);
            assert_eq!(second, Err(Code::FailedPrecondition));
            assert_eq!(call::<Confirm>(&host, json!({})), Ok(json!({"confirmed": true})));
            assert_eq!(call::<Revert>(&host, json!({})), Ok(json!({"reverted": false})));
            assert_eq!((rules(&host), Pending::read(&host)), (1, Ok(None)));
            call::<Apply>(&host, json!({"rules": []})).expect("apply");
            assert_eq!(rules(&host), 0);
            assert_eq!(call::<Revert>(&host, json!({})), Ok(json!({"reverted": true})));
            assert_eq!(rules(&host), 1);
        });
    }

    #[test]
    fn a_change_of_an_earlier_boot_is_forgotten_and_not_applied_to_this_one() {
        let (_folder, host) = system();
        apart(|| {
            call::<Apply>(&host, drop_all(0)).expect("apply");
            call::<Apply>(&host, json!({"rules": [], "confirm_within_s": 60})).expect("apply");
            fs::write(host.path("/proc/sys/kernel/random/boot_id"), "another-boot\n").expect("write");
            let pending = Pending::read(&host).expect("read").expect("a change waits");
            let now = Now::of(&host).expect("now");
            assert!(pending.is_due(&now));
            pending.revert(&host, &now).expect("revert");
            assert_eq!((rules(&host), Pending::read(&host)), (0, Ok(None)));
        });
    }

    #[test]
    fn a_transaction_with_one_bad_rule_changes_nothing() {
        let (_folder, host) = system();
        apart(|| {
            call::<Apply>(&host, drop_all(0)).expect("apply");
            let twice = json!({"id": "a", "chain": "input", "action": "drop"});
            let code = call::<Apply>(&host, json!({"rules": [twice, twice]})).map_err(|error| error.code);
            assert_eq!(code, Err(Code::InvalidArgument));
            assert_eq!((rules(&host), Pending::read(&host)), (1, Ok(None)));
        });
    }
}
