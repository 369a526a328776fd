//! The built root file system, booted in namespaces. Needs `make` first.

use std::time::{Duration, Instant};

use aios_core::control::UnitState;
use aios_image_tests::namespace::{Namespace, text_of};
use anyhow::Result;
use serde_json::Value;

const BOOT: Duration = Duration::from_secs(120);

#[test]
fn every_unit_becomes_ready_and_the_model_answers() -> Result<()> {
    let system = Namespace::boot()?;
    let units = system.wait_until_ready(BOOT)?;
    assert!(units.iter().any(|u| u.name == "runtime"), "{units:?}");
    let ask = ["ask", "--temperature", "0", "--max-tokens", "24", "What is an operating system?"];
    let answer = text_of(system.aios(&ask)?)?;
    assert!(answer.to_lowercase().contains("operating system"), "{answer}");
    Ok(())
}

#[test]
fn a_killed_service_comes_back() -> Result<()> {
    let system = Namespace::boot()?;
    for unit in system.wait_until_ready(BOOT)? {
        let Some(pid) = unit.pid else { continue };
        text_of(system.inside(&["/bin/kill", "-9", &pid.to_string()])?)?;
        let again = system.wait_for(&format!("{} to come back", unit.name), BOOT, |ns| {
            let now = ns.unit(&unit.name)?;
            (now.state == UnitState::Ready && now.pid != Some(pid)).then_some(now)
        })?;
        assert_eq!(again.restarts, 1, "{again:?}");
    }
    Ok(())
}

#[test]
fn services_run_as_their_own_users_without_capabilities() -> Result<()> {
    let system = Namespace::boot()?;
    let units = system.wait_until_ready(BOOT)?;
    let runtime = units.iter().find(|u| u.name == "runtime").and_then(|u| u.pid).expect("the runtime has a process");
    let status = text_of(system.inside(&["/bin/cat", &format!("/proc/{runtime}/status")])?)?;
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_ne!(field("Uid:").split_whitespace().next(), Some("0"), "{status}");
    assert_eq!(field("CapBnd:"), "0000000000000000", "{status}");
    assert_eq!(field("NoNewPrivs:"), "1", "{status}");
    for unit in ["memory", "runtime", "fleet"] {
        let file = text_of(system.inside(&["/bin/cat", &format!("/usr/lib/aios/units/{unit}.toml")])?)?;
        let log = text_of(system.aios(&["log", unit])?)?;
        assert!(file.contains("[confine]") && !log.contains("unconfined"), "{unit}: {log}");
    }
    Ok(())
}

#[test]
fn the_root_file_system_is_read_only_and_etc_forgets() -> Result<()> {
    let system = Namespace::boot()?;
    system.wait_until_ready(BOOT)?;
    assert!(!system.inside(&["/bin/touch", "/usr/bin/planted"])?.status.success());
    text_of(system.inside(&["/bin/touch", "/etc/noted"])?)?;
    drop(system);
    let again = Namespace::boot()?;
    again.wait_until_ready(BOOT)?;
    assert!(!again.inside(&["/bin/ls", "/etc/noted"])?.status.success());
    Ok(())
}

#[test]
fn poweroff_stops_the_units_in_order_and_ends_the_system() -> Result<()> {
    let mut system = Namespace::boot()?;
    system.wait_until_ready(BOOT)?;
    let started = Instant::now();
    text_of(system.aios(&["poweroff"])?)?;
    system.wait_for_end(Duration::from_secs(30))?;
    let console = system.console();
    assert!(console.contains("aios-init: poweroff"), "{console}");
    assert!(console.contains("aios-init: power off now"), "{console}");
    // Units that end when told to don't wait for their stop timeout.
    assert!(started.elapsed() < Duration::from_secs(15), "took {:?}:\n{console}", started.elapsed());
    Ok(())
}

#[test]
fn what_a_unit_writes_on_its_way_out_is_in_its_log() -> Result<()> {
    let system = Namespace::boot()?;
    system.wait_until_ready(BOOT)?;
    let before = text_of(system.aios(&["log", "runtime"])?)?;
    text_of(system.aios(&["stop", "runtime"])?)?;
    let after = text_of(system.aios(&["log", "runtime"])?)?;
    assert!(after.starts_with(&before), "{after}");
    assert!(after.len() > before.len(), "{after}");
    Ok(())
}

/// What a search answers with `--json`.
fn search(system: &Namespace, text: &str) -> Result<Value> {
    let found = text_of(system.aios(&["memory", "search", text, "--json"])?)?;
    Ok(serde_json::from_str(&found)?)
}

#[test]
fn what_is_remembered_is_found_by_its_meaning_after_a_kill_too_until_it_is_erased() -> Result<()> {
    let system = Namespace::boot()?;
    let units = system.wait_until_ready(BOOT)?;
    let fan = "The fan hums because its bearing is worn.";
    text_of(system.aios(&["memory", "add", "--source", "manual.txt", fan])?)?;
    text_of(system.aios(&["memory", "add", "Invoices are due within thirty days."])?)?;
    // None of its words is in the item.
    let question = "noisy cooling device";
    let by_meaning = |found: &Value| found["by"] == "meaning-and-words" && found["without_vector"] == 0;
    let first = |found: &Value| found["hits"][0]["item"]["text"].as_str().is_some_and(|text| text.contains(fan));
    let found = system.wait_for("what was added to have its vector", BOOT, |system| {
        search(system, question).ok().filter(by_meaning)
    })?;
    assert!(first(&found), "{found}");

    let pid =
        units.iter().find(|unit| unit.name == "memory").and_then(|unit| unit.pid).expect("the memory has a process");
    text_of(system.inside(&["/bin/kill", "-9", &pid.to_string()])?)?;
    let found = system.wait_for("the memory to answer again", BOOT, |system| search(system, question).ok())?;
    assert!(by_meaning(&found) && first(&found), "{found}");

    // What a model would read of it, counted by the model that is there.
    let context = |budget: &str| -> Result<Value> {
        let shown = text_of(system.aios(&["memory", "context", question, "--budget", budget, "--json"])?)?;
        Ok(serde_json::from_str(&shown)?)
    };
    let [roomy, tight] = [context("512")?, context("8")?];
    let told = roomy["text"].as_str().unwrap_or_default();
    assert!(told.starts_with("[knowledge]\n- (") && told.contains(fan) && !told.contains("untrusted"), "{roomy}");
    assert!(roomy["tokens"].as_u64().is_some_and(|tokens| (10..=512).contains(&tokens)), "{roomy}");
    assert_eq!(
        (&tight["text"], tight["left_out"][0]["reason"].as_str()),
        (&Value::from(""), Some("budget")),
        "{tight}"
    );

    let refused = system.aios_as("agent-web", &["memory", "search", question])?;
    assert!(!refused.status.success(), "{refused:?}");
    text_of(system.aios(&["memory", "erase", "--source", "manual.txt", "--yes"])?)?;
    let found = search(&system, question)?;
    assert!(!first(&found) && !found.to_string().contains("bearing"), "{found}");
    Ok(())
}

/// What `aios memory stats --json` says of the memory.
fn memory_state(system: &Namespace) -> Option<(String, String)> {
    let stats = text_of(system.aios(&["memory", "stats", "--json"]).ok()?).ok()?;
    let stats: Value = serde_json::from_str(&stats).ok()?;
    Some((stats["state"].as_str()?.to_owned(), stats["reason"].as_str()?.to_owned()))
}

#[test]
fn a_damaged_memory_is_read_says_so_and_is_repaired() -> Result<()> {
    const FILE: &str = "/var/lib/aios/memory/memory.redb";
    let system = Namespace::boot()?;
    system.wait_until_ready(BOOT)?;
    text_of(system.aios(&["memory", "add", "The gasket leaks since March."])?)?;
    text_of(system.aios(&["memory", "add", "Invoices are due within thirty days."])?)?;
    text_of(system.aios(&["stop", "memory"])?)?;
    let file = system.inside(&["/bin/cat", FILE])?.stdout;
    let damaged = b"gasket leaks";
    let places = file.windows(damaged.len()).enumerate().filter(|(_, bytes)| bytes == damaged).map(|(place, _)| place);
    for place in places {
        let spoil = format!("printf GASKET | dd of={FILE} bs=1 seek={place} conv=notrunc");
        text_of(system.inside(&["/bin/sh", "-c", &spoil])?)?;
    }
    text_of(system.aios(&["start", "memory"])?)?;
    let reason = system.wait_for("the memory to see the damage", BOOT, |system| {
        memory_state(system).filter(|(state, _)| state == "read-only").map(|(_, reason)| reason)
    })?;
    assert!(reason.contains("aios memory repair"), "{reason}");
    let sound = |system: &Namespace| search(system, "invoices").is_ok_and(|found| found.to_string().contains("thirty"));
    assert!(sound(&system), "what is sound is still found");
    let refused = system.aios(&["memory", "add", "more"])?;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("repair"), "{refused:?}");

    text_of(system.aios(&["stop", "memory"])?)?;
    let repaired = text_of(system.aios(&["memory", "repair", "--json"])?)?;
    let repaired: Value = serde_json::from_str(&repaired)?;
    assert_eq!((&repaired["items"], &repaired["lost"]), (&Value::from(1), &Value::from(1)), "{repaired}");
    text_of(system.aios(&["start", "memory"])?)?;
    let state = system.wait_for("the memory to answer", BOOT, memory_state)?;
    assert_eq!(state, ("writable".to_owned(), String::new()));
    assert!(sound(&system), "what was saved is found");
    text_of(system.aios(&["memory", "add", "The gasket leaks since March."])?)?;
    Ok(())
}
