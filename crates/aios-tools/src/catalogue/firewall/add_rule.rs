//! `firewall.add_rule`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{nft, pending, rule::Rule};
use crate::{
    access::Access,
    args::Count,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Serial, Tool, ToolSpec},
};

pub struct AddRule;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The rule.
    rule: Rule,
    /// Before the other rules of its chain, not behind them.
    #[serde(default)]
    first: bool,
    /// The rule is taken back after so many seconds unless `firewall.confirm` is called; 0: it stays.
    #[serde(default)]
    confirm_within_s: Count<0, 3600, 60>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Whether it was not there before.
    changed: bool,
    /// Seconds until it is taken back unless it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverts_in_s: Option<u64>,
}

impl Tool for AddRule {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.add_rule",
        description: "Adds a firewall rule to the table inet aios until the next boot. It is taken back after 60 s unless confirmed.",
        examples: &[
            Example {
                goal: "block telnet",
                arguments: r#"{"rule": {"id": "block-telnet", "chain": "input", "action": "drop", "protocol": "tcp",
                    "ports": {"first": 23, "last": 23}}}"#,
            },
            Example {
                goal: "let nobody but 192.0.2.0/24 in first",
                arguments: r#"{"rule": {"id": "lan", "chain": "input", "action": "accept", "source": "192.0.2.0/24"}, "first": true}"#,
            },
        ],
        needs: &["firewall:write:{rule/chain}"],
        risk: Risk::Critical,
        reversible: true,
        sinks: &["/rule"],
        serial: Some(Serial::Firewall),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = nft::access(format!("firewall:write:{}", input.rule.chain.name()));
        access.changes(pending::FOLDER).sees("/proc/sys/kernel/random/boot_id")
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let ruleset = nft::read(host)?;
        if ruleset.rules.iter().any(|listed| listed.rule.as_ref() == Some(&input.rule)) {
            return Ok(Inverse::Nothing);
        }
        // All of the table, so that one that is made for this rule goes with it.
        super::apply::inverse_to(ruleset.table()?)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        input.rule.check().map_err(|text| ToolError::new(Code::InvalidArgument, text))?;
        let ruleset = nft::read(host)?;
        let same_id =
            ruleset.rules.iter().filter_map(|listed| listed.rule.as_ref()).find(|rule| rule.id == input.rule.id);
        match same_id {
            Some(rule) if *rule == input.rule => return Ok(Output { changed: false, reverts_in_s: None }),
            Some(_) => {
                let text =
                    format!("there is another rule called {}: remove it first, or choose another id", input.rule.id);
                return Err(ToolError::new(Code::AlreadyExists, text));
            }
            None if ruleset.rules.len() >= nft::RULES_MAX => {
                return Err(ToolError::new(Code::TooLarge, format!("there are {} rules already", ruleset.rules.len())));
            }
            None => {}
        }
        let seconds = input.confirm_within_s.get();
        pending::guard(host, seconds, || nft::add(host, &input.rule, input.first, &ruleset))?;
        Ok(Output { changed: true, reverts_in_s: (seconds > 0).then_some(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::firewall::show::Show,
        testing::{apart, call, inverse, undo},
    };

    #[test]
    fn a_rule_is_added_once_at_its_place_and_taken_back() {
        apart(|| {
            let host = Host::device();
            let show = || call::<Show>(&host, json!({})).expect("show");
            let before = show();
            let add = |id: &str, first: bool| json!({"rule": {"id": id, "chain": "input", "action": "drop"}, "first": first, "confirm_within_s": 0});
            let inverse_of_first = inverse::<AddRule>(&host, &add("a", false)).expect("inverse");
            assert_eq!(call::<AddRule>(&host, add("a", false)), Ok(json!({"changed": true})));
            assert_eq!(call::<AddRule>(&host, add("a", false)), Ok(json!({"changed": false})));
            assert_eq!(call::<AddRule>(&host, add("b", true)), Ok(json!({"changed": true})));
            let ids: Vec<_> =
                show()["rules"].as_array().expect("rules").iter().map(|line| line["rule"]["id"].clone()).collect();
            assert_eq!(ids, ["b", "a"]);
            let other = json!({"rule": {"id": "a", "chain": "output", "action": "drop"}});
            assert_eq!(call::<AddRule>(&host, other).map_err(|error| error.code), Err(Code::AlreadyExists));
            undo(&host, &inverse_of_first).expect("a call").expect("undo");
            assert_eq!(show(), before);
        });
    }
}
