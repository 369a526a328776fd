//! Each tool on the booted root file system, as its golden file says. Needs `make` first.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    time::Duration,
};

use aios_image_tests::namespace::{Namespace, text_of};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(120);

/// What a tool does on the booted image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    call: Vec<Call>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// Another tool than the file is named after.
    tool: Option<String>,
    /// Who calls, instead of the operator: a user of the image.
    user: Option<String>,
    #[serde(default = "no_arguments")]
    arguments: Value,
    /// What has to be in the result: members of objects, elements of arrays; a text that begins with `~` is a pattern.
    result: Option<Value>,
    /// Code of the failure, stage of the refusal, or `approval-required`.
    error: Option<String>,
    /// Somebody approves it.
    #[serde(default)]
    approve: bool,
}

fn no_arguments() -> Value {
    Value::Object(serde_json::Map::new())
}

#[test]
fn every_tool_does_on_the_image_what_its_golden_file_says() -> Result<()> {
    let system = Namespace::boot()?;
    system.wait_until_ready(BOOT)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for file in fs::read_dir(&folder)? {
        let path = file?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(path)?);
    }
    let mut failures = Vec::new();
    let listed: Value = serde_json::from_str(&text_of(system.aios(&["--json", "tool", "list"])?)?)?;
    let tools = listed.as_array().context("`aios --json tool list` gives no list")?;
    assert!(tools.len() >= 70, "{} tools", tools.len());
    for name in tools.iter().filter_map(|tool| tool["name"].as_str()).filter(|name| !files.contains_key(*name)) {
        failures.push(format!("{name} has no golden file"));
    }
    for (name, text) in &files {
        let golden: Golden = toml::from_str(text).with_context(|| name.clone())?;
        for (number, call) in golden.call.iter().enumerate() {
            if let Err(error) = check(&system, name, call) {
                failures.push(format!("{name}, call {}: {error:#}", number + 1));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} tools:\n{}", failures.len(), files.len(), failures.join("\n"));
    Ok(())
}

/// The story: somebody got in, changed a file, left a program that makes its caller root, and listens for when it comes back.
#[test]
fn what_an_intruder_plants_is_told() -> Result<()> {
    const LISTEN: &str = "import socket\ns = socket.create_server(('0.0.0.0', 0))\n\
        print(s.getsockname()[1], flush=True)\ns.accept()";
    let system = Namespace::boot()?;
    system.wait_until_ready(BOOT)?;
    let run = |tool: &str, arguments: &str| -> Result<Value> {
        let answer = text_of(system.aios(&["--json", "tool", "run", tool, arguments, "--yes"])?)?;
        Ok(serde_json::from_str::<Value>(&answer)?["result"].take())
    };
    let shell = |line: &str| text_of(system.inside(&["/bin/sh", "-c", line])?);
    shell("cd /var/lib/aios/config && echo one >kept && echo two >changed")?;
    let watched = r#"{"name": "intrusion", "paths": ["/var/lib/aios/config"]}"#;
    run("sec.baseline", watched)?;
    assert_eq!(run("sec.check_baseline", watched)?["unchanged"], true);
    let programs = || run("sec.suid", r#"{"path": "/var/lib/aios"}"#);
    assert_eq!(programs()?["total"], 0);
    let exposed = || run("sec.listeners", r#"{"exposed_only": true}"#);
    let before = exposed()?["listeners"].clone();

    shell("cd /var/lib/aios/config && echo TWO >changed && cp /bin/busybox .cache && chmod 4755 .cache")?;
    let mut intruder = system.intrude(&["python3", "-c", LISTEN])?;
    let mut port = String::new();
    BufReader::new(intruder.stdout.take().context("its output")?).read_line(&mut port)?;

    let changes = run("sec.check_baseline", watched)?;
    let expected = json!([
        { "path": "/var/lib/aios/config/.cache", "changes": ["added"] },
        { "path": "/var/lib/aios/config/changed", "changes": ["contents"] },
    ]);
    assert_eq!((&changes["unchanged"], &changes["differences"]), (&json!(false), &expected));
    let wanted = json!({ "files": [{ "path": "/var/lib/aios/config/.cache", "mode": "4755", "uid": 0 }], "total": 1 });
    assert_eq!(missing(&wanted, &programs()?, ""), None);
    // Whose it is stays hidden: the program has capabilities that the service itself lacks.
    let local = format!("0.0.0.0:{}", port.trim());
    let listener = json!([{ "protocol": "tcp", "local": local, "exposed": true, "uid": 0 }]);
    assert!(missing(&listener, &before, "").is_some());
    assert_eq!(missing(&listener, &exposed()?["listeners"], ""), None);
    intruder.kill()?;
    intruder.wait()?;
    Ok(())
}

fn check(system: &Namespace, name: &str, call: &Call) -> Result<()> {
    let tool = call.tool.as_deref().unwrap_or(name);
    let how = if call.approve { "--yes" } else { "--no-wait" };
    let arguments = call.arguments.to_string();
    let command = ["--json", "tool", "run", tool, &arguments, how];
    let output = match &call.user {
        Some(user) => system.aios_as(user, &command)?,
        None => system.aios(&command)?,
    };
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no answer: {}", String::from_utf8_lossy(&output.stderr)))?;
    match (&call.result, &call.error) {
        (Some(wanted), None) => {
            if answer["result"].is_null() {
                bail!("failed: {}{}", answer["failure"], answer["refusal"]);
            }
            if let Some(missing) = missing(wanted, &answer["result"], "") {
                bail!("{missing}; the result is {}", shortened(&answer["result"]));
            }
            Ok(())
        }
        (None, Some(wanted)) => {
            let stage = answer["refusal"]["stage"].as_str().map(|stage| match stage {
                "approval" => "approval-required",
                "schema" => "invalid-argument",
                other => other,
            });
            let found = answer["failure"]["code"].as_str().or(stage);
            if found != Some(wanted) {
                bail!("wanted {wanted}, found {}", shortened(&answer));
            }
            Ok(())
        }
        (None, None) if !answer["result"].is_null() => Ok(()),
        (None, None) => bail!("failed: {}{}", answer["failure"], answer["refusal"]),
        (Some(_), Some(_)) => bail!("a golden call wants a result or an error, not both"),
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(600).collect()
}

/// What of `wanted` is not in `found`.
fn missing(wanted: &Value, found: &Value, at: &str) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(name, wanted)| {
            let at = format!("{at}/{name}");
            found.get(name).map_or_else(|| Some(format!("there is no {at}")), |found| missing(wanted, found, &at))
        }),
        (Value::Array(wanted), Value::Array(found)) => wanted.iter().find_map(|wanted| {
            let there = found.iter().any(|found| missing(wanted, found, at).is_none());
            (!there).then(|| format!("{at} has no {wanted}"))
        }),
        (Value::String(pattern), Value::String(text)) if pattern.starts_with('~') => {
            let matches = regex::Regex::new(&pattern[1..]).is_ok_and(|pattern| pattern.is_match(text));
            (!matches).then(|| format!("{at} is {text:?} and does not match {pattern}"))
        }
        (Value::Number(wanted), Value::Number(found)) if wanted.as_f64() == found.as_f64() => None,
        _ => (wanted != found).then(|| format!("{at} is {}, not {wanted}", shortened(found))),
    }
}
