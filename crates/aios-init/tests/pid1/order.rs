//! Who starts before whom, who stops before whom.

use aios_core::control::{Response, UnitState};

use crate::harness::Plan;

/// Tells when it starts and when it is asked to stop.
fn script(name: &str) -> String {
    format!(
        "trap 'echo {name} down >> $EVENTS; kill $child; exit 0' TERM; echo {name} up >> $EVENTS; \
         sleep 1000 & child=$!; wait $child"
    )
}

#[test]
fn units_start_in_order_and_stop_in_reverse_order() {
    let mut system = Plan::new()
        .script("first", &script("first"), "")
        .script("second", &script("second"), "requires = [\"first\"]")
        .script("third", &script("third"), "after = [\"second\"]")
        .boot();
    let line = system.wait_for_line("all units Ready");
    assert!(line.contains("all units Ready (3 units, "), "{line}");
    for unit in ["first up", "second up", "third up"] {
        system.wait_for_event(unit);
    }
    assert_eq!(system.order(r#"{"request":"power-off"}"#), Response::Done);
    system.wait_for_end();
    let events = system.events();
    let downs: Vec<&str> = events.iter().filter_map(|event| event.strip_suffix(" down")).collect();
    assert_eq!(downs, ["third", "second", "first"]);
    let console = system.console();
    let place = |text: &str| console.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}"));
    assert!(place("unit first: Ready") < place("unit second: Ready"));
    assert!(place("unit second: Ready") < place("unit third: Ready"));
    assert!(place("aios-init: poweroff") < place("aios-init: power off now"));
}

#[test]
fn a_unit_waits_for_the_readiness_of_its_requirement_and_not_just_its_start() {
    let system = Plan::new()
        .role("slow", "mute", "ready = \"notify\"")
        .script("dependent", "echo dependent up >> $EVENTS; exec sleep 1000", "requires = [\"slow\"]")
        .script("other", "echo other up >> $EVENTS; exec sleep 1000", "")
        .boot();
    system.wait_for_event("other up");
    assert_eq!(system.unit("slow").state, UnitState::Starting);
    assert_eq!(system.unit("dependent").state, UnitState::Waiting);
    assert_eq!(system.unit("dependent").pid, None);
}

#[test]
fn a_broken_unit_file_disables_that_unit_alone() {
    let system = Plan::new()
        .unit("broken", "command = [\"/bin/true\"]\ncolour = \"red\"\n")
        .script("needs-broken", "exec sleep 1000", "requires = [\"broken\"]")
        .script("fine", "exec sleep 1000", "after = [\"broken\"]")
        .boot();
    system.wait_for_state("fine", UnitState::Ready);
    let reason = system.wait_for_state("broken", UnitState::Failed).failure.unwrap();
    assert!(reason.contains("broken.toml:2: unknown field `colour`"), "{reason}");
    let reason = system.wait_for_state("needs-broken", UnitState::Failed).failure.unwrap();
    assert!(reason.starts_with("dependency: requires broken, which failed"), "{reason}");
    let Response::Error { message } = system.order(r#"{"request":"restart","unit":"broken"}"#) else {
        panic!("a broken unit was restarted");
    };
    assert!(message.contains("unknown field"), "{message}");
    system.wait_for_line("unit broken: Failed (unit file): ");
}

#[test]
fn a_cycle_and_an_unknown_requirement_are_named() {
    let system = Plan::new()
        .script("a", "exec sleep 1000", "requires = [\"b\"]")
        .script("b", "exec sleep 1000", "after = [\"a\"]")
        .script("lost", "exec sleep 1000", "requires = [\"ghost\"]")
        .script("fine", "exec sleep 1000", "")
        .boot();
    system.wait_for_state("fine", UnitState::Ready);
    assert_eq!(system.unit("a").failure.unwrap(), "dependency: dependency cycle: a -> b -> a");
    assert_eq!(system.unit("b").failure.unwrap(), "dependency: dependency cycle: a -> b -> a");
    assert_eq!(system.unit("lost").failure.unwrap(), "dependency: requires ghost, which does not exist");
}

#[test]
fn a_machine_without_units_is_ready_and_can_be_switched_off() {
    let mut system = Plan::new().boot();
    system.wait_for_line("all units Ready (0 units, ");
    assert_eq!(system.order(r#"{"request":"reboot"}"#), Response::Done);
    system.wait_for_end();
}
