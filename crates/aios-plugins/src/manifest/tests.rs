use super::*;

const GOOD: &str = r#"
name = "pump-stats"
version = "1.2.0"
description = "Statistics over the logs of pumps."
data = true

[limits]
fuel = 5_000_000
memory = "2MiB"
timeout = "3s"

[[folders]]
name = "logs"
access = "read"
within = ["/var/log", "/srv/pumps"]

[[tools]]
name = "summary"
description = "Mean and maximum of a column."
risk = "low"
input = { type = "object", properties = { column = { type = "string" } }, required = ["column"] }
output = { type = "object" }
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    Manifest::parse(&GOOD.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn a_manifest_says_what_it_says_and_has_defaults() {
    let manifest = Manifest::parse(GOOD).expect("manifest");
    assert_eq!((manifest.limits.fuel, manifest.limits.memory), (5_000_000, ByteSize(2 << 20)));
    assert_eq!(manifest.limits.output, Limits::default().output);
    let name = |text: &str| Name::try_from(text.to_owned()).expect("name");
    assert!(manifest.tool(&name("summary")).is_some() && manifest.tool(&name("other")).is_none());
    let logs = manifest.folder(&name("logs")).expect("folder");
    for good in ["/var/log", "/var/log/pump", "/srv/pumps/a/b"] {
        assert!(logs.takes(good.as_ref()), "{good}");
    }
    for bad in ["/var", "/var/logs", "/srv", "/", "/var/lib/aios"] {
        assert!(!logs.takes(bad.as_ref()), "{bad}");
    }
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (from, to, told) in [
        ("name = \"pump-stats\"", "name = \"../etc\"", "line 2"),
        ("data = true", "dato = true", "unknown field"),
        ("version = \"1.2.0\"", "version = \"1 2\"", "without spaces"),
        ("description = \"Statistics over the logs of pumps.\"", "description = \"a\\nb\"", "one line"),
        ("fuel = 5_000_000", "fuel = 1", "use 1000 to 100000000000"),
        ("memory = \"2MiB\"", "memory = \"1GiB\"", "use \"64KiB\" to \"64MiB\""),
        ("timeout = \"3s\"", "timeout = \"1h\"", "limits.timeout"),
        ("name = \"logs\"", "name = \"data\"", "own folder"),
        ("\"/srv/pumps\"", "\"/srv/../etc\"", "holds \"..\""),
        ("\"/srv/pumps\"", "\"srv\"", "not absolute"),
        ("risk = \"low\"", "risk = \"critical\"", "unknown variant"),
        ("output = { type = \"object\" }", "output = { type = \"thing\" }", "`output` of tool summary"),
        ("input = { type = \"object\",", "input = { type = \"array\",", "must be an object"),
        ("output = { type = \"object\" }", "output = { \"$ref\" = \"https://example.com/x\" }", "`output`"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(told), "{to}: {error}");
    }
    assert!(Manifest::parse(&format!("{GOOD}{}", "#".repeat(MANIFEST_MAX as usize))).is_err());
    let twice = GOOD.find("[[tools]]").map(|at| format!("{GOOD}{}", &GOOD[at..])).expect("tools");
    assert!(Manifest::parse(&twice).expect_err("twice").to_string().contains("two have the name summary"));
}
