//! Every agent of the image's policy x every tool x its arguments, against the policy's own oracle.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use aios_policy::{
    Capability, Decision, Grants, Origin, Policy, RateLimiter, Request, Taint, Timestamp, Verified, Verifier, decide,
    policy::Layer,
    token::{Authority, Ending, Token, TokenId},
};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use self::oracle::{Call, Expected, Oracle};
use super::*;
use crate::access::Access;

#[path = "../../../aios-policy/tests/support/oracle.rs"]
mod oracle;

const IMAGE: &str = include_str!("../../../../overlay/etc/aios/policy.toml");

const NOW: Timestamp = Timestamp(1_000);

/// What stands in for the paths of the examples: in the folders that agents have, at their edges, beside them, and denied.
const PATHS: [&str; 10] = [
    "/etc/hosts",
    "/etc/shadow",
    "/srv/a",
    "/srv",
    "/srvx/a",
    "/tmp/a/b",
    "/var/log/messages",
    "/var/lib/aios/keys/ledger.key",
    "/var/lib/aios/config/policy.toml",
    "/proc/1/environ",
];

const ORIGINS: [&str; 4] = ["user", "web", "mqtt", "model"];

/// Issuer, capabilities and tools of the tokens that agents come with.
type Granted = (&'static str, &'static [&'static str], &'static [&'static str]);

const TOKENS: [Option<Granted>; 4] = [
    None,
    Some(("operator", &["*:*:**"], &[])),
    Some(("task", &["fs:*:/srv/**", "*:read:**"], &["fs.read", "fs.write", "fs.delete", "git.log"])),
    Some(("nobody", &["*:*:**"], &[])),
];

/// An example's arguments, and the same with other paths.
fn arguments(example: &str) -> Vec<Value> {
    let given: Value = serde_json::from_str(example).expect("JSON");
    let mut all = vec![given.clone()];
    for (name, value) in given.as_object().expect("an object") {
        if value.as_str().is_some_and(|text| text.starts_with('/')) {
            all.extend(PATHS.iter().map(|path| {
                let mut other = given.clone();
                other[name] = Value::from(*path);
                other
            }));
        }
    }
    all
}

/// What a call needs, and what it looks through.
type Needs = (Vec<String>, Vec<String>);

/// The needs of a tool's calls, each once. What they look through are folders here.
fn needs(tool: &Entry) -> BTreeSet<Needs> {
    let all = tool.spec.examples.iter().flat_map(|example| arguments(example.arguments));
    let needs = |access: Access| {
        let below = |path: &PathBuf| format!("fs:read:{}/**", path.display());
        (access.capabilities, access.through.iter().map(below).collect())
    };
    let needs: BTreeSet<_> = all.filter_map(|given| tool.access(&given).ok()).map(needs).collect();
    assert!(!needs.is_empty(), "{} takes none of its examples", tool.spec.name);
    // The oracle would take a star for a wildcard.
    assert!(needs.iter().flat_map(|(needs, _)| needs).all(|need| !need.contains('*')), "{needs:?}");
    needs
}

/// What the oracle tries for all that is below a folder: what no line names, and what only some lines name.
fn resources() -> Vec<String> {
    let looked_through = all().flat_map(needs).flat_map(|(_, through)| through);
    let tried = |folder: &str| ["", "odd", "odd/odd"].map(|below| format!("{folder}{below}"));
    looked_through.flat_map(|below| tried(below.trim_end_matches("**"))).collect()
}

fn made((issuer, capabilities, tools): Granted, subject: &str) -> Verified {
    let device = SigningKey::from_bytes(&[1; 32]);
    let authority = Authority {
        id: TokenId([0; 16]),
        issuer: issuer.into(),
        subject: subject.into(),
        capabilities: capabilities.iter().map(|text| text.parse().expect("capability")).collect(),
        tools: (!tools.is_empty()).then(|| tools.iter().map(|tool| (*tool).to_owned()).collect()),
        not_after: NOW,
    };
    let token = Token::mint(&device, &authority, Ending::Sealed).expect("token");
    Verifier::new(device.verifying_key()).verify(token.as_str(), NOW).expect("verified")
}

fn decided(
    policy: &Policy,
    tool: &Entry,
    (needs, through): &Needs,
    agent: &str,
    origin: &str,
    token: Option<&Verified>,
) -> Expected {
    let needs: Vec<Capability> = needs.iter().map(|need| Capability::literal(need).expect("capability")).collect();
    let through: Vec<Capability> = through.iter().map(|below| below.parse().expect("capability")).collect();
    let mut taint = Taint::of(Origin::Web);
    for sink in tool.spec.sinks {
        taint = taint.with(sink, [origin.parse().expect("origin")]).expect("pointer");
    }
    let request = Request {
        agent,
        tool: tool.spec.name,
        risk: tool.spec.risk,
        needs: &needs,
        through: &through,
        sinks: tool.spec.sinks,
        taint: &taint,
        token,
        now: NOW,
        uptime: Duration::ZERO,
    };
    match decide(policy, &Grants::default(), &mut RateLimiter::default(), &request) {
        Decision::Allow => Expected::Allow,
        Decision::NeedsApproval(reasons) => Expected::Approve(reasons.iter().map(ToString::to_string).collect()),
        Decision::Deny(denial) => {
            let stages = ["identity", "capability", "rate", "taint"];
            let stage = stages.into_iter().find(|stage| *stage == denial.stage.to_string()).expect("a stage");
            Expected::Deny(stage, denial.missing.iter().map(ToString::to_string).collect())
        }
    }
}

#[test]
fn every_agent_may_do_with_every_tool_what_the_oracle_says() {
    let policy = Policy::from_layers(&[Layer { path: "policy.toml".into(), text: IMAGE.into() }]).expect("policy");
    let resources = resources();
    let oracle = Oracle { policy: IMAGE.parse().expect("TOML"), resources: &resources };
    let agents: Vec<&str> = policy.agents.keys().map(String::as_str).chain(["stranger"]).collect();
    // Rows of each outcome, in all and for this tool.
    let (mut outcomes, mut stages) = ([0_usize; 3], BTreeSet::new());
    for tool in all() {
        let mut of_tool = [0_usize; 3];
        let needs = needs(tool);
        for (agent, token) in agents.iter().flat_map(|agent| TOKENS.map(|token| (*agent, token))) {
            let verified = token.map(|token| made(token, agent));
            for (class, origin) in needs.iter().flat_map(|class| ORIGINS.map(|origin| (class, origin))) {
                let (needs, through) = class;
                let sinks: Vec<(&str, &str)> = tool.spec.sinks.iter().map(|sink| (*sink, origin)).collect();
                let call = Call {
                    agent,
                    tool: tool.spec.name,
                    risk: tool.spec.risk as usize,
                    needs,
                    through,
                    sinks: &sinks,
                    token: token.map(|(issuer, capabilities, tools)| oracle::Token {
                        issuer,
                        capabilities: vec![capabilities.to_vec()],
                        tools: if tools.is_empty() { Vec::new() } else { vec![tools.to_vec()] },
                    }),
                    granted: &[],
                };
                let found = decided(&policy, tool, class, agent, origin, verified.as_ref());
                assert_eq!(
                    found,
                    oracle.decide(&call),
                    "{agent} {} {class:?} from {origin}, {token:?}",
                    tool.spec.name
                );
                of_tool[match &found {
                    Expected::Allow => 0,
                    Expected::Approve(_) => 1,
                    Expected::Deny(stage, _) => {
                        stages.insert(*stage);
                        2
                    }
                }] += 1;
            }
        }
        // The operator may call every tool, and somebody may not.
        assert!(of_tool[0] + of_tool[1] > 0 && of_tool[2] > 0, "{}: {of_tool:?}", tool.spec.name);
        (0..3).for_each(|outcome| outcomes[outcome] += of_tool[outcome]);
    }
    assert!(outcomes.iter().all(|count| *count > 500), "every outcome is there: {outcomes:?}");
    assert_eq!(stages, BTreeSet::from(["capability", "identity", "taint"]));
}
