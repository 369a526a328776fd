//! The table `inet aios`, read and written through `nft`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rule::{Chain, Policy, Rule};
use crate::{
    access::{Access, Privilege},
    error::{Code, ToolError},
    host::Host,
    program,
};

const NFT: &str = "/usr/sbin/nft";

/// Most that `nft` may answer with, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// Most rules in the table.
pub const RULES_MAX: usize = 128;

/// All of the table: what [`replace`] makes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Rules, in their order: of each chain, the first one that fits a packet decides. Up to 128.
    pub rules: Vec<Rule>,
    /// Packets to this device that no rule names.
    #[serde(default)]
    pub input_policy: Policy,
    /// Packets through this device that no rule names.
    #[serde(default)]
    pub forward_policy: Policy,
    /// Packets from this device that no rule names.
    #[serde(default)]
    pub output_policy: Policy,
}

/// A rule of the table as the kernel has it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The rule; `None` where it is not one of these tools.
    pub rule: Option<Rule>,
    /// Chain.
    pub chain: String,
    /// Its number.
    pub handle: u64,
    /// Packets that fitted, and their bytes.
    pub counter: Option<(u64, u64)>,
}

/// What is in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// Rules of the table.
    pub rules: Vec<Listed>,
    /// Chains of the table with their policies.
    pub chains: Vec<(String, Policy)>,
    /// Tables of others: family and name.
    pub others: Vec<String>,
}

impl Table {
    fn policy(&self, chain: Chain) -> Policy {
        match chain {
            Chain::Input => self.input_policy,
            Chain::Forward => self.forward_policy,
            Chain::Output => self.output_policy,
        }
    }

    /// What can't be a table.
    pub fn check(&self) -> Result<(), ToolError> {
        let refused = |code, text| Err(ToolError::new(code, text));
        if self.rules.len() > RULES_MAX {
            return refused(Code::TooLarge, format!("{} rules are more than {RULES_MAX}", self.rules.len()));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            if let Err(text) = rule.check() {
                return refused(Code::InvalidArgument, text);
            }
            if self.rules[..at].iter().any(|other| other.id == rule.id) {
                return refused(Code::InvalidArgument, format!("two rules are called {}", rule.id));
            }
        }
        Ok(())
    }
}

impl Ruleset {
    /// The table, as [`replace`] would make it; an error where it holds what these tools did not make.
    pub fn table(&self) -> Result<Table, ToolError> {
        let mut table = Table::default();
        for listed in &self.rules {
            let Some(rule) = listed.rule.clone() else {
                let text = format!(
                    "the rule with handle {} in chain {} is not made by these tools, and could not be brought back",
                    listed.handle, listed.chain
                );
                return Err(ToolError::new(Code::FailedPrecondition, text));
            };
            table.rules.push(rule);
        }
        for (name, policy) in &self.chains {
            match name.as_str() {
                "input" => table.input_policy = *policy,
                "forward" => table.forward_policy = *policy,
                "output" => table.output_policy = *policy,
                _ => {}
            }
        }
        // The kernel lists chain by chain; so is the order that counts.
        table.rules.sort_by_key(|rule| rule.chain);
        Ok(table)
    }
}

/// What reading or writing the table takes.
pub fn access(capability: impl Into<String>) -> Access {
    Access::needs(capability).on_network().with(Privilege::NetAdmin).runs(NFT)
}

/// What is in the kernel now.
pub fn read(host: &Host) -> Result<Ruleset, ToolError> {
    let mut ruleset = Ruleset::default();
    let mut own = false;
    for object in transaction(host, json!([{ "list": { "tables": null } }]))? {
        let table = &object["table"];
        let (Some(family), Some(name)) = (table["family"].as_str(), table["name"].as_str()) else { continue };
        if (family, name) == ("inet", "aios") {
            own = true;
        } else {
            ruleset.others.push(format!("{family} {name}"));
        }
    }
    if !own {
        return Ok(ruleset);
    }
    for object in transaction(host, json!([{ "list": { "table": { "family": "inet", "name": "aios" } } }]))? {
        if let Some(name) = object["chain"]["name"].as_str() {
            let policy = if object["chain"]["policy"] == "drop" { Policy::Drop } else { Policy::Accept };
            ruleset.chains.push((name.to_owned(), policy));
        }
        let rule = &object["rule"];
        let (Some(chain), Some(handle)) = (rule["chain"].as_str(), rule["handle"].as_u64()) else { continue };
        let counters = rule["expr"].as_array().into_iter().flatten().filter_map(|part| part["counter"].as_object());
        let counter = counters
            .filter_map(|counter| Some((counter.get("packets")?.as_u64()?, counter.get("bytes")?.as_u64()?)))
            .next();
        ruleset.rules.push(Listed { rule: Rule::read(rule), chain: chain.to_owned(), handle, counter });
    }
    Ok(ruleset)
}

/// Makes the table what `table` says, all at once. A table without rules that lets everything pass is none.
pub fn replace(host: &Host, table: &Table) -> Result<(), ToolError> {
    let own = json!({ "table": { "family": "inet", "name": "aios" } });
    // Only what exists can be deleted.
    let mut commands = vec![json!({ "add": own }), json!({ "delete": own })];
    if *table != Table::default() {
        commands.push(json!({ "add": own }));
        commands.extend(Chain::ALL.map(|chain| json!({ "add": chain_json(chain, table.policy(chain)) })));
        commands.extend(table.rules.iter().map(|rule| json!({ "add": { "rule": rule.json() } })));
    }
    transaction(host, Value::Array(commands)).map(|_| ())
}

/// Adds a rule, behind the others of its chain or before them, and the table where there is none.
pub fn add(host: &Host, rule: &Rule, first: bool, ruleset: &Ruleset) -> Result<(), ToolError> {
    let mut commands = vec![json!({ "add": { "table": { "family": "inet", "name": "aios" } } })];
    let missing = |chain: &Chain| ruleset.chains.iter().all(|(name, _)| name != chain.name());
    commands.extend(
        Chain::ALL.into_iter().filter(missing).map(|chain| json!({ "add": chain_json(chain, Policy::Accept) })),
    );
    let verb = if first { "insert" } else { "add" };
    commands.push(json!({ verb: { "rule": rule.json() } }));
    transaction(host, Value::Array(commands)).map(|_| ())
}

/// Deletes a rule.
pub fn delete(host: &Host, listed: &Listed) -> Result<(), ToolError> {
    let rule = json!({ "family": "inet", "table": "aios", "chain": listed.chain, "handle": listed.handle });
    transaction(host, json!([{ "delete": { "rule": rule } }])).map(|_| ())
}

fn chain_json(chain: Chain, policy: Policy) -> Value {
    let name = chain.name();
    json!({ "chain": {
        "family": "inet", "table": "aios", "name": name, "type": "filter", "hook": name, "prio": 0, "policy": policy,
    } })
}

/// Has `nft` do all of `commands`, or nothing where one fails. Returns what it lists.
fn transaction(host: &Host, commands: Value) -> Result<Vec<Value>, ToolError> {
    let nft = host.program(NFT, "the package nftables")?;
    let input = json!({ "nftables": commands }).to_string();
    let finished = program::run(&nft, &["-j", "-f", "-"], &[], input.as_bytes(), ANSWER_MAX)?;
    let finished = finished.succeeded("nft", |complaint| match complaint {
        _ if complaint.contains("Operation not permitted") => Code::PermissionDenied,
        _ if complaint.contains("No such file or directory") => Code::NotFound,
        _ if complaint.contains("not supported") => Code::Unsupported,
        _ => Code::Failed,
    })?;
    if finished.output.is_empty() {
        return Ok(Vec::new());
    }
    Ok(finished.json("nft")?["nftables"].as_array().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::apart;

    #[test]
    fn the_kernel_keeps_a_table_as_it_was_given() {
        let table: Table = serde_json::from_value(json!({
            "rules": [
                {"id": "known", "chain": "input", "action": "accept", "connections": ["established", "related"]},
                {"id": "ping", "chain": "input", "action": "accept", "protocol": "icmp"},
                {"id": "ping6", "chain": "input", "action": "accept", "protocol": "icmpv6"},
                {"id": "web", "chain": "input", "action": "accept", "protocol": "tcp", "ports": {"first": 8080, "last": 8080}, "source": "192.0.2.0/24"},
                {"id": "high", "chain": "input", "action": "reject", "protocol": "udp", "ports": {"first": 1000, "last": 2000}, "interface": "eth0"},
                {"id": "one", "chain": "output", "action": "drop", "destination": "2001:db8::1/128", "connections": ["new"], "interface": "eth1"},
                {"id": "host", "chain": "output", "action": "drop", "destination": "192.0.2.1/32"},
            ],
            "input_policy": "drop",
        }))
        .expect("a table");
        apart(|| {
            let host = Host::device();
            assert_eq!(read(&host).expect("read").table(), Ok(Table::default()));
            for _ in 0..2 {
                replace(&host, &table).expect("replace");
                assert_eq!(read(&host).expect("read").table(), Ok(table.clone()));
            }
            replace(&host, &Table::default()).expect("replace");
            assert!(read(&host).expect("read").chains.is_empty());
        });
    }

    #[test]
    fn tables_of_others_stay_and_foreign_rules_are_not_overwritten_unseen() {
        apart(|| {
            let host = Host::device();
            let foreign = json!([
                { "add": { "table": { "family": "ip", "name": "theirs" } } },
                { "add": { "table": { "family": "inet", "name": "aios" } } },
                { "add": { "chain": { "family": "inet", "table": "aios", "name": "other" } } },
                { "add": { "rule": { "family": "inet", "table": "aios", "chain": "other", "expr": [{ "accept": null }] } } },
            ]);
            transaction(&host, foreign).expect("set up");
            assert_eq!(read(&host).expect("read").table().map_err(|error| error.code), Err(Code::FailedPrecondition));
            replace(&host, &Table::default()).expect("replace");
            assert_eq!(read(&host).expect("read").others, ["ip theirs"]);
        });
    }

    #[test]
    fn without_nft_the_error_names_the_package() {
        let folder = tempfile::tempdir().expect("tempdir");
        let error = read(&Host::below(folder.path())).expect_err("no nft");
        assert_eq!(error.code, Code::NotInstalled);
        assert!(error.message.contains("nftables"), "{error}");
    }
}
