//! Every agent of the image's policy x every class of tools x every class of arguments, against an oracle.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/oracle.rs"]
mod oracle;

use std::{collections::BTreeSet, time::Duration};

use aios_policy::{
    Capability, Decision, Grants, Origin, Peer, Policy, RateLimiter, Request, Risk, Taint, Timestamp, Verified,
    Verifier, decide,
    policy::Layer,
    token::{Authority, Caveats, Ending, Token, TokenId},
};
use ed25519_dalek::SigningKey;
use oracle::{Call, Expected, Oracle};

const IMAGE: &str = include_str!("../../../overlay/etc/aios/policy.toml");

/// Rules of all kinds, some of which the image's policy has none of.
const RULES: &str = r#"
deny = ["fs:*:/dev/**", "fs:*:/var/lib/aios/keys/**", "*:*:**/private/**"]
[agents.task]
deny = ["fs:write:/srv/www/**"]
[agents.web]
vouches = ["user"]
[tools."fs.write"]
sinks = ["/mode"]
risk = "high"
[tools."net.route"]
approval = "never"
[tools."monitor.load"]
approval = "always"
[taint]
trusted = ["operator", "user", "memory"]
[[taint.rules]]
tools = ["service.*"]
origins = ["log"]
action = "allow"
[[taint.rules]]
tools = ["fs.write", "net.*"]
origins = ["web", "mqtt", "tool:web.fetch"]
action = "deny"
[[taint.rules]]
tools = ["email.*"]
action = "deny"
[[taint.rules]]
tools = ["*"]
origins = ["mqtt"]
action = "allow"
"#;

const NOW: Timestamp = Timestamp(1_000);

/// Classes of tools: name, risk, actions that it needs, dangerous arguments.
const TOOLS: [(&str, Risk, &[&str], &[&str]); 20] = [
    ("fs.read", Risk::Low, &["fs:read"], &[]),
    ("fs.search", Risk::Low, &["fs:read"], &["/path"]),
    ("fs.write", Risk::Medium, &["fs:write"], &["/path"]),
    ("fs.move", Risk::High, &["fs:read", "fs:write"], &["/path", "/mode"]),
    ("process.list", Risk::Low, &["process:read"], &[]),
    ("process.signal", Risk::High, &["process:signal"], &["/path"]),
    ("service.restart", Risk::Medium, &["service:restart"], &["/path"]),
    ("net.links", Risk::Low, &["net:read"], &[]),
    ("net.route", Risk::Critical, &["net:route"], &["/path"]),
    ("net.address", Risk::High, &["net:address"], &["/path", "/mode"]),
    ("firewall.allow", Risk::Critical, &["firewall:write"], &["/path"]),
    ("pkg.install", Risk::High, &["pkg:install"], &["/path"]),
    ("sec.baseline", Risk::Low, &["sec:read"], &[]),
    ("monitor.load", Risk::Low, &["monitor:read"], &[]),
    ("hw.disks", Risk::Low, &["hw:read"], &[]),
    ("web.fetch", Risk::Medium, &["web:fetch", "fs:write"], &["/path"]),
    ("git.push", Risk::High, &["git:push"], &["/path"]),
    ("self.grants", Risk::Low, &["self:read"], &[]),
    ("plugin.run", Risk::High, &["plugin:run"], &["/path"]),
    ("email.send", Risk::High, &["email:send"], &["/path", "/mode"]),
];

/// Classes of arguments: what the call is about, a path in `fs` and a name elsewhere.
const RESOURCES: [(&str, &str); 12] = [
    ("/etc/hosts", "eth0"),
    ("/etc/ssl/cert.pem", "wlan0"),
    ("/etc/shadow-", "0"),
    ("/var/log/messages", "www.example.com"),
    ("/var/lib/aios/keys/models.key", "aios-runtime"),
    ("/var/lib/aios/config/secrets/token", "main/private/x"),
    ("/srv/www/index.html", "1/2/3"),
    ("/srv/downloads/page", "all"),
    ("/home/user/private/diary", "root-b"),
    ("/tmp/x", "me@example.com"),
    ("/dev/sda", "a b"),
    ("/", "x"),
];

/// Folders with all below them.
const TREES: [&str; 4] = ["/srv", "/var/lib", "/var/log", "/tmp"];

const ORIGINS: [&str; 8] = ["user", "operator", "tool:web.fetch", "web", "mqtt", "log", "memory", "model"];

fn policy(texts: &[&str]) -> Policy {
    let layers: Vec<Layer> =
        texts.iter().map(|text| Layer { path: "policy.toml".into(), text: (*text).into() }).collect();
    Policy::from_layers(&layers).unwrap()
}

/// As layers are merged: sections key by key, anything else as a whole.
fn merged(texts: &[&str]) -> toml::Table {
    fn lay(lower: &mut toml::Table, upper: toml::Table) {
        for (key, value) in upper {
            match (lower.get_mut(&key).and_then(toml::Value::as_table_mut), value) {
                (Some(below), toml::Value::Table(above)) => lay(below, above),
                (_, value) => drop(lower.insert(key, value)),
            }
        }
    }
    let mut table = toml::Table::new();
    texts.iter().for_each(|text| lay(&mut table, text.parse().unwrap()));
    table
}

/// The needs of a tool for each class of arguments, and what it looks through.
fn needs(actions: &[&str]) -> Vec<(Vec<String>, Vec<String>)> {
    let exact = |path: &str, name: &str| -> Vec<String> {
        let resource = |action: &str| if action.starts_with("fs:") { path.to_owned() } else { name.to_owned() };
        actions.iter().map(|action| format!("{action}:{}", resource(action))).collect()
    };
    let mut all: Vec<_> = RESOURCES.iter().map(|(path, name)| (exact(path, name), Vec::new())).collect();
    if actions.iter().all(|action| action.starts_with("fs:")) {
        for tree in TREES {
            let below: Vec<String> = actions.iter().map(|action| format!("{action}:{tree}/**")).collect();
            all.push((exact(tree, ""), below.clone()));
            all.push((below, Vec::new()));
        }
    }
    all
}

/// What the oracle tries for a need with wildcards: below each folder, something that no line names, and all that the
/// table and the policies name.
fn resources() -> Vec<String> {
    let mut paths: BTreeSet<String> = RESOURCES.iter().map(|(path, _)| (*path).to_owned()).collect();
    for tree in TREES {
        paths.extend(["odd", "odd/odd", "private/x", "www/x"].map(|below| format!("{tree}/{below}")));
        paths.insert(format!("{tree}/"));
    }
    let both = |path: &String| ["read", "write"].map(|action| format!("fs:{action}:{path}"));
    paths.iter().flat_map(both).collect()
}

/// How the caller comes by its rights.
enum Way {
    Own,
    Granted(&'static [&'static str]),
    Token(oracle::Token<'static>),
}

fn ways() -> Vec<Way> {
    let token = |issuer, capabilities: &[&[&'static str]], tools: &[&[&'static str]]| {
        let lists = |lists: &[&[&'static str]]| lists.iter().map(|list| list.to_vec()).collect();
        Way::Token(oracle::Token { issuer, capabilities: lists(capabilities), tools: lists(tools) })
    };
    vec![
        Way::Own,
        Way::Granted(&["fs:*:/srv/**", "net:*:**"]),
        Way::Granted(&["fs:read:/etc/*", "*:read:**", "email:send:*@example.com"]),
        token("operator", &[&["*:*:**"]], &[]),
        token("operator", &[&["fs:*:**", "net:*:*"], &["fs:*:/srv/**", "fs:read:/etc/hosts", "net:*:eth*"]], &[]),
        token(
            "task",
            &[&["*:*:**"], &["fs:*:/*/**", "git:push:**"]],
            &[&["fs.write", "fs.read", "git.push"], &["fs.write"]],
        ),
        token("nobody", &[&["*:*:**"]], &[]),
    ]
}

/// The token itself, made and checked as it would be.
fn made(token: &oracle::Token<'_>, subject: &str) -> Verified {
    let device = SigningKey::from_bytes(&[1; 32]);
    let capabilities = |block: usize| -> Option<Vec<Capability>> {
        token.capabilities.get(block).map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect())
    };
    let tools = |block: usize| -> Option<BTreeSet<String>> {
        token.tools.get(block).map(|tools| tools.iter().map(|tool| (*tool).to_owned()).collect())
    };
    let authority = Authority {
        id: TokenId([0; 16]),
        issuer: token.issuer.into(),
        subject: subject.into(),
        capabilities: capabilities(0).unwrap(),
        tools: tools(0),
        not_after: NOW,
    };
    let made = Token::mint(&device, &authority, Ending::Open([2; 32])).unwrap();
    let caveats = Caveats { capabilities: capabilities(1), tools: tools(1), not_after: None };
    let made = made.attenuate(&caveats, Ending::Sealed).unwrap();
    Verifier::new(device.verifying_key()).verify(made.as_str(), NOW).unwrap()
}

/// A row of the table as both sides see it.
struct Row<'a> {
    agent: &'a str,
    tool: &'a str,
    risk: Risk,
    needs: &'a [String],
    through: &'a [String],
    sinks: &'a [&'a str],
    origin: &'a str,
    token: Option<&'a Verified>,
}

fn decided(policy: &Policy, grants: &Grants, row: &Row<'_>) -> Decision {
    // A need with a wildcard is one of a tool that walks; the others mean what they say.
    let need = |text: &String| if text.contains('*') { text.parse() } else { Capability::literal(text) }.unwrap();
    let needs: Vec<Capability> = row.needs.iter().map(need).collect();
    let through: Vec<Capability> = row.through.iter().map(need).collect();
    // Only the sinks come from there: what else is in the arguments makes no difference.
    let mut taint = Taint::of(Origin::Web);
    for sink in ["/path", "/mode"] {
        taint = taint.with(sink, [row.origin.parse().unwrap()]).unwrap();
    }
    let request = Request {
        agent: row.agent,
        tool: row.tool,
        risk: row.risk,
        needs: &needs,
        through: &through,
        sinks: row.sinks,
        taint: &taint,
        token: row.token,
        now: NOW,
        uptime: Duration::ZERO,
    };
    decide(policy, grants, &mut RateLimiter::default(), &request)
}

fn shown(decision: Decision) -> Expected {
    match decision {
        Decision::Allow => Expected::Allow,
        Decision::NeedsApproval(reasons) => Expected::Approve(reasons.iter().map(ToString::to_string).collect()),
        Decision::Deny(denial) => {
            let stage = ["identity", "capability", "rate", "taint"];
            let stage = stage.into_iter().find(|stage| *stage == denial.stage.to_string()).unwrap();
            Expected::Deny(stage, denial.missing.iter().map(ToString::to_string).collect())
        }
    }
}

fn granted(policy: &Policy, subject: &str, capabilities: &[&str]) -> Grants {
    let mut grants = Grants::default();
    for text in capabilities {
        let capability = text.parse().unwrap();
        grants.add(policy, "operator", subject, capability, Duration::from_secs(60), NOW).unwrap();
    }
    grants
}

/// Compares all rows, and returns how many there were of each outcome.
fn table(texts: &[&str]) -> [usize; 3] {
    let (policy, resources) = (policy(texts), resources());
    let oracle = Oracle { policy: merged(texts), resources: &resources };
    let agents: Vec<&str> = policy.agents.keys().map(String::as_str).chain(["stranger"]).collect();
    let mut outcomes = [0; 3];
    for (agent, way) in agents.iter().flat_map(|agent| ways().into_iter().map(move |way| (*agent, way))) {
        // Nobody grants to themselves, or to somebody whom the policy doesn't know.
        let grants = match &way {
            Way::Granted(_) if agent == "operator" || agent == "stranger" => continue,
            Way::Granted(capabilities) => granted(&policy, agent, capabilities),
            _ => Grants::default(),
        };
        let token = if let Way::Token(token) = &way { Some(made(token, agent)) } else { None };
        for (tool, risk, actions, sinks) in TOOLS {
            for (class, origin) in needs(actions).iter().flat_map(|class| ORIGINS.map(|origin| (class, origin))) {
                let (needs, through) = class;
                let row = Row { agent, tool, risk, needs, through, sinks, origin, token: token.as_ref() };
                let mut pointers: BTreeSet<&str> = sinks.iter().copied().collect();
                let rule = policy.tools.get(tool);
                pointers.extend(rule.iter().flat_map(|rule| &rule.sinks).map(String::as_str));
                let call = Call {
                    agent,
                    tool,
                    risk: risk as usize,
                    needs,
                    through,
                    sinks: &pointers.iter().map(|pointer| (*pointer, origin)).collect::<Vec<_>>(),
                    token: if let Way::Token(token) = &way { Some(token.clone()) } else { None },
                    granted: if let Way::Granted(capabilities) = way { capabilities } else { &[] },
                };
                let (found, expected) = (shown(decided(&policy, &grants, &row)), oracle.decide(&call));
                assert_eq!(found, expected, "{agent} {tool} {class:?} from {origin}, token: {token:?}");
                outcomes[match found {
                    Expected::Allow => 0,
                    Expected::Approve(_) => 1,
                    Expected::Deny(..) => 2,
                }] += 1;
            }
        }
    }
    outcomes
}

#[test]
fn the_images_policy_decides_as_the_oracle_says() {
    let outcomes = table(&[IMAGE]);
    assert!(outcomes.iter().all(|count| *count > 1_000), "every outcome is there: {outcomes:?}");
}

#[test]
fn rules_of_all_kinds_decide_as_the_oracle_says() {
    let outcomes = table(&[IMAGE, RULES]);
    assert!(outcomes.iter().all(|count| *count > 1_000), "every outcome is there: {outcomes:?}");
}

#[test]
fn no_agent_but_the_operator_has_a_folder_around_what_is_denied() {
    let policy = policy(&[IMAGE]);
    let mut folders = BTreeSet::new();
    for line in policy.deny.iter().filter(|line| line.namespace() == "fs") {
        let path = line.resource();
        folders.extend(path.match_indices('/').skip(1).map(|(end, _)| path[..end].to_owned()));
    }
    assert!(folders.contains("/var/lib/aios") && folders.contains("/var/lib/aios/keys"), "{folders:?}");
    for (agent, action) in policy.agents.keys().flat_map(|agent| ["read", "write"].map(|action| (agent, action))) {
        for folder in &folders {
            let need = Capability::exact("fs", action, folder).unwrap();
            assert!(agent == "operator" || !policy.holds(agent, &need), "{agent}: {need}");
        }
    }
}

#[test]
fn root_is_the_operator_and_the_ten_agents_are_there() {
    let policy = policy(&[IMAGE]);
    let peer = Peer::User { uid: 0, name: Some("root") };
    assert_eq!(policy.identify(peer).map(|(name, _)| name), Some("operator"));
    assert!(policy.may_approve("operator"));
    let ten = "system network security package storage monitor maintenance learning task web";
    for agent in ten.split(' ') {
        let user = format!("agent-{agent}");
        let peer = Peer::User { uid: 4_000, name: Some(&user) };
        assert_eq!(policy.identify(peer).map(|(name, _)| name), Some(agent));
        assert!(!policy.may_approve(agent));
        for right in ["grant", "revoke", "delegate"] {
            let need = Capability::exact("policy", right, "task").unwrap();
            assert!(!policy.holds(agent, &need), "{agent} holds {need}");
        }
    }
}

/// What a refusal advises works, where anything does.
#[test]
fn a_grant_of_what_is_missing_lets_the_call_pass_the_capabilities() {
    let policy = policy(&[IMAGE, RULES]);
    let (mut helped, mut hopeless) = (0, 0);
    for agent in policy.agents.keys().filter(|agent| *agent != "operator") {
        for (tool, risk, actions, sinks) in TOOLS {
            for (needs, _) in needs(actions).into_iter().filter(|(_, through)| through.is_empty()) {
                let row = Row { agent, tool, risk, needs: &needs, through: &[], sinks, origin: "model", token: None };
                let Decision::Deny(denial) = decided(&policy, &Grants::default(), &row) else { continue };
                if denial.missing.is_empty() {
                    continue;
                }
                let mut grants = Grants::default();
                for need in &denial.missing {
                    let minute = Duration::from_secs(60);
                    let possible = grants.add(&policy, "operator", agent, need.clone(), minute, NOW).is_ok();
                    let command = format!("aios tool grant {agent} ");
                    let advised = denial.hint.contains(&command) && denial.hint.contains(&need.to_string());
                    let denied = denial.hint.contains("no grant changes that");
                    assert!(advised || denied, "{}", denial.hint);
                    assert!(possible || denied, "{}", denial.hint);
                }
                let refused = matches!(
                    decided(&policy, &grants, &row),
                    Decision::Deny(again) if !again.missing.is_empty()
                );
                assert_eq!(refused, denial.hint.contains("no grant changes that"), "{}", denial.hint);
                *(if refused { &mut hopeless } else { &mut helped }) += 1;
            }
        }
    }
    assert!(helped > 500 && hopeless > 50, "{helped}, {hopeless}");
}
