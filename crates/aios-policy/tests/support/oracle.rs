//! The decision table by another way: it reads the policy's TOML by itself, matches text against text, and finds out
//! about wildcards in needs by trying every resource of the table.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// What the oracle expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Allow,
    /// Reasons, as text.
    Approve(BTreeSet<String>),
    /// Name of the stage, and the needs that are missing.
    Deny(&'static str, Vec<String>),
}

/// A call as the oracle sees it.
pub struct Call<'a> {
    pub agent: &'a str,
    pub tool: &'a str,
    pub risk: usize,
    pub needs: &'a [String],
    /// What it looks through: a part that is denied doesn't count.
    pub through: &'a [String],
    /// Sinks with the origin of their value.
    pub sinks: &'a [(&'a str, &'a str)],
    /// Issuer, capabilities of each block, tools of each block.
    pub token: Option<Token<'a>>,
    /// Granted to the agent by the operator.
    pub granted: &'a [&'a str],
}

#[derive(Clone)]
pub struct Token<'a> {
    pub issuer: &'a str,
    pub capabilities: Vec<Vec<&'a str>>,
    pub tools: Vec<Vec<&'a str>>,
}

pub const RISKS: [&str; 4] = ["low", "medium", "high", "critical"];

pub struct Oracle<'a> {
    pub policy: Table,
    /// Every resource that the table knows; a need with wildcards stands for those of them that it matches.
    pub resources: &'a [String],
}

/// Whether the text is one that the pattern matches, by trying all ways to cut it.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        [b'*', rest @ ..] => {
            (0..=text.len()).take_while(|n| !text[..*n].contains(&b'/')).any(|n| glob(rest, &text[n..]))
        }
        [first, rest @ ..] => text.first() == Some(first) && glob(rest, &text[1..]),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let parts = |text: &str| -> Vec<String> { text.splitn(3, ':').map(str::to_owned).collect() };
    let (pattern, text) = (parts(pattern), parts(text));
    (0..2).all(|i| pattern[i] == "*" || pattern[i] == text[i]) && glob(pattern[2].as_bytes(), text[2].as_bytes())
}

impl Oracle<'_> {
    pub fn decide(&self, call: &Call<'_>) -> Expected {
        if !self.agents().contains_key(call.agent) {
            return Expected::Deny("identity", Vec::new());
        }
        if let Some(token) = &call.token {
            if !self.agents().contains_key(token.issuer) {
                return Expected::Deny("identity", Vec::new());
            }
            if !token.tools.iter().all(|tools| tools.contains(&call.tool)) {
                return Expected::Deny("capability", Vec::new());
            }
        }
        let needs = call.needs.iter().filter(|need| !self.has(call, need, false));
        let through = call.through.iter().filter(|need| !self.has(call, need, true));
        let missing: Vec<String> = needs.chain(through).cloned().collect();
        if !missing.is_empty() {
            return Expected::Deny("capability", missing);
        }
        self.approval(call)
    }

    fn approval(&self, call: &Call<'_>) -> Expected {
        let mut reasons = BTreeSet::new();
        for (pointer, origin) in call.sinks.iter().filter(|(_, origin)| !self.trusts(call.agent, origin)) {
            match self.taint_action(call.tool, origin).as_str() {
                "deny" => return Expected::Deny("taint", Vec::new()),
                "approve" => reasons.insert(format!("the argument {pointer} comes from {origin}")),
                _ => false,
            };
        }
        let rule = self.section("tools").get(call.tool).and_then(Value::as_table).cloned().unwrap_or_default();
        let index = |text: &str| RISKS.iter().position(|risk| *risk == text).expect("a risk");
        let risk = call.risk.max(rule.get("risk").map_or(0, |risk| index(risk.as_str().expect("text"))));
        let by_default = &self.section("defaults")["max-risk-without-approval"];
        let limit = |agent: &str| {
            let own = self.agents()[agent].get("max-risk-without-approval").unwrap_or(by_default);
            index(own.as_str().expect("text"))
        };
        let limit = call.token.as_ref().map_or(3, |token| limit(token.issuer)).min(limit(call.agent));
        let approval = rule.get("approval").and_then(Value::as_str).unwrap_or("by-risk");
        if approval == "always" {
            reasons.insert("the policy asks for approval of each call of this tool".into());
        }
        if RISKS[risk] == "critical" || (risk > limit && approval != "never") {
            reasons.insert(format!("its risk is {}", RISKS[risk]));
        }
        if reasons.is_empty() { Expected::Allow } else { Expected::Approve(reasons) }
    }

    fn has(&self, call: &Call<'_>, need: &str, in_parts: bool) -> bool {
        let texts: Vec<&str> = match need.contains('*') {
            true => self.resources.iter().map(String::as_str).filter(|text| matches(need, text)).collect(),
            false => vec![need],
        };
        assert!(!texts.is_empty(), "no resource of the table is one of {need}");
        // One line has to do for all that the need stands for.
        let any_line = |lines: &[&str]| lines.iter().any(|line| texts.iter().all(|text| matches(line, text)));
        let denied = |agent: &str| {
            let lines = [list(self.policy.get("deny")), list(self.agents()[agent].get("deny"))].concat();
            texts.iter().any(|text| lines.iter().any(|line| matches(line, text)))
        };
        let own = |agent: &str| any_line(&list(self.agents()[agent].get("capabilities")));
        let granted =
            |agent: &str| agent == call.agent && any_line(call.granted) && own("operator") && !denied("operator");
        let refused = |agent: &str| !in_parts && denied(agent);
        match &call.token {
            None => (own(call.agent) || granted(call.agent)) && !refused(call.agent),
            Some(token) => {
                token.capabilities.iter().all(|block| any_line(block))
                    && (own(token.issuer) || granted(token.issuer))
                    && !refused(token.issuer)
                    && !refused(call.agent)
            }
        }
    }

    fn trusts(&self, agent: &str, origin: &str) -> bool {
        let taint = self.section("taint");
        list(taint.get("trusted")).contains(&origin) && list(self.agents()[agent].get("vouches")).contains(&origin)
    }

    fn taint_action(&self, tool: &str, origin: &str) -> String {
        let taint = self.section("taint");
        for rule in taint.get("rules").and_then(Value::as_array).into_iter().flatten() {
            let origins = list(rule.get("origins"));
            // A word of a tool's name has no `/`: `*` and `fs.*` are what they are for resources.
            let named = list(rule.get("tools")).iter().any(|pattern| glob(pattern.as_bytes(), tool.as_bytes()));
            if named && (origins.is_empty() || origins.contains(&origin)) {
                return rule["action"].as_str().expect("text").into();
            }
        }
        "approve".into()
    }

    fn agents(&self) -> &Table {
        self.policy["agents"].as_table().expect("a table")
    }

    fn section(&self, name: &str) -> Table {
        self.policy.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
    }
}

fn list(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().map(|item| item.as_str().expect("text")).collect()
}
