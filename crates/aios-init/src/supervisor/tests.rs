//! Scenarios first, then the properties over random graphs, worlds and operators.

mod properties;

use super::*;

fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn spec(name: &str) -> Spec {
    Spec {
        name: name.into(),
        requires: Vec::new(),
        after: Vec::new(),
        ready: ReadyWhen::Notify,
        restart: Restart::OnFailure,
        start_timeout: ms(90_000),
        stop_timeout: ms(5_000),
        defect: None,
    }
}

fn requiring(name: &str, required: usize) -> Spec {
    Spec { requires: vec![UnitId(required)], ..spec(name) }
}

const A: UnitId = UnitId(0);
const B: UnitId = UnitId(1);

/// Only what touches processes.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|action| !matches!(action, Action::Changed(_))).collect()
}

fn supervise(specs: Vec<Spec>) -> Supervisor {
    Supervisor::new(specs).expect("the test's graph has no cycle")
}

#[test]
fn a_unit_starts_when_its_requirement_is_ready() {
    let mut supervisor = supervise(vec![spec("a"), requiring("b", 0)]);
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(0))), [Action::Start(A)]);
    assert_eq!(supervisor.state(B), UnitState::Waiting);
    assert_eq!(deeds(supervisor.step(Event::Executed(A), ms(1))), []);
    assert_eq!(deeds(supervisor.step(Event::Notified(A), ms(2))), [Action::Start(B)]);
    supervisor.step(Event::Notified(B), ms(3));
    assert!(supervisor.all_ready());
}

#[test]
fn independent_units_start_at_once() {
    let mut supervisor = supervise(vec![spec("a"), spec("b")]);
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(0))), [Action::Start(A), Action::Start(B)]);
}

#[test]
fn a_start_timeout_terminates_and_then_kills_and_then_retries() {
    let mut supervisor = supervise(vec![spec("a")]);
    supervisor.step(Event::Tick, ms(0));
    assert_eq!(supervisor.next_deadline(), Some(ms(90_000)));
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(90_000))), [Action::Terminate(A)]);
    assert_eq!(supervisor.failure(A).map(|failure| failure.stage), Some(Stage::Readiness));
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(95_000))), [Action::Kill(A)]);
    supervisor.step(Event::Gone(A), ms(95_001));
    assert_eq!(supervisor.state(A), UnitState::Backoff);
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(95_101))), [Action::Start(A)]);
}

#[test]
fn a_crash_after_ten_steady_seconds_restarts_without_delay() {
    let mut supervisor = supervise(vec![spec("a")]);
    supervisor.step(Event::Tick, ms(0));
    supervisor.step(Event::Notified(A), ms(1));
    assert_eq!(deeds(supervisor.step(Event::Exited(A, Outcome::Signal(9)), ms(20_000))), [Action::Kill(A)]);
    assert_eq!(deeds(supervisor.step(Event::Gone(A), ms(20_001))), [Action::Start(A)]);
    assert_eq!(supervisor.restarts(A), 1);
}

#[test]
fn the_sixth_crash_in_the_window_is_final_until_someone_restarts_it() {
    let mut supervisor = supervise(vec![spec("a"), requiring("b", 0)]);
    let mut now = ms(0);
    supervisor.step(Event::Tick, now);
    for _ in 0..6 {
        assert_eq!(supervisor.state(A), UnitState::Starting);
        supervisor.step(Event::Exited(A, Outcome::Status(1)), now);
        supervisor.step(Event::Gone(A), now);
        now = supervisor.next_deadline().unwrap_or(now);
        supervisor.step(Event::Tick, now);
    }
    assert_eq!(supervisor.state(A), UnitState::Failed);
    assert_eq!(supervisor.failure(B).map(|failure| failure.stage), Some(Stage::Dependency));
    let reason = &supervisor.failure(B).expect("b has failed").reason;
    assert!(
        reason.contains("requires a, which failed (exited before ready: exited with status 1; given up"),
        "{reason}"
    );
    assert_eq!(deeds(supervisor.step(Event::Restart(A), now)), [Action::Start(A)]);
    assert_eq!(supervisor.state(B), UnitState::Waiting, "a forgiven requirement forgives what failed with it");
}

#[test]
fn stopping_a_unit_stops_first_what_requires_it() {
    let mut supervisor = supervise(vec![spec("a"), requiring("b", 0)]);
    supervisor.step(Event::Tick, ms(0));
    supervisor.step(Event::Notified(A), ms(0));
    supervisor.step(Event::Notified(B), ms(0));
    assert_eq!(deeds(supervisor.step(Event::Stop(A), ms(1))), [Action::Terminate(B)]);
    assert!(!supervisor.is_settled(A));
    assert_eq!(deeds(supervisor.step(Event::Gone(B), ms(2))), [Action::Terminate(A)]);
    supervisor.step(Event::Gone(A), ms(3));
    assert_eq!(supervisor.state(A), UnitState::Stopped);
    assert_eq!(supervisor.state(B), UnitState::Waiting);
    assert!(supervisor.is_settled(A) && supervisor.is_settled(B));
    assert_eq!(deeds(supervisor.step(Event::Start(B), ms(4))), [Action::Start(A)], "a start pulls up what is required");
}

#[test]
fn a_restart_takes_what_requires_the_unit_down_and_up_again() {
    let mut supervisor = supervise(vec![spec("a"), requiring("b", 0)]);
    supervisor.step(Event::Tick, ms(0));
    supervisor.step(Event::Notified(A), ms(0));
    supervisor.step(Event::Notified(B), ms(0));
    assert_eq!(deeds(supervisor.step(Event::Restart(A), ms(1))), [Action::Terminate(B)]);
    assert_eq!(deeds(supervisor.step(Event::Gone(B), ms(2))), [Action::Terminate(A)]);
    assert_eq!(deeds(supervisor.step(Event::Gone(A), ms(3))), [Action::Start(A)]);
    assert!(!supervisor.is_settled(A));
    assert_eq!(deeds(supervisor.step(Event::Notified(A), ms(4))), [Action::Start(B)]);
    assert!(supervisor.is_settled(A));
    assert_eq!(supervisor.restarts(A), 0, "a restart that was asked for is not counted");
}

#[test]
fn order_alone_neither_stops_nor_fails_with_the_other_unit() {
    let mut supervisor = supervise(vec![spec("a"), Spec { after: vec![A], ..spec("b") }]);
    supervisor.step(Event::Tick, ms(0));
    assert_eq!(supervisor.state(B), UnitState::Waiting);
    assert_eq!(deeds(supervisor.step(Event::Notified(A), ms(0))), [Action::Start(B)]);
    supervisor.step(Event::Notified(B), ms(0));
    assert_eq!(deeds(supervisor.step(Event::Stop(A), ms(1))), [Action::Terminate(A)]);
    assert_eq!(supervisor.state(B), UnitState::Ready);
}

#[test]
fn a_unit_ordered_after_a_broken_one_starts_all_the_same() {
    let broken = Spec { defect: Some(Failure::new(Stage::UnitFile, "line 1")), ..spec("a") };
    let mut supervisor = supervise(vec![broken, Spec { after: vec![A], ..spec("b") }]);
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(0))), [Action::Start(B)]);
    supervisor.step(Event::Restart(A), ms(1));
    assert_eq!(supervisor.state(A), UnitState::Failed);
    assert!(supervisor.is_settled(A), "a request about a broken unit is answered at once");
}

#[test]
fn a_one_shot_is_ready_when_it_ends_well_and_stays_so() {
    let mut supervisor = supervise(vec![Spec { ready: ReadyWhen::Exited, ..spec("a") }, requiring("b", 0)]);
    supervisor.step(Event::Tick, ms(0));
    supervisor.step(Event::Executed(A), ms(0));
    supervisor.step(Event::Exited(A, Outcome::Status(0)), ms(1));
    assert_eq!(deeds(supervisor.step(Event::Gone(A), ms(1))), [Action::Start(B)]);
    assert_eq!(supervisor.state(A), UnitState::Ready);
}

#[test]
fn a_clean_exit_is_a_stop_unless_the_unit_always_restarts() {
    for (restart, expected) in [(Restart::OnFailure, UnitState::Stopped), (Restart::Always, UnitState::Backoff)] {
        let mut supervisor = supervise(vec![Spec { restart, ..spec("a") }]);
        supervisor.step(Event::Tick, ms(0));
        supervisor.step(Event::Notified(A), ms(0));
        supervisor.step(Event::Exited(A, Outcome::Status(0)), ms(1));
        supervisor.step(Event::Gone(A), ms(1));
        assert_eq!(supervisor.state(A), expected);
    }
}

#[test]
fn processes_that_survive_sigkill_do_not_hold_up_the_shutdown() {
    let mut supervisor = supervise(vec![spec("a")]);
    supervisor.step(Event::Tick, ms(0));
    supervisor.step(Event::Notified(A), ms(0));
    assert_eq!(deeds(supervisor.step(Event::Shutdown, ms(0))), [Action::Terminate(A)]);
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(5_000))), [Action::Kill(A)]);
    assert_eq!(deeds(supervisor.step(Event::Tick, ms(15_000))), [Action::AllStopped]);
}

#[test]
fn a_unit_with_surviving_processes_is_not_started_beside_them() {
    let mut supervisor = supervise(vec![spec("a")]);
    supervisor.step(Event::Tick, ms(0));
    supervisor.step(Event::Exited(A, Outcome::Status(1)), ms(0));
    supervisor.step(Event::Tick, ms(10_000));
    assert_eq!(supervisor.failure(A).map(|failure| failure.stage), Some(Stage::Stop));
    assert_eq!(deeds(supervisor.step(Event::Restart(A), ms(10_001))), []);
    assert_eq!(deeds(supervisor.step(Event::Gone(A), ms(10_002))), [Action::Start(A)]);
}

#[test]
fn a_cycle_is_refused_by_name() {
    let cycle = Supervisor::new(vec![requiring("a", 1), Spec { after: vec![A], ..spec("b") }]).map(|_| ());
    assert_eq!(cycle, Err(vec![A, B]));
}
