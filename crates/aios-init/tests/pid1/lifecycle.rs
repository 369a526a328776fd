//! Starts, ends and restarts of single units, and what becomes of processes nobody waits for.

use aios_core::control::{Response, UnitState};
use nix::sys::signal::Signal;

use crate::harness::Plan;

#[test]
fn a_killed_service_comes_back() {
    let system = Plan::new().role("service", "ready", "ready = \"notify\"").boot();
    let before = system.wait_for_state("service", UnitState::Ready);
    assert_eq!(before.status.as_deref(), Some("at work"));
    system.signal(system.main_process("service"), Signal::SIGKILL);
    system.wait_until("a new process", || {
        let unit = system.unit("service");
        unit.state == UnitState::Ready && unit.pid != before.pid
    });
    let after = system.unit("service");
    assert_eq!(after.restarts, 1);
    assert_eq!(after.failure.as_deref(), Some("running: killed by signal 9"));
}

#[test]
fn a_service_that_keeps_failing_is_given_up() {
    let system = Plan::new().script("service", "echo run >> $EVENTS; exit 3", "").boot();
    let unit = system.wait_for_state("service", UnitState::Failed);
    assert_eq!(system.events().len(), 6, "one start and five restarts");
    assert_eq!(unit.restarts, 5);
    let reason = unit.failure.unwrap();
    assert!(reason.contains("exited with status 3; given up after 5 restarts within 300 s"), "{reason}");
    system.wait_for_line("unit service: Failed (");
}

#[test]
fn a_service_that_ignores_sigterm_is_killed_with_its_children() {
    let script = "trap '' TERM; sleep 4321 & (trap '' TERM; exec sleep 4321) & echo up >> $EVENTS; wait";
    stop_stubborn(Plan::new().script("stubborn", script, "stop-timeout = \"200ms\""));
}

#[test]
fn without_control_groups_a_session_is_killed_as_a_whole() {
    let script = "trap '' TERM; sleep 4321 & (trap '' TERM; exec sleep 4321) & echo up >> $EVENTS; wait";
    stop_stubborn(Plan::new().without_control_groups().script("stubborn", script, "stop-timeout = \"200ms\""));
}

fn stop_stubborn(plan: Plan) {
    let system = plan.boot();
    system.wait_for_event("up");
    assert_eq!(system.order(r#"{"request":"stop","unit":"stubborn"}"#), Response::Done);
    assert_eq!(system.unit("stubborn").state, UnitState::Stopped);
    let left: Vec<_> = system.processes().into_iter().filter(|process| process.2.contains("sleep 4321")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_dead_service_leaves_behind_is_gone_before_it_runs_again() {
    let script = "if [ -e $EVENTS.second ]; then pgrep -f 'sleep 87654' >> $EVENTS; echo again >> $EVENTS; exec sleep 1000; fi; \
                  touch $EVENTS.second; sleep 87654 & exit 1";
    let system = Plan::new().script("service", script, "").boot();
    system.wait_for_event("again");
    let left: Vec<_> = system.processes().into_iter().filter(|process| process.2 == "sleep 87654 ").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn orphans_are_reaped() {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'echo orphan >> $EVENTS' &); done; exec sleep 1000";
    let system = Plan::new().script("parent", script, "").boot();
    system.wait_until("ten orphans", || system.events().len() == 10);
    system.wait_until("the end of all zombies", || system.processes().iter().all(|process| process.1 != 'Z'));
}

#[test]
fn readiness_is_awaited_no_longer_than_the_start_timeout() {
    let keys = "ready = \"notify\"\nstart-timeout = \"300ms\"\nrestart = \"never\"";
    let system = Plan::new().role("mute", "mute", keys).boot();
    let reason = system.wait_for_state("mute", UnitState::Failed).failure.unwrap();
    assert_eq!(reason, "readiness timeout: no READY=1 within 300ms");
    assert_eq!(system.unit("mute").pid, None);
}

#[test]
fn a_child_of_the_service_may_say_that_it_is_ready() {
    let system = Plan::new().role("forking", "ready-from-a-child", "ready = \"notify\"").boot();
    system.wait_for_state("forking", UnitState::Ready);
}

#[test]
fn nobody_can_say_that_another_unit_is_ready() {
    let system = Plan::new().role("mute", "mute", "ready = \"notify\"").role("impostor", "impostor", "").boot();
    system.wait_for_event("impostor spoke");
    let outside = std::os::unix::net::UnixDatagram::unbound().unwrap();
    outside.send_to(b"READY=1", system.path("run/aios/notify.sock")).unwrap();
    system.wait_for_line("READY=1 from process outside, which is of no unit; ignored");
    assert_eq!(system.unit("mute").state, UnitState::Starting);
}

#[test]
fn a_one_shot_is_ready_when_it_has_ended_well() {
    let system = Plan::new()
        .script("once", "echo once >> $EVENTS", "ready = \"exited\"")
        .script("then", "echo then >> $EVENTS; exec sleep 1000", "requires = [\"once\"]")
        .boot();
    system.wait_for_line("all units Ready (2 units");
    system.wait_for_event("then");
    assert_eq!(system.events(), ["once", "then"]);
    assert_eq!(system.unit("once").pid, None);
}

#[test]
fn a_stopped_unit_stays_stopped_until_it_is_started() {
    let system = Plan::new().script("service", "exec sleep 1000", "restart = \"always\"").boot();
    system.wait_for_state("service", UnitState::Ready);
    assert_eq!(system.order(r#"{"request":"stop","unit":"service"}"#), Response::Done);
    assert_eq!(system.unit("service").state, UnitState::Stopped);
    assert_eq!(system.order(r#"{"request":"start","unit":"service"}"#), Response::Done);
    let before = system.unit("service");
    assert_eq!(before.state, UnitState::Ready);
    assert_eq!(system.order(r#"{"request":"restart","unit":"service"}"#), Response::Done);
    let after = system.unit("service");
    assert_eq!(after.state, UnitState::Ready);
    assert_ne!(after.pid, before.pid);
    assert_eq!(after.restarts, 0, "a restart that was asked for is not counted");
}

#[test]
fn sigterm_to_pid_1_of_a_container_switches_it_off() {
    let mut system = Plan::new().script("service", "exec sleep 1000", "").boot();
    system.wait_for_line("all units Ready");
    system.signal(system.pid1(), Signal::SIGTERM);
    system.wait_for_line("aios-init: poweroff");
    system.wait_for_end();
}

#[test]
fn signals_that_end_other_processes_do_not_end_pid_1() {
    let system = Plan::new().script("service", "exec sleep 1000", "").boot();
    system.wait_for_line("all units Ready");
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGALRM, Signal::SIGQUIT] {
        system.signal(system.pid1(), signal);
    }
    assert_eq!(system.unit("service").state, UnitState::Ready);
}
