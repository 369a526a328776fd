//! `firewall.remove_rule`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    nft::{self, Listed, Ruleset},
    pending,
    rule::RuleId,
};
use crate::{
    access::Access,
    args::Count,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct RemoveRule;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name; or give `handle`.
    id: Option<RuleId>,
    /// Its number, as firewall.show has it.
    handle: Option<u64>,
    /// The rule comes back after so many seconds unless `firewall.confirm` is called; 0: it is gone.
    #[serde(default)]
    confirm_within_s: Count<0, 3600, 60>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Rules that are left.
    remaining: usize,
    /// Seconds until it comes back unless this is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverts_in_s: Option<u64>,
}

impl Tool for RemoveRule {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.remove_rule",
        description: "Removes a firewall rule of the table inet aios, by name or by handle. It comes back after 60 s unless confirmed.",
        examples: &[Example { goal: "remove the firewall rule block-telnet", arguments: r#"{"id": "block-telnet"}"# }],
        needs: &["firewall:write:table"],
        risk: Risk::Critical,
        idempotent: false,
        reversible: true,
        sinks: &["/id", "/handle"],
        serial: Some(Serial::Firewall),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        nft::access("firewall:write:table").changes(pending::FOLDER).sees("/proc/sys/kernel/random/boot_id")
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let ruleset = nft::read(host)?;
        the_one(input, &ruleset)?;
        super::apply::inverse_to(ruleset.table()?)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let ruleset = nft::read(host)?;
        let listed = the_one(&input, &ruleset)?;
        let seconds = input.confirm_within_s.get();
        pending::guard(host, seconds, || nft::delete(host, listed))?;
        Ok(Output { remaining: ruleset.rules.len() - 1, reverts_in_s: (seconds > 0).then_some(seconds) })
    }
}

fn the_one<'a>(input: &Input, ruleset: &'a Ruleset) -> Result<&'a Listed, ToolError> {
    if input.id.is_some() == input.handle.is_some() {
        return Err(ToolError::new(Code::InvalidArgument, "give either id or handle"));
    }
    let named = |listed: &&Listed| {
        let id = listed.rule.as_ref().map(|rule| &rule.id);
        input.handle == Some(listed.handle) || (input.id.is_some() && id == input.id.as_ref())
    };
    let missing = || ToolError::new(Code::NotFound, "there is no such rule; firewall.show lists them");
    ruleset.rules.iter().find(named).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::firewall::{apply::Apply, show::Show},
        testing::{apart, call, inverse, undo},
    };

    #[test]
    fn a_removed_rule_comes_back_at_its_place() {
        apart(|| {
            let host = Host::device();
            let rule = |id: &str| json!({"id": id, "chain": "input", "action": "accept", "protocol": "tcp"});
            let table =
                json!({"rules": [rule("a"), rule("b"), rule("c")], "forward_policy": "drop", "confirm_within_s": 0});
            call::<Apply>(&host, table).expect("apply");
            let rules = || {
                let shown = call::<Show>(&host, json!({})).expect("show");
                let rules: Vec<_> =
                    shown["rules"].as_array().expect("rules").iter().map(|line| line["rule"].clone()).collect();
                (rules, shown["policies"].clone())
            };
            let before = rules();
            let arguments = json!({"id": "b", "confirm_within_s": 0});
            let undoing = inverse::<RemoveRule>(&host, &arguments).expect("inverse");
            assert_eq!(call::<RemoveRule>(&host, arguments.clone()).expect("remove")["remaining"], 2);
            assert_eq!(call::<RemoveRule>(&host, arguments).map_err(|error| error.code), Err(Code::NotFound));
            undo(&host, &undoing).expect("a call").expect("undo");
            assert_eq!(rules(), before);
            let handle = call::<Show>(&host, json!({})).expect("show")["rules"][0]["handle"].clone();
            assert!(call::<RemoveRule>(&host, json!({"handle": handle, "confirm_within_s": 0})).is_ok());
            let both = call::<RemoveRule>(&host, json!({"handle": 1, "id": "c"})).map_err(|error| error.code);
            assert_eq!(both, Err(Code::InvalidArgument));
        });
    }
}
