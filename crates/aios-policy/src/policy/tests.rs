use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Policy, PolicyError> {
    Policy::from_layers(&[Layer { path: "p.toml".into(), text: text.into() }])
}

fn refused(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

const PAIR: &str = r#"
deny = ["fs:*:/keys/**"]
[agents.operator]
uids = [0]
capabilities = ["*:*:**"]
tool-rate = "6/min"
[agents.web]
users = ["aios-web"]
certificates = ["sha256:00000000000000000000000000000000000000000000000000000000000000ff"]
capabilities = ["web:fetch:**", "fs:read:/**"]
deny = ["fs:*:/etc/**"]
rate = "7/min"
tool-rates = { "web.fetch" = "3/min" }
[tools."web.fetch"]
rate = "9/h"
[tools."fs.read"]
rate = "8/h"
"#;

#[test]
fn an_empty_policy_knows_nobody() {
    let policy = read("").unwrap();
    assert_eq!(policy, Policy::default());
    assert_eq!(policy.identify(Peer::User { uid: 0, name: Some("root") }), None);
    assert!(!policy.holds("operator", &"fs:read:/".parse().unwrap()));
    assert!(!policy.may_approve("operator"));
}

#[test]
fn a_connection_is_the_agent_of_its_user_or_certificate() {
    let policy = read(PAIR).unwrap();
    let name = |peer| policy.identify(peer).map(|(name, _)| name);
    let user = |uid, name| Peer::User { uid, name };
    assert_eq!(name(user(0, None)), Some("operator"));
    assert_eq!(name(user(7, Some("aios-web"))), Some("web"));
    assert_eq!(name(user(7, None)), None);
    assert_eq!(name(user(7, Some("web"))), None);
    assert_eq!(name(user(0, Some("aios-web"))), None, "two agents are none");
    let print = Fingerprint(std::array::from_fn(|i| if i == 31 { 0xff } else { 0 }));
    assert_eq!(name(Peer::Certificate(&Fingerprint([0; 32]))), None);
    assert_eq!(name(Peer::Certificate(&print)), Some("web"));
    assert_eq!(print.to_string().parse(), Ok(print));
}

#[test]
fn a_signed_answer_is_its_keys_agents() {
    let print = format!("sha256:{}", "ab".repeat(32));
    let policy = read(&format!("[agents.alice]\nkeys = [{print:?}]\n")).unwrap();
    let name = |peer| policy.identify(peer).map(|(name, _)| name);
    assert_eq!(name(Peer::Key(&Fingerprint([0xab; 32]))), Some("alice"));
    assert_eq!(name(Peer::Key(&Fingerprint([0xac; 32]))), None);
    assert_eq!(name(Peer::Certificate(&Fingerprint([0xab; 32]))), None, "a key is no certificate");
    let twice = read(&format!("[agents.alice]\nkeys = [{print:?}]\n[agents.bob]\nkeys = [{print:?}]\n"));
    let error = twice.unwrap_err().to_string();
    assert!(error.contains("agents.bob.keys") && error.contains("is agent \"alice\" already"), "{error}");
}

#[test]
fn an_agent_holds_what_its_lines_cover_and_no_line_denies() {
    let policy = read(PAIR).unwrap();
    let holds = |agent: &str, need: &str| policy.holds(agent, &need.parse().unwrap());
    assert!(holds("operator", "fs:write:/etc/hosts") && holds("web", "fs:read:/tmp/x"));
    assert!(!holds("web", "fs:write:/tmp/x"), "not covered");
    assert!(!holds("web", "fs:read:/etc/hosts"), "denied to it");
    assert!(!holds("operator", "fs:read:/keys/a"), "denied to all");
    assert!(!holds("operator", "fs:read:/**"), "some of it is denied");
    assert!(holds("operator", "fs:read:/keys"));
    assert!(!holds("stranger", "fs:read:/tmp/x"));
    assert_eq!(policy.denied("web", &"fs:read:/etc/*".parse().unwrap()).unwrap().to_string(), "fs:*:/etc/**");
}

#[test]
fn the_nearest_rate_counts() {
    let policy = read(PAIR).unwrap();
    let rates = |agent, tool| {
        let (of_agent, of_tool) = policy.rates(agent, tool);
        (of_agent.to_string(), of_tool.to_string())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(rates("web", "web.fetch"), pair("7/min", "3/min"));
    assert_eq!(rates("web", "fs.read"), pair("7/min", "8/h"));
    assert_eq!(rates("operator", "web.fetch"), pair("120/min", "9/h"));
    assert_eq!(rates("web", "fs.list"), pair("7/min", "60/min"));
    assert_eq!(rates("operator", "fs.list"), pair("120/min", "6/min"));
}

#[test]
fn a_later_layer_wins_key_by_key() {
    let layers = [
        Layer { path: "a".into(), text: PAIR.into() },
        Layer { path: "b".into(), text: "[agents.web]\ncapabilities = []\n[approvals]\ntimeout = \"5s\"\n".into() },
    ];
    let policy = Policy::from_layers(&layers).unwrap();
    assert_eq!(policy.agents["web"].capabilities, []);
    assert_eq!(policy.agents["web"].users, ["aios-web"]);
    assert_eq!(policy.approvals.timeout.0, Duration::from_secs(5));
    let written = toml::to_string(&policy).unwrap();
    assert_eq!(read(&written), Ok(policy), "it reads back");
}

#[test]
fn an_error_names_file_line_and_key() {
    for (text, start) in [
        ("\nden = []", "p.toml:2: den: unknown field `den`"),
        ("[agents.web]\ncapability = []", "p.toml:2: agents.web.capability: unknown field `capability`"),
        (
            "[agents.web]\ncapabilities = [\n  \"fs:read:/a\",\n  \"fs:read\",\n]",
            "p.toml:2: agents.web.capabilities: \"fs:read\" is not a capability: at character 8: write namespace",
        ),
        ("deny = [\"fs:read:a\"]", "p.toml:1: deny: \"fs:read:a\" is not a capability: at character 9: a path"),
        ("[agents.web]\nrate = \"fast\"", "p.toml:2: agents.web.rate: \"fast\" is not a rate: write"),
        ("[agents.web]\nvouches = [\"me\"]", "p.toml:2: agents.web.vouches: \"me\" is no origin: use"),
        ("[agents.web]\ncertificates = [\"x\"]", "p.toml:2: agents.web.certificates: \"x\" is not the fingerprint"),
        ("[agents.web]\nuids = [-1]", "p.toml:2: agents.web.uids: invalid value: integer `-1`"),
        ("[agents.Web]", "p.toml:1: agents.Web: use lower-case letters"),
        (
            "[agents.web]\nmax-risk-without-approval = \"critical\"",
            "p.toml:2: agents.web.max-risk-without-approval: use",
        ),
        ("[defaults]\nmax-risk-without-approval = \"critical\"", "p.toml:2: defaults.max-risk-without-approval: use"),
        ("[agents.web.tool-rates]\n\"a b\" = \"1/s\"", "p.toml:2: agents.web.tool-rates.a b: use a tool's name"),
        ("[tools.\"Fs.read\"]", "p.toml:1: tools.\"Fs.read\": use a tool's name"),
        ("[tools.\"fs.read\"]\nsinks = [\"path\"]", "p.toml:2: tools.\"fs.read\".sinks: \"path\" is no JSON pointer"),
        ("[tools.\"fs.read\"]\napproval = \"maybe\"", "p.toml:2: tools.\"fs.read\".approval: unknown variant `maybe`"),
        (
            "[taint]\n\n[[taint.rules]]\ntools = [\"fs*\"]\naction = \"deny\"",
            "p.toml:3: taint.rules: \"fs*\" is no tool",
        ),
        ("[[taint.rules]]\ntools = []\naction = \"deny\"", "p.toml:1: taint.rules: a rule without tools"),
        ("[[taint.rules]]\ntools = [\"*\"]\nacton = \"deny\"", "p.toml:3: taint.rules.acton: unknown field"),
        ("[approvals]\ntimeout = \"2h\"", "p.toml:2: approvals.timeout: use \"1s\" to \"1h\""),
        ("[approvals]\ntimeout = \"0s\"", "p.toml:2: approvals.timeout: use \"1s\" to \"1h\""),
        ("[approvals]\napprovers = [\"boss\"]", "p.toml:2: approvals.approvers: there is no agent \"boss\""),
        ("[grants]\nmax-duration = \"400d\"", "p.toml:2: grants.max-duration: use \"1s\" to \"366d\""),
        (
            "[agents.a]\nuids = [5]\n[agents.b]\nuids = [4, 5]",
            "p.toml:4: agents.b.uids: user id 5 is agent \"a\" already",
        ),
        (
            "[agents.a]\nusers = [\"x\"]\n[agents.b]\nusers = [\"x\"]",
            "p.toml:4: agents.b.users: user \"x\" is agent \"a\"",
        ),
        ("deny = [", "p.toml:1: "),
    ] {
        let message = refused(text);
        assert!(message.starts_with(start), "{message}");
    }
    let big = format!("# {}", "x".repeat(1 << 20));
    assert!(refused(&big).starts_with("p.toml: larger than"));
}

#[test]
fn a_rule_is_blamed_on_the_layer_that_set_the_key() {
    let layers = [
        Layer { path: "a".into(), text: "[approvals]\ntimeout = \"9h\"".into() },
        Layer { path: "b".into(), text: "[agents.web]".into() },
    ];
    assert!(Policy::from_layers(&layers).unwrap_err().to_string().starts_with("a:2: approvals.timeout: "));
}

#[test]
fn names_have_one_form() {
    for good in ["fs.read", "net.route_add", "self.a-b", "x"] {
        assert!(is_tool_name(good), "{good}");
    }
    for bad in ["", ".", "fs.", ".read", "fs..read", "Fs.read", "fs read", "9.x", &"a".repeat(65)] {
        assert!(!is_tool_name(bad), "{bad}");
    }
    assert!(is_agent_name("mcp-1") && !is_agent_name("a.b") && !is_agent_name("-a") && !is_agent_name(""));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\[\\]a-z.=\" :*/0-9\n#{},-]{0,120}") {
        if let Ok(policy) = read(&text) {
            prop_assert_eq!(read(&toml::to_string(&policy).unwrap()), Ok(policy));
        }
    }

    #[test]
    fn fingerprints_read_back(bytes: [u8; 32], text in "(sha256:)?[0-9a-f]{62,66}") {
        prop_assert_eq!(Fingerprint(bytes).to_string().parse(), Ok(Fingerprint(bytes)));
        if let Ok(read) = text.parse::<Fingerprint>() {
            prop_assert_eq!(read.to_string(), text);
        }
    }
}
