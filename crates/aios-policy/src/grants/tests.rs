use proptest::prelude::*;

use super::*;
use crate::policy::Layer;

fn policy(text: &str) -> Policy {
    Policy::from_layers(&[Layer { path: "p.toml".into(), text: text.into() }]).unwrap()
}

const TEXT: &str = r#"
deny = ["fs:*:/keys/**"]
[agents.operator]
capabilities = ["*:*:**"]
[agents.lead]
capabilities = ["fs:read:/srv/**", "policy:grant:web", "policy:delegate:web"]
[agents.web]
deny = ["fs:*:/srv/private/**"]
[agents.log]
capabilities = ["policy:revoke:*"]
[grants]
max-duration = "2h"
"#;

const HOUR: Duration = Duration::from_secs(3600);
const NOW: Timestamp = Timestamp(10_000);

fn cap(text: &str) -> Capability {
    text.parse().unwrap()
}

#[test]
fn a_grant_holds_from_its_first_second_to_its_last() {
    let policy = policy(TEXT);
    let mut grants = Grants::default();
    let need = cap("fs:read:/srv/a");
    assert!(!grants.hold(&policy, "web", &need, NOW));
    let id = grants.add(&policy, "lead", "web", cap("fs:read:/srv/**"), HOUR, NOW).unwrap().id;
    let at = |seconds| grants.hold(&policy, "web", &need, Timestamp(seconds));
    assert_eq!([9_999, 10_000, 13_599, 13_600].map(at), [false, true, true, false]);
    assert!(!grants.hold(&policy, "log", &need, NOW), "another agent has nothing of it");
    assert!(!grants.hold(&policy, "web", &cap("fs:write:/srv/a"), NOW));
    assert!(!grants.hold(&policy, "web", &cap("fs:read:/srv/private/a"), NOW), "denied to the agent");
    assert_eq!(grants.expire(Timestamp(13_599)), []);
    assert_eq!(grants.expire(Timestamp(13_600)).iter().map(|grant| grant.id).collect::<Vec<_>>(), [id]);
    assert_eq!(grants.iter().count(), 0);
    let next = grants.add(&policy, "lead", "web", cap("fs:read:/srv/a"), HOUR, NOW).unwrap().id;
    assert_ne!(next, id, "a number is used once");
}

#[test]
fn nobody_grants_to_themselves_or_what_they_have_not_got() {
    let policy = policy(TEXT);
    let mut grants = Grants::default();
    let mut add = |granter: &str, subject: &str, text: &str, duration| {
        grants.add(&policy, granter, subject, cap(text), duration, NOW).map(|_| ()).unwrap_err()
    };
    let lead = || "lead".to_owned();
    assert_eq!(add("lead", "lead", "fs:read:/srv/a", HOUR), GrantError::SelfGrant(lead()));
    assert_eq!(add("operator", "operator", "fs:read:/srv/a", HOUR), GrantError::SelfGrant("operator".into()));
    let wider = cap("fs:read:/**");
    assert_eq!(add("lead", "web", "fs:read:/**", HOUR), GrantError::NotHeld { granter: lead(), capability: wider });
    let needed = cap("policy:grant:log");
    assert_eq!(add("lead", "log", "fs:read:/srv/a", HOUR), GrantError::MayNot { granter: lead(), needed });
    assert_eq!(add("lead", "nobody", "fs:read:/srv/a", HOUR), GrantError::UnknownAgent("nobody".into()));
    assert_eq!(add("nobody", "web", "fs:read:/srv/a", HOUR), GrantError::UnknownAgent("nobody".into()));
    let private = GrantError::Denied { subject: "web".into(), denied: cap("fs:*:/srv/private/**") };
    assert_eq!(add("lead", "web", "fs:read:/srv/private/a", HOUR), private);
    let keys = add("operator", "web", "fs:read:/keys/a", HOUR);
    assert!(matches!(keys, GrantError::NotHeld { .. }), "what is denied to all is held by nobody");
    let longest = 2 * HOUR;
    for asked in [Duration::ZERO, Duration::from_millis(999), 3 * HOUR] {
        assert_eq!(add("lead", "web", "fs:read:/srv/a", asked), GrantError::Duration { asked, longest });
    }
    assert_eq!(grants, Grants::default());
}

#[test]
fn what_was_granted_is_not_handed_on() {
    let policy = policy(TEXT);
    let mut grants = Grants::default();
    grants.add(&policy, "operator", "lead", cap("net:read:**"), HOUR, NOW).unwrap();
    let refused = grants.add(&policy, "lead", "web", cap("net:read:eth0"), HOUR, NOW).unwrap_err();
    assert!(matches!(refused, GrantError::NotHeld { .. }), "{refused}");
    grants.add(&policy, "operator", "log", cap("policy:grant:web"), HOUR, NOW).unwrap();
    let refused = grants.add(&policy, "log", "web", cap("policy:revoke:web"), HOUR, NOW).unwrap_err();
    assert!(matches!(refused, GrantError::MayNot { .. }), "nor is the right to grant: {refused}");
}

#[test]
fn a_grant_ends_when_its_giver_loses_the_right() {
    let mut grants = Grants::default();
    grants.add(&policy(TEXT), "lead", "web", cap("fs:read:/srv/**"), HOUR, NOW).unwrap();
    let need = cap("fs:read:/srv/a");
    for (from, to) in [
        ("\"fs:read:/srv/**\", ", ""),
        ("fs:read:/srv/**", "fs:read:/srv/b"),
        ("[agents.lead]", "[agents.lead]\ndeny = [\"fs:read:/srv/*\"]"),
        ("[agents.lead]", "[agents.leader]"),
        ("/keys/**", "/srv/a"),
    ] {
        assert!(TEXT.contains(from));
        assert!(!grants.hold(&policy(&TEXT.replacen(from, to, 1)), "web", &need, NOW), "{from} -> {to}");
    }
    assert!(!grants.hold(&policy(&TEXT.replace("[agents.web]", "[agents.wob]")), "web", &need, NOW), "no such agent");
    assert!(grants.hold(&policy(TEXT), "web", &need, NOW));
    let narrower = policy(&TEXT.replace("fs:read:/srv/**", "fs:read:/srv/a"));
    assert!(grants.hold(&narrower, "web", &need, NOW), "what the giver still has");
}

#[test]
fn a_grant_is_revoked_by_giver_subject_or_who_may() {
    let policy = policy(TEXT);
    for (revoker, may) in [("lead", true), ("web", true), ("log", true), ("operator", true), ("stranger", false)] {
        let mut grants = Grants::default();
        let id = grants.add(&policy, "lead", "web", cap("fs:read:/srv/a"), HOUR, NOW).unwrap().id;
        assert_eq!(grants.revoke(&policy, revoker, id).is_ok(), may, "{revoker}");
        assert_eq!(grants.hold(&policy, "web", &cap("fs:read:/srv/a"), NOW), !may);
        if may {
            assert_eq!(grants.revoke(&policy, revoker, id), Err(GrantError::NoGrant(id)));
        }
    }
    let mut grants = Grants::default();
    let id = grants.add(&policy, "operator", "log", cap("net:read:a"), HOUR, NOW).unwrap().id;
    assert!(grants.revoke(&policy, "lead", id).is_err());
}

#[test]
fn there_are_at_most_so_many() {
    let policy = policy(TEXT);
    let mut grants = Grants::default();
    for _ in 0..MAX_GRANTS {
        grants.add(&policy, "lead", "web", cap("fs:read:/srv/a"), HOUR, NOW).unwrap();
    }
    let mut add = |at| grants.add(&policy, "lead", "web", cap("fs:read:/srv/a"), HOUR, at).map(|_| ());
    assert_eq!(add(NOW), Err(GrantError::TooMany));
    assert_eq!(add(NOW.after(HOUR)), Ok(()), "expired ones make way");
}

#[test]
fn grants_survive_the_store() {
    let policy = policy(TEXT);
    let mut grants = Grants::default();
    grants.add(&policy, "lead", "web", cap("fs:read:/srv/**"), HOUR, NOW).unwrap();
    let text = serde_json::to_string(&grants).unwrap();
    assert_eq!(serde_json::from_str::<Grants>(&text).unwrap(), grants);
}

#[test]
fn a_token_is_made_by_who_holds_what_it_hands_on() {
    let policy = policy(TEXT);
    let authority = |issuer: &str, subject: &str, text: &str, seconds| Authority {
        id: crate::token::TokenId([0; 16]),
        issuer: issuer.into(),
        subject: subject.into(),
        capabilities: vec![cap(text)],
        tools: None,
        not_after: NOW.after(Duration::from_secs(seconds)),
    };
    let check = |authority: Authority| check_delegation(&policy, &authority, NOW);
    assert_eq!(check(authority("lead", "web", "fs:read:/srv/a", 60)), Ok(()));
    assert_eq!(check(authority("operator", "operator", "net:read:a", 60)), Ok(()), "for a weaker copy of oneself");
    assert!(matches!(check(authority("lead", "web", "fs:read:/etc/a", 60)), Err(GrantError::NotHeld { .. })));
    assert!(matches!(check(authority("lead", "log", "fs:read:/srv/a", 60)), Err(GrantError::MayNot { .. })));
    assert!(matches!(check(authority("lead", "x", "fs:read:/srv/a", 60)), Err(GrantError::UnknownAgent(_))));
    assert!(matches!(check(authority("lead", "web", "fs:read:/srv/a", 7_201)), Err(GrantError::Duration { .. })));
    assert!(matches!(check(authority("lead", "web", "fs:read:/srv/a", 0)), Err(GrantError::Duration { .. })));
}

/// What three agents that may grant to each other try, one after another.
#[derive(Clone, Debug)]
enum Try {
    Add { granter: usize, subject: usize, capability: usize, seconds: u64 },
    Revoke { revoker: usize, id: u64 },
    Wait(u64),
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const WANTED: [&str; 6] = ["fs:read:/a", "fs:read:/b", "fs:*:/a", "fs:read:/**", "policy:grant:a", "policy:grant:*"];

fn attempt() -> impl Strategy<Value = Try> {
    prop_oneof![
        4 => (0..3usize, 0..3usize, 0..WANTED.len(), 0..90u64).prop_map(|(granter, subject, capability, seconds)| {
            Try::Add { granter, subject, capability, seconds }
        }),
        1 => (0..3usize, 0..20u64).prop_map(|(revoker, id)| Try::Revoke { revoker, id }),
        1 => (0..40u64).prop_map(Try::Wait),
    ]
}

proptest! {
    /// However they conspire: what an agent holds, one of them holds by the policy, and the others had it of that one, for
    /// a while.
    #[test]
    fn no_conspiracy_makes_a_right(tries in prop::collection::vec(attempt(), 0..40)) {
        let policy = policy(concat!(
            "[grants]\nmax-duration = \"60s\"\n",
            "[agents.a]\ncapabilities = [\"fs:read:/a\", \"policy:grant:*\"]\n",
            "[agents.b]\ncapabilities = [\"fs:*:/b\", \"policy:grant:*\"]\n",
            "[agents.c]\ncapabilities = [\"fs:read:/b\"]\n",
        ));
        let (mut grants, mut now) = (Grants::default(), NOW);
        for attempt in tries {
            match attempt {
                Try::Add { granter, subject, capability, seconds } => {
                    let (granter, duration) = (AGENTS[granter], Duration::from_secs(seconds));
                    let added = grants.add(&policy, granter, AGENTS[subject], cap(WANTED[capability]), duration, now);
                    prop_assert!(added.is_err() || (1..=60).contains(&seconds));
                    prop_assert!(added.is_err() || granter != AGENTS[subject]);
                }
                Try::Revoke { revoker, id } => drop(grants.revoke(&policy, AGENTS[revoker], GrantId(id))),
                Try::Wait(seconds) => now = now.after(Duration::from_secs(seconds)),
            }
            for (agent, need) in AGENTS.iter().flat_map(|agent| WANTED.map(|need| (*agent, cap(need)))) {
                let by_policy = AGENTS.iter().any(|other| policy.holds(other, &need));
                prop_assert!(by_policy || !grants.hold(&policy, agent, &need, now), "{agent} has {need}");
                let later = now.after(Duration::from_secs(60));
                prop_assert!(policy.holds(agent, &need) || !grants.hold(&policy, agent, &need, later));
            }
        }
    }
}
