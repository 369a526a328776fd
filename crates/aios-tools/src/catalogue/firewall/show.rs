//! `firewall.show`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    nft,
    pending::{self, Now, Pending},
    rule::{Policy, Rule},
};
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

/// Most tables of others that are named.
const OTHERS_MAX: usize = 16;

pub struct Show;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Rules, in their order.
    rules: Vec<Line>,
    /// What happens in each chain to packets that no rule names; no chains: everything passes.
    policies: Vec<ChainPolicy>,
    /// Tables that others made, and these tools leave alone.
    other_tables: Vec<String>,
    /// Seconds until the last change is taken back, where it waits to be confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverts_in_s: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Line {
    /// Its number.
    handle: u64,
    /// Chain.
    chain: String,
    /// The rule; absent where these tools did not make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ChainPolicy {
    /// Chain.
    chain: String,
    /// What happens.
    policy: Policy,
}

impl Tool for Show {
    const SPEC: ToolSpec = ToolSpec {
        name: "firewall.show",
        description: "Shows the firewall's rules (table inet aios), policies, and whether a change waits to be confirmed.",
        examples: &[Example { goal: "show the firewall rules", arguments: "{}" }],
        needs: &["firewall:read:table"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        nft::access("firewall:read:table").sees(pending::FOLDER).sees("/proc/sys/kernel/random/boot_id")
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        let ruleset = nft::read(host)?;
        let reverts_in_s = match Pending::read(host)? {
            None => None,
            Some(pending) => Some(pending.left(&Now::of(host)?).map_or(0, |left| left.as_secs())),
        };
        Ok(Output {
            rules: ruleset.rules.into_iter().map(|l| Line { handle: l.handle, chain: l.chain, rule: l.rule }).collect(),
            policies: ruleset.chains.into_iter().map(|(chain, policy)| ChainPolicy { chain, policy }).collect(),
            other_tables: ruleset.others.into_iter().take(OTHERS_MAX).collect(),
            reverts_in_s,
        })
    }
}
