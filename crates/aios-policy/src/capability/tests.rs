use proptest::prelude::*;

use super::*;

fn capability(text: &str) -> Capability {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_written_reads_back() {
    for text in [
        "fs:read:/etc/hosts",
        "fs:*:**",
        "*:*:**",
        "fs:write:/",
        "net:address:eth0",
        "net:*:wlan*",
        "web:fetch:*.example.com",
        "fs:read:/with space/ä:ö/x",
        "fs:read:/odd\\*name\\\\",
        "service:restart:aios-runtime",
        "fs:read:/a/**/*.log",
        "fs:read:/...",
        "web:fetch:https://example.com/a/",
    ] {
        assert_eq!(capability(text).to_string(), text);
        let json = serde_json::to_string(&capability(text)).unwrap();
        assert_eq!(serde_json::from_str::<Capability>(&json).unwrap(), capability(text));
    }
}

#[test]
fn a_fault_is_named_with_its_place() {
    for (text, position, fault) in [
        ("", 1, Fault::Parts),
        ("fs", 3, Fault::Parts),
        ("fs:read", 8, Fault::Parts),
        (":read:x", 1, Fault::Name),
        ("Fs:read:/", 1, Fault::Name),
        ("fs:re*:/", 6, Fault::Name),
        ("fs:re ad:/", 6, Fault::Name),
        ("fs::/", 4, Fault::Name),
        ("aaaaaaaaaabbbbbbbbbbccccccccccddd:a:b", 33, Fault::Name),
        ("fs:read:", 9, Fault::Resource),
        ("fs:read:etc", 9, Fault::RelativePath),
        ("fs:read:*", 9, Fault::RelativePath),
        ("fs:read:/a***", 11, Fault::Stars),
        ("fs:read:/a\\b", 11, Fault::Escape),
        ("fs:read:/a\\", 11, Fault::Escape),
        ("fs:read:/ä//b", 12, Fault::EmptySegment),
        ("fs:read:/a/", 12, Fault::EmptySegment),
        ("fs:read://", 10, Fault::EmptySegment),
        ("fs:read:/a/../b", 12, Fault::DotSegment),
        ("fs:read:/..", 10, Fault::DotSegment),
        ("fs:read:/a/.", 12, Fault::DotSegment),
        ("net:up:..", 8, Fault::DotSegment),
        ("fs:read:/a\n", 11, Fault::Control),
        ("fs:read:/a\0b", 11, Fault::Control),
        ("fs:read:/a\u{202e}b", 11, Fault::Control),
    ] {
        let error = text.parse::<Capability>().expect_err(text);
        assert_eq!((error.position, error.fault), (position, fault), "{text:?}");
    }
    let long = format!("fs:read:/{}", "a".repeat(MAX_BYTES));
    assert_eq!(long.parse::<Capability>().unwrap_err().fault, Fault::TooLong);
    assert!(long.parse::<Capability>().unwrap_err().to_string().len() < 200);
    let message = "fs:read:/\u{1b}[2J".parse::<Capability>().unwrap_err().to_string();
    assert!(!message.contains('\u{1b}'), "{message}");
}

#[test]
fn an_exact_capability_takes_its_parts_as_they_are() {
    let star = Capability::exact("fs", "read", "/tmp/a*").unwrap();
    assert!(star.is_exact());
    assert_eq!(star.to_string(), "fs:read:/tmp/a\\*");
    assert!(!star.covers(&capability("fs:read:/tmp/ab")));
    assert!(capability("fs:read:/tmp/a*").covers(&star));
    assert_eq!(Capability::exact("fs", "read", "/a\\*").unwrap().to_string(), "fs:read:/a\\\\\\*");
    for (namespace, action, position) in [("fs:x", "read", 3), ("fs", "a:b", 5), ("*", "read", 1), ("fs", "*", 4)] {
        let error = Capability::exact(namespace, action, "/x").unwrap_err();
        assert_eq!((error.position, error.fault), (position, Fault::Name));
    }
    assert_eq!(Capability::exact("fs", "read", "/a/../b").unwrap_err().fault, Fault::DotSegment);
    assert_eq!(Capability::literal("fs:read:/tmp/a*").unwrap(), star);
    assert_eq!(Capability::literal("web:get:a:1").unwrap(), Capability::exact("web", "get", "a:1").unwrap());
    assert_eq!(Capability::literal("fs:read").unwrap_err().fault, Fault::Parts);
    assert_eq!(Capability::literal("*:read:/a").unwrap_err().fault, Fault::Name);
    assert_eq!(Capability::below("fs", "read", "/a*").unwrap().to_string(), "fs:read:/a\\*/**");
    assert_eq!(Capability::below("fs", "read", "/").unwrap().to_string(), "fs:read:/**");
    assert!(!capability("fs:*:/a").is_exact() && !capability("fs:read:/a*").is_exact());
}

#[test]
fn wildcards_stop_where_they_should() {
    for (wide, narrow, expected) in [
        ("fs:read:/etc/*", "fs:read:/etc/hosts", true),
        ("fs:read:/etc/*", "fs:read:/etc/ssl/cert", false),
        ("fs:read:/etc/**", "fs:read:/etc/ssl/cert", true),
        ("fs:read:/etc/**", "fs:read:/etc", false),
        ("fs:read:/etc/**", "fs:read:/etcetera/x", false),
        ("fs:read:/etc/**", "fs:write:/etc/hosts", false),
        ("fs:*:/etc/**", "fs:write:/etc/hosts", true),
        ("fs:read:/etc/**", "fs:*:/etc/hosts", false),
        ("*:*:**", "fs:*:/etc/**", true),
        ("fs:*:/etc/**", "*:*:**", false),
        ("fs:read:/a/**/b", "fs:read:/a/x/y/b", true),
        ("fs:read:/a/**/b", "fs:read:/a/x/*/b", true),
        ("fs:read:/a/*/b", "fs:read:/a/**/b", false),
        ("fs:read:/a/*", "fs:read:/a/*.log", true),
        ("fs:read:/a/*.log", "fs:read:/a/*", false),
        ("net:up:*", "net:up:eth0", true),
        ("net:up:wlan*", "net:up:eth0", false),
    ] {
        assert_eq!(capability(wide).covers(&capability(narrow)), expected, "{wide} covers {narrow}");
    }
    for (a, b, expected) in [
        ("fs:read:/etc/**", "fs:*:**", true),
        ("fs:read:/*/b", "fs:read:/a/*", true),
        ("fs:read:/a*", "fs:read:/b*", false),
        ("fs:read:/a/**", "fs:write:/a/**", false),
        ("fs:read:/a*", "fs:read:/*/b", false),
    ] {
        assert_eq!(capability(a).overlaps(&capability(b)), expected, "{a} overlaps {b}");
        assert_eq!(capability(b).overlaps(&capability(a)), expected, "{b} overlaps {a}");
    }
}

/// Matching by the definition alone: every way to cut the text is tried.
fn matches(pattern: &[Symbol], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Symbol::Char(c), rest)) => text.first() == Some(c) && matches(rest, &text[1..]),
        Some((wildcard, rest)) => (0..=text.len())
            .take_while(|&n| *wildcard == Symbol::Any || !text[..n].contains(&'/'))
            .any(|n| matches(rest, &text[n..])),
    }
}

/// All strings of `a`, `b` and `/` up to a length.
fn strings(longest: usize) -> Vec<Vec<char>> {
    let mut all = vec![vec![]];
    let mut from = 0;
    for _ in 0..longest {
        let length = all.len();
        for i in from..length {
            for c in ['a', 'b', '/'] {
                let mut longer: Vec<char> = all[i].clone();
                longer.push(c);
                all.push(longer);
            }
        }
        from = length;
    }
    all
}

fn pattern() -> impl Strategy<Value = Vec<Symbol>> {
    let symbol = prop_oneof![
        3 => prop_oneof![Just('a'), Just('b'), Just('/')].prop_map(Symbol::Char),
        1 => Just(Symbol::Segment),
        1 => Just(Symbol::Any),
    ];
    prop::collection::vec(symbol, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The strings that are tried hold every one that a pattern of five symbols needs to tell itself from another.
    #[test]
    fn inclusion_is_that_of_the_strings(wide in pattern(), narrow in pattern()) {
        if matching::includes(&wide, &narrow) {
            for text in strings(7) {
                prop_assert!(!matches(&narrow, &text) || matches(&wide, &text), "{text:?}");
            }
        }
        let exact: Vec<char> = narrow.iter().filter_map(|s| match s { Symbol::Char(c) => Some(*c), _ => None }).collect();
        let literal: Vec<Symbol> = exact.iter().map(|c| Symbol::Char(*c)).collect();
        prop_assert_eq!(matching::includes(&wide, &literal), matches(&wide, &exact), "complete for strings");
        let whole: Vec<Symbol> = wide.iter().map(|s| if *s == Symbol::Segment { Symbol::Any } else { *s }).collect();
        prop_assert!(matching::includes(&whole, &wide), "** for *");
        prop_assert!(matching::includes(&wide, &wide), "reflexive");
    }

    #[test]
    fn intersection_is_that_of_the_strings(a in pattern(), b in pattern()) {
        let (a, b) = (&a[..a.len().min(3)], &b[..b.len().min(3)]);
        // Patterns that share a string share one of which each character is written in either of them.
        let common = strings(6).into_iter().any(|text| matches(a, &text) && matches(b, &text));
        prop_assert_eq!(matching::intersect(a, b), common);
        prop_assert_eq!(matching::intersect(a, b), matching::intersect(b, a));
        if matching::includes(a, b) {
            prop_assert!(matching::intersect(a, b), "what is included is shared");
        }
    }

    /// What stands in front moves the patterns across the borders of machine words.
    #[test]
    fn inclusion_is_the_same_in_long_patterns(wide in pattern(), narrow in pattern(), length in 0usize..200) {
        let far = |pattern: &[Symbol]| {
            let mut far = vec![Symbol::Segment];
            far.extend(vec![Symbol::Char('z'); length + 1]);
            far.extend(pattern);
            far
        };
        prop_assert_eq!(matching::includes(&far(&wide), &far(&narrow)), matching::includes(&wide, &narrow));
    }

    #[test]
    fn coverage_passes_on(a in pattern(), b in pattern(), c in pattern()) {
        if matching::includes(&a, &b) && matching::includes(&b, &c) {
            prop_assert!(matching::includes(&a, &c));
        }
    }

    #[test]
    fn a_widened_pattern_covers_what_it_was(pattern in pattern(), at in 0usize..6, any: bool) {
        let mut wide = pattern.clone();
        let at = at.min(wide.len());
        wide.insert(at, if any { Symbol::Any } else { Symbol::Segment });
        prop_assert!(matching::includes(&wide, &pattern), "one more wildcard");
        if at + 1 < wide.len() && (any || !matches!(wide[at + 1], Symbol::Any | Symbol::Char('/'))) {
            wide.remove(at + 1);
            prop_assert!(matching::includes(&wide, &pattern), "a wildcard in place of what it stands for");
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_what_it_takes_reads_back(text in "[a-z*:/.\\\\ ä\u{202e}\n]{0,24}") {
        if let Ok(read) = text.parse::<Capability>() {
            prop_assert_eq!(read.to_string(), text);
            prop_assert!(read.covers(&read) && read.overlaps(&read));
        }
    }

    #[test]
    fn every_resource_has_an_exact_capability_unless_it_is_no_path(resource in "[ab*\\\\/.]{1,12}") {
        if let Ok(exact) = Capability::exact("x", "y", &resource) {
            prop_assert!(exact.is_exact());
            prop_assert_eq!(exact.to_string().parse::<Capability>().unwrap(), exact);
        }
    }
}
