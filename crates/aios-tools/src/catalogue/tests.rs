//! What every tool owes.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::*;
use crate::{error::Code, host::Host, tool::Risk};

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn names_are_unique_sorted_and_in_their_namespace() {
    let names: Vec<&str> = all().map(|tool| tool.spec.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    for tools in NAMESPACES {
        assert!(
            tools.is_sorted_by_key(|tool| tool.spec.name),
            "{:?}",
            tools.iter().map(|t| t.spec.name).collect::<Vec<_>>()
        );
        assert!(tools.iter().all(|tool| tool.spec.namespace() == tools[0].spec.namespace()));
    }
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        assert!(parts.len() == 2 && parts.iter().all(|part| is_word(part)), "{name}");
    }
}

#[test]
fn every_example_fits_the_schema_and_needs_what_the_spec_says() {
    for tool in all() {
        let name = tool.spec.name;
        assert!(!tool.spec.examples.is_empty(), "{name} has no example");
        let schema = jsonschema::validator_for(tool.input_schema().as_value()).expect(name);
        jsonschema::validator_for(tool.output_schema().as_value()).expect(name);
        for example in tool.spec.examples {
            let arguments: Value = serde_json::from_str(example.arguments).expect(name);
            assert!(schema.is_valid(&arguments), "{name}: {}", example.arguments);
            let access = tool.access(&arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!access.capabilities.is_empty(), "{name} needs no capability");
            for needed in &access.capabilities {
                assert!(tool.spec.needs.iter().any(|pattern| is_like(pattern, needed)), "{name}: {needed}");
            }
        }
    }
}

/// A value that breaks a bound which `schema` sets beside its type.
fn out_of_bounds(schema: &Value) -> Option<Value> {
    let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str())? {
        "string" => match (bound("maxLength"), bound("minLength")) {
            (Some(most), _) if most < 1 << 20 => Some("a".repeat(most + 1).into()),
            (_, Some(1..)) => Some("".into()),
            _ => None,
        },
        "array" => bound("maxItems").map(|most| vec![Value::Null; most + 1].into()),
        "integer" => Some((schema["maximum"].as_i64()? + 1).into()),
        _ => None,
    }
}

#[test]
fn what_breaks_a_bound_of_the_schema_is_refused_before_the_tool_runs() {
    let mut tried = 0;
    for tool in all() {
        let arguments: Value = serde_json::from_str(tool.spec.examples[0].arguments).expect(tool.spec.name);
        let schema = tool.input_schema();
        for (name, of) in schema.as_value()["properties"].as_object().into_iter().flatten() {
            let Some(value) = out_of_bounds(of) else { continue };
            let mut broken = arguments.clone();
            broken[name] = value;
            assert!(tool.access(&broken).is_err(), "{}: {name}", tool.spec.name);
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried} bounds");
    let search = find("fs.search").expect("fs.search");
    let error = search.access(&serde_json::json!({"path": "/etc", "pattern": ""})).expect_err("an empty pattern");
    assert!(error.message.starts_with("/pattern: "), "{error}");
}

#[test]
fn names_for_clients_of_mcp_are_unique_and_needs_are_patterns() {
    let names: BTreeSet<String> = all().map(|tool| aios_mcp::plain_name(tool.spec.name)).collect();
    assert_eq!(names.len(), all().count());
    for tool in all() {
        for need in tool.spec.needs {
            let pattern = crate::pipeline::identity::pattern(need).unwrap_or_else(|| panic!("{need}"));
            for example in tool.spec.examples {
                let arguments: Value = serde_json::from_str(example.arguments).expect(need);
                let access = tool.access(&arguments).expect(need);
                let mut needed = access.capabilities.iter().filter(|needed| is_like(need, needed));
                let like = |needed: &String| aios_policy::Capability::literal(needed).is_ok_and(|c| pattern.covers(&c));
                assert!(needed.all(like), "{}: {need}", tool.spec.name);
            }
        }
    }
}

/// Whether namespace and action are equal, and the resource begins as the pattern does before its first `{`.
fn is_like(pattern: &str, capability: &str) -> bool {
    let fixed = pattern.split('{').next().unwrap_or_default();
    capability.starts_with(fixed) && (pattern.contains('{') || capability == pattern)
}

#[test]
fn arguments_that_no_tool_knows_are_refused() {
    for tool in all() {
        let mut arguments: Value = serde_json::from_str(tool.spec.examples[0].arguments).expect("JSON");
        arguments["no_such_argument"] = Value::from(1);
        assert!(tool.access(&arguments).is_err(), "{}", tool.spec.name);
        for wrong in [Value::Null, Value::from(1), Value::from("a"), Value::Array(Vec::new())] {
            assert!(tool.access(&wrong).is_err(), "{} takes {wrong}", tool.spec.name);
        }
    }
}

#[test]
fn what_changes_the_system_says_so() {
    for tool in all() {
        let spec = tool.spec;
        assert!(!spec.description.is_empty() && spec.description.ends_with('.'), "{}", spec.name);
        assert!(spec.risk > Risk::Low || !spec.reversible, "{} undoes what it does not do", spec.name);
        let example: Value = serde_json::from_str(spec.examples[0].arguments).expect("JSON");
        let access = tool.access(&example).expect(spec.name);
        assert!(spec.risk > Risk::Low || access.write.is_empty(), "{} writes at low risk", spec.name);
    }
}

#[test]
fn pointers_to_sinks_and_secrets_lead_to_something() {
    for tool in all() {
        let input = tool.input_schema();
        for sink in tool.spec.sinks {
            let field = sink.strip_prefix('/').unwrap_or_else(|| panic!("{}: {sink}", tool.spec.name));
            let field = field.split('/').next().unwrap_or_default();
            assert!(!input.as_value()["properties"][field].is_null(), "{}: {sink}", tool.spec.name);
        }
        for secret in tool.spec.secrets {
            let (side, field) = secret[1..].split_once('/').unwrap_or_else(|| panic!("{}: {secret}", tool.spec.name));
            let schema = if side == "arguments" { input.clone() } else { tool.output_schema() };
            let field = field.split('/').next().unwrap_or_default();
            assert!(!schema.as_value()["properties"][field].is_null(), "{}: {secret}", tool.spec.name);
        }
    }
}

#[test]
fn a_program_a_socket_or_a_device_that_is_missing_is_said_to_be() {
    let nowhere = tempfile::tempdir().expect("tempdir");
    let host = Host::below(nowhere.path());
    // Every system has one.
    let boot_id = nowhere.path().join("proc/sys/kernel/random/boot_id");
    std::fs::create_dir_all(boot_id.parent().expect("a folder")).expect("mkdir");
    std::fs::write(boot_id, "5c9f2a4e-0000-4000-8000-000000000001\n").expect("write");
    let mut tried = 0;
    for tool in all() {
        let name = tool.spec.name;
        let arguments: Value = serde_json::from_str(tool.spec.examples[0].arguments).expect("JSON");
        let access = tool.access(&arguments).expect(name);
        let needed = || access.programs.iter().chain(&access.sockets).chain(&access.devices);
        if needed().next().is_none() || MISSES_NOTHING.contains(&name) {
            continue;
        }
        let error = tool.run(&arguments, &host).err().unwrap_or_else(|| panic!("{name} misses nothing"));
        assert!(
            matches!(error.code, Code::NotInstalled | Code::Unsupported | Code::Unavailable),
            "{name}: {:?}, {error}",
            error.code
        );
        assert!(needed().any(|path| error.message.contains(path.to_str().expect("UTF-8"))), "{name}: {error}");
        tried += 1;
    }
    assert!(tried > 20, "only {tried} tools need anything");
}

/// Tools which can do without the program that they ask for: where nothing waits, nothing is taken back or kept.
const MISSES_NOTHING: [&str; 2] = ["firewall.confirm", "firewall.revert"];

#[test]
fn the_injection_tests_know_each_tool_that_an_attacker_wants() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/injection/sinks.txt");
    let text = std::fs::read_to_string(&file).expect("readable");
    let known: BTreeSet<&str> = text.lines().collect();
    let dangerous: BTreeSet<&str> =
        all().filter(|tool| !tool.spec.sinks.is_empty()).map(|tool| tool.spec.name).collect();
    assert_eq!(known, dangerous, "{}", file.display());
}

#[test]
fn every_tool_is_tried_on_the_booted_image() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../aios-image-tests/tests/golden");
    for tool in all() {
        let file = golden.join(format!("{}.toml", tool.spec.name));
        assert!(file.is_file(), "{} is missing", file.display());
    }
}
