//! Whether an agent could be allowed a call of a tool at all: for lists of tools, which should not offer what is always
//! refused. It decides nothing: each call is decided by [`crate::decide()`].

use crate::{capability::Capability, grants::Grants, policy::Policy, time::Timestamp, token::Verified};

/// Whether `agent`, with `token` where it has one, could be allowed something of what one of `patterns` stands for.
///
/// `patterns` are the capabilities that calls of `tool` can need, with wildcards in place of arguments. Never wrongly
/// false: a tool for which this is false refuses every call of this agent until policy, grants or token change.
pub fn could_call(
    policy: &Policy,
    grants: &Grants,
    agent: &str,
    token: Option<&Verified>,
    tool: &str,
    patterns: &[Capability],
    now: Timestamp,
) -> bool {
    if !policy.agents.contains_key(agent) {
        return false;
    }
    let denied = |agent: &str, pattern: &Capability| policy.denials(agent).any(|denied| denied.covers(pattern));
    let holds = |agent: &str, pattern: &Capability| {
        let own = policy.agents.get(agent).is_some_and(|agent| agent.capabilities.iter().any(|c| c.overlaps(pattern)));
        !denied(agent, pattern) && (own || grants.of(agent, now).any(|grant| grant.capability.overlaps(pattern)))
    };
    match token {
        None => patterns.iter().any(|pattern| holds(agent, pattern)),
        Some(token) => {
            token.subject() == agent
                && token.not_after() >= now
                && token.allows_tool(tool)
                && patterns
                    .iter()
                    .any(|pattern| token.overlaps(pattern) && holds(token.issuer(), pattern) && !denied(agent, pattern))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aios_core::config::Layer;
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::token::{Authority, Ending, Token, TokenId, Verifier};

    const NOW: Timestamp = Timestamp(1_000);

    fn policy() -> Policy {
        let text = "deny = [\"fs:*:/secret/**\"]\n\
                    [agents.operator]\nuids = [0]\ncapabilities = [\"*:*:**\"]\n\
                    [agents.reader]\nuids = [1]\ncapabilities = [\"fs:read:/data/**\", \"fs:read:/secret/**\"]\n\
                    deny = [\"net:*:**\"]\n";
        Policy::from_layers(&[Layer { path: "policy.toml".into(), text: text.into() }]).expect("a policy")
    }

    fn patterns(texts: &[&str]) -> Vec<Capability> {
        texts.iter().map(|text| text.parse().expect("a capability")).collect()
    }

    fn token(capability: &str, tools: Option<&[&str]>) -> Verified {
        let device = SigningKey::from_bytes(&[7; 32]);
        let authority = Authority {
            id: TokenId([1; 16]),
            issuer: "operator".into(),
            subject: "reader".into(),
            capabilities: patterns(&[capability]),
            tools: tools.map(|tools| tools.iter().map(|&tool| tool.into()).collect::<BTreeSet<String>>()),
            not_after: Timestamp(2_000),
        };
        let token = Token::mint(&device, &authority, Ending::Sealed).expect("a token");
        Verifier::new(device.verifying_key()).verify(token.as_str(), NOW).expect("a good token")
    }

    fn could(agent: &str, token: Option<&Verified>, needs: &[&str]) -> bool {
        could_call(&policy(), &Grants::default(), agent, token, "t.t", &patterns(needs), NOW)
    }

    #[test]
    fn a_tool_is_within_reach_where_some_call_of_it_could_be_allowed() {
        assert!(could("reader", None, &["fs:read:**"]));
        assert!(!could("reader", None, &["fs:write:**"]));
        assert!(could("reader", None, &["fs:write:**", "fs:read:**"]), "what a call can need is not what each needs");
        assert!(!could("reader", None, &["fs:read:/secret/key/*"]), "denied to all");
        assert!(!could("reader", None, &[]));
        assert!(!could("stranger", None, &["fs:read:**"]));
    }

    #[test]
    fn a_token_reaches_what_it_and_its_issuer_and_no_denial_of_its_bearer_allow() {
        let net = token("net:read:**", None);
        assert!(!could("reader", Some(&net), &["net:read:links"]), "denied to the bearer");
        let write = token("fs:write:/data/**", None);
        assert!(could("reader", Some(&write), &["fs:write:**"]));
        assert!(!could("reader", Some(&write), &["fs:read:**"]), "with a token, it goes by the token");
        assert!(!could("operator", Some(&write), &["fs:write:**"]), "somebody else's token");
        let other = token("fs:write:/data/**", Some(&["t.other"]));
        assert!(!could("reader", Some(&other), &["fs:write:**"]));
    }
}
