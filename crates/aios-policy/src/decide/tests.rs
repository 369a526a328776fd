use super::*;
use crate::{
    policy::Layer,
    token::{Authority, Caveats, Ending, Token, TokenId, Verifier},
};

const TEXT: &str = r#"
deny = ["fs:*:/keys/**"]
[defaults]
max-risk-without-approval = "medium"
[agents.operator]
uids = [0]
capabilities = ["*:*:**"]
max-risk-without-approval = "high"
vouches = ["operator", "user"]
[agents.task]
capabilities = ["fs:*:/srv/**"]
vouches = ["user"]
rate = "3/min"
[agents.web]
capabilities = ["web:fetch:**"]
max-risk-without-approval = "low"
deny = ["fs:*:/srv/private/**"]
[tools."fs.write"]
sinks = ["/mode"]
[tools."fs.format"]
risk = "critical"
[tools."fs.touch"]
approval = "never"
[tools."fs.show"]
approval = "always"
[[taint.rules]]
tools = ["fs.*"]
origins = ["memory"]
action = "allow"
[[taint.rules]]
tools = ["fs.write", "email.*"]
origins = ["web"]
action = "deny"
"#;

const NOW: Timestamp = Timestamp(1_000);

fn policy() -> Policy {
    Policy::from_layers(&[Layer { path: "p.toml".into(), text: TEXT.into() }]).unwrap()
}

/// A call of `fs.read` that the agent `task` makes with the user's words.
struct Call {
    agent: &'static str,
    tool: &'static str,
    risk: Risk,
    needs: Vec<Capability>,
    through: Vec<Capability>,
    sinks: Vec<&'static str>,
    taint: Taint,
    token: Option<Verified>,
}

fn call() -> Call {
    Call {
        agent: "task",
        tool: "fs.read",
        risk: Risk::Low,
        needs: vec!["fs:read:/srv/a".parse().unwrap()],
        through: Vec::new(),
        sinks: Vec::new(),
        taint: Taint::of(Origin::User),
        token: None,
    }
}

impl Call {
    fn needs(mut self, needs: &[&str]) -> Call {
        self.needs = needs.iter().map(|need| need.parse().unwrap()).collect();
        self
    }

    fn decide_by(&self, policy: &Policy, grants: &Grants, limiter: &mut RateLimiter) -> Decision {
        let Call { agent, tool, risk, needs, through, sinks, taint, token } = self;
        let (token, now, uptime) = (token.as_ref(), NOW, Duration::from_secs(1));
        decide(
            policy,
            grants,
            limiter,
            &Request { agent, tool, risk: *risk, needs, through, sinks, taint, token, now, uptime },
        )
    }

    fn decide(&self) -> Decision {
        self.decide_by(&policy(), &Grants::default(), &mut RateLimiter::default())
    }

    /// The stage that refuses, with the hint.
    fn refused(&self) -> (Stage, String) {
        match self.decide() {
            Decision::Deny(denial) => (denial.stage, denial.hint),
            other => panic!("{other:?}"),
        }
    }
}

fn token(issuer: &str, subject: &str, capability: &str, tools: Option<&str>) -> Verified {
    let device = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let authority = Authority {
        id: TokenId([0; 16]),
        issuer: issuer.into(),
        subject: subject.into(),
        capabilities: vec![capability.parse().unwrap()],
        tools: tools.map(|tool| [tool.to_owned()].into()),
        not_after: NOW,
    };
    let token = Token::mint(&device, &authority, Ending::Open([2; 32])).unwrap();
    let token = token.attenuate(&Caveats::default(), Ending::Sealed).unwrap();
    Verifier::new(device.verifying_key()).verify(token.as_str(), NOW).unwrap()
}

#[test]
fn what_is_held_and_harmless_runs() {
    assert_eq!(call().decide(), Decision::Allow);
    assert_eq!(call().needs(&["fs:read:/srv/a", "fs:write:/srv/b/c"]).decide(), Decision::Allow);
}

#[test]
fn a_stranger_is_refused_by_identity() {
    let (stage, hint) = Call { agent: "nobody", ..call() }.refused();
    assert_eq!(stage, Stage::Identity);
    assert!(hint.contains("[agents.nobody]"), "{hint}");
}

#[test]
fn each_missing_capability_is_named() {
    let decision = call().needs(&["fs:read:/srv/a", "fs:read:/etc/hosts", "net:read:lo"]).decide();
    let Decision::Deny(denial) = decision else { panic!("{decision:?}") };
    assert_eq!(denial.stage, Stage::Capability);
    let missing: Vec<String> = denial.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["fs:read:/etc/hosts", "net:read:lo"]);
    assert_eq!(call().needs(&["fs:read:/srv/**"]).decide(), Decision::Allow);
    assert_eq!(call().needs(&["fs:read:/**"]).refused().0, Stage::Capability, "wider than what is held");
    assert_eq!(call().needs(&[]).refused().0, Stage::Capability, "a tool that needs nothing is no tool");
    let keys = Call { agent: "operator", ..call() };
    assert_eq!(keys.needs(&["fs:read:/keys/a"]).refused().0, Stage::Capability);
}

#[test]
fn a_grant_allows_what_the_agent_has_not_got() {
    let (policy, mut grants) = (policy(), Grants::default());
    let call = call().needs(&["fs:read:/etc/hosts"]);
    let hosts: Capability = "fs:read:/etc/hosts".parse().unwrap();
    let id = grants.add(&policy, "operator", "task", hosts, Duration::from_secs(60), NOW).unwrap().id;
    assert_eq!(call.decide_by(&policy, &grants, &mut RateLimiter::default()), Decision::Allow);
    grants.revoke(&policy, "operator", id).unwrap();
    assert!(matches!(call.decide_by(&policy, &grants, &mut RateLimiter::default()), Decision::Deny(_)));
}

#[test]
fn too_many_calls_wait_and_refused_ones_are_not_counted() {
    let (policy, grants, mut limiter) = (policy(), Grants::default(), RateLimiter::default());
    let bad = call().needs(&["net:read:lo"]);
    for _ in 0..9 {
        assert!(matches!(bad.decide_by(&policy, &grants, &mut limiter), Decision::Deny(_)));
    }
    for _ in 0..3 {
        assert_eq!(call().decide_by(&policy, &grants, &mut limiter), Decision::Allow);
    }
    let decision = call().decide_by(&policy, &grants, &mut limiter);
    let Decision::Deny(denial) = decision else { panic!("{decision:?}") };
    assert_eq!((denial.stage, denial.retry_after), (Stage::Rate, Some(Duration::from_secs(20))));
    assert!(denial.hint.contains("try again in 20s"), "{}", denial.hint);
}

#[test]
fn risk_above_the_agents_own_waits_for_somebody() {
    let at = |agent, risk| Call { agent, risk, ..call() }.needs(&["fs:read:/srv/a"]).decide();
    assert_eq!(at("task", Risk::Medium), Decision::Allow);
    assert_eq!(at("task", Risk::High), Decision::NeedsApproval(vec![Reason::Risk(Risk::High)]));
    assert_eq!(at("operator", Risk::High), Decision::Allow);
    assert_eq!(at("operator", Risk::Critical), Decision::NeedsApproval(vec![Reason::Risk(Risk::Critical)]));
    let tool = |tool, risk| Call { tool, risk, ..call() }.decide();
    assert_eq!(tool("fs.format", Risk::Low), Decision::NeedsApproval(vec![Reason::Risk(Risk::Critical)]));
    assert_eq!(tool("fs.touch", Risk::High), Decision::Allow);
    assert_eq!(tool("fs.touch", Risk::Critical), Decision::NeedsApproval(vec![Reason::Risk(Risk::Critical)]));
    assert_eq!(tool("fs.show", Risk::Low), Decision::NeedsApproval(vec![Reason::Tool]));
    assert_eq!(tool("fs.show", Risk::High), Decision::NeedsApproval(vec![Reason::Risk(Risk::High), Reason::Tool]));
}

#[test]
fn a_tainted_argument_waits_or_is_refused() {
    let with = |tool, origin| Call { tool, sinks: vec!["/path"], taint: Taint::of(origin), ..call() };
    let asked = |pointer: &str, origin| TaintedSink { pointer: pointer.into(), origins: [origin].into() };
    assert_eq!(with("fs.read", Origin::User).decide(), Decision::Allow);
    assert_eq!(with("fs.read", Origin::Memory).decide(), Decision::Allow, "by a rule");
    let log = Decision::NeedsApproval(vec![Reason::Tainted(asked("/path", Origin::Log))]);
    assert_eq!(with("fs.read", Origin::Log).decide(), log);
    assert_eq!(with("fs.touch", Origin::Log).decide(), log, "whatever approval says");
    let operator = Decision::NeedsApproval(vec![Reason::Tainted(asked("/path", Origin::Operator))]);
    assert_eq!(with("fs.read", Origin::Operator).decide(), operator, "the agent can't vouch for that");
    let both = vec![Reason::Tainted(asked("/mode", Origin::Log)), Reason::Tainted(asked("/path", Origin::Log))];
    assert_eq!(with("fs.write", Origin::Log).decide(), Decision::NeedsApproval(both), "the policy's sink too");
    let (stage, hint) = with("fs.write", Origin::Web).refused();
    assert!(stage == Stage::Taint && hint.contains("web"), "{hint}");
    let elsewhere = Taint::of(Origin::User).with("/content", [Origin::Web]).unwrap();
    assert_eq!(Call { taint: elsewhere, ..with("fs.write", Origin::User) }.decide(), Decision::Allow);
}

#[test]
fn a_token_hands_on_what_its_issuer_has() {
    let with = |agent, token| Call { agent, token: Some(token), ..call() };
    let web = || token("task", "web", "fs:read:/srv/**", None);
    assert_eq!(with("web", web()).decide(), Decision::Allow, "what web itself has not got");
    assert_eq!(with("task", web()).refused().0, Stage::Identity, "it is another agent's");
    assert_eq!(with("web", token("ghost", "web", "fs:read:/srv/**", None)).refused().0, Stage::Identity);
    assert_eq!(
        with("web", web()).needs(&["web:fetch:a"]).refused().0,
        Stage::Capability,
        "not the bearer's own rights"
    );
    let (stage, hint) = with("web", token("task", "web", "fs:read:/**", None)).needs(&["fs:read:/etc/a"]).refused();
    assert!(stage == Stage::Capability && hint.contains("agent \"task\" lacks fs:read:/etc/a"), "{hint}");
    let private = with("web", web()).needs(&["fs:read:/srv/private/a"]);
    assert_eq!(private.refused().0, Stage::Capability, "denied to the bearer");
    assert_eq!(with("web", token("task", "web", "fs:read:/srv/**", Some("fs.read"))).decide(), Decision::Allow);
    let (stage, hint) = with("web", token("task", "web", "fs:read:/srv/**", Some("fs.list"))).refused();
    assert!(stage == Stage::Capability && hint.contains("does not allow the tool"), "{hint}");
    let medium = Call { risk: Risk::Medium, ..with("web", web()) };
    assert_eq!(medium.decide(), Decision::NeedsApproval(vec![Reason::Risk(Risk::Medium)]), "the bearer's limit");
    let high = Call { risk: Risk::High, ..with("operator", token("task", "operator", "fs:read:/srv/**", None)) };
    assert_eq!(high.decide(), Decision::NeedsApproval(vec![Reason::Risk(Risk::High)]), "and the issuer's");
}

#[test]
fn a_token_that_was_kept_too_long_is_refused() {
    let token = token("task", "web", "fs:read:/srv/**", None);
    let call = Call { agent: "web", token: Some(token), ..call() };
    let policy = policy();
    let request = Request {
        agent: "web",
        tool: "fs.read",
        risk: Risk::Low,
        needs: &call.needs,
        through: &[],
        sinks: &[],
        taint: &call.taint,
        token: call.token.as_ref(),
        now: Timestamp(NOW.0 + 1),
        uptime: Duration::ZERO,
    };
    let decision = decide(&policy, &Grants::default(), &mut RateLimiter::default(), &request);
    assert!(matches!(decision, Decision::Deny(Denial { stage: Stage::Identity, .. })), "{decision:?}");
}

#[test]
fn what_is_looked_through_is_covered_as_a_whole_though_a_part_is_denied() {
    let policy = Policy::from_layers(&[Layer {
        path: "p.toml".into(),
        text: TEXT.replace(r#"deny = ["fs:*:/keys/**"]"#, r#"deny = ["fs:*:/srv/keys/**"]"#),
    }])
    .unwrap();
    let decide = |agent, through: &str| {
        let through = vec![through.parse().unwrap()];
        Call { agent, through, ..call() }.decide_by(&policy, &Grants::default(), &mut RateLimiter::default())
    };
    assert_eq!(decide("task", "fs:read:/srv/**"), Decision::Allow);
    let Decision::Deny(denial) = decide("task", "fs:read:/etc/**") else { panic!("it is not covered") };
    assert_eq!((denial.stage, denial.missing), (Stage::Capability, vec!["fs:read:/etc/**".parse().unwrap()]));
    let as_a_need = Call { needs: vec!["fs:read:/srv/**".parse().unwrap()], ..call() };
    let refused = as_a_need.decide_by(&policy, &Grants::default(), &mut RateLimiter::default());
    assert!(matches!(refused, Decision::Deny(_)), "{refused:?}");
}

#[test]
fn a_missing_right_to_look_through_what_is_denied_in_part_is_not_said_to_be_granted() {
    let policy = Policy::from_layers(&[Layer { path: "p.toml".into(), text: TEXT.into() }]).unwrap();
    let through = vec!["fs:read:/**".parse().unwrap()];
    let decision = Call { through, ..call() }.decide_by(&policy, &Grants::default(), &mut RateLimiter::default());
    let Decision::Deny(denial) = decision else { panic!("{decision:?}") };
    assert!(
        denial.hint.contains("agents.task.capabilities") && denial.hint.contains("stays hidden"),
        "{}",
        denial.hint
    );
    assert!(!denial.hint.contains("aios tool grant"), "{}", denial.hint);
}
