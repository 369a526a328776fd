//! The supervisor: a pure state machine over all units. It reads no clock and touches no process.
//!
//! Events come in through [`Supervisor::step`] with the time; what must be done comes out as [`Action`]s.
//! Each unit has a *desired* direction, which only the operator, a clean exit or the shutdown changes, and a *state*:
//!
//! | State    | desired Up                                          | desired Down                                       |
//! |----------|-----------------------------------------------------|----------------------------------------------------|
//! | Stopped  | -> Waiting                                          | rests                                              |
//! | Waiting  | starts when all it comes after is Ready or settled; -> Failed when a requirement is Failed | -> Stopped |
//! | Starting | -> Ready; -> Stopping on exit, failed set-up, start timeout, lost requirement | -> Stopping              |
//! | Ready    | -> Stopping on exit, lost requirement               | -> Stopping, once all that comes after it is gone  |
//! | Stopping | SIGTERM, after stop-timeout SIGKILL; when every process is gone: -> Waiting, Backoff, Ready (one-shot), Failed | -> Stopped |
//! | Backoff  | -> Waiting when the delay is over                   | -> Stopped                                         |
//! | Failed   | rests until a start or restart forgives; a failed *dependency* is forgiven when that unit is | -> Stopped (a broken unit file stays Failed) |
//!
//! Invariants, each held by a property test: at most one run of a unit at a time; no start before every requirement is
//! Ready; nothing is told to stop while something that comes after it and is stopping too still runs; no more
//! unasked-for restarts than [`RestartHistory`] allows; after [`Event::Shutdown`] everything ends.

mod restart;
mod settle;

#[cfg(test)]
mod tests;

use std::time::Duration;

use aios_core::control::UnitState;

pub use self::restart::{BACKOFF_FIRST, BACKOFF_MAX, RESTART_LIMIT, RESTART_WINDOW, RestartHistory, STEADY_AFTER};
use crate::failure::{Failure, Stage};
use crate::graph;

/// Monotonic time since some fixed moment.
pub type Time = Duration;

/// How long after SIGKILL a unit's processes may take to vanish before the unit is given up on.
/// Only a process that hangs in the kernel takes longer than milliseconds.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A unit's place in the list the supervisor was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub usize);

/// What the supervisor must know of a unit.
#[derive(Debug, Clone)]
pub struct Spec {
    pub name: String,
    /// Must be Ready before this unit starts, and for as long as it runs.
    pub requires: Vec<UnitId>,
    /// Order alone: must be Ready, or not about to be, before this unit starts.
    pub after: Vec<UnitId>,
    pub ready: ReadyWhen,
    pub restart: Restart,
    pub start_timeout: Duration,
    pub stop_timeout: Duration,
    /// Set when the unit cannot be started at all: a broken file, an unknown requirement, a cycle.
    pub defect: Option<Failure>,
}

/// When a unit counts as Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyWhen {
    /// It says so: `READY=1` to `NOTIFY_SOCKET`.
    Notify,
    /// Its program was executed.
    Started,
    /// Its program ended with status 0 (one-shot).
    Exited,
}

/// Which ends of the main process start it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(i32),
    Signal(i32),
}

impl Outcome {
    fn is_success(self) -> bool {
        self == Outcome::Status(0)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Status(status) => write!(f, "exited with status {status}"),
            Outcome::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing but that time went by.
    Tick,
    /// The child could not get as far as executing its program. An [`Event::Gone`] follows.
    SetUpFailed(UnitId, Failure),
    /// The child executed its program.
    Executed(UnitId),
    /// The unit's process said `READY=1`.
    Notified(UnitId),
    /// The main process ended. Others of the unit may be left.
    Exited(UnitId, Outcome),
    /// No process of the unit is left.
    Gone(UnitId),
    /// The operator wants the unit to run, and all that it requires.
    Start(UnitId),
    /// The operator wants the unit to stop.
    Stop(UnitId),
    /// The operator wants a fresh run of the unit.
    Restart(UnitId),
    /// Stop everything, in order; start nothing any more.
    Shutdown,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the unit's program. Exactly one [`Event::Gone`] answers, at its end.
    Start(UnitId),
    /// Ask every process of the unit to end.
    Terminate(UnitId),
    /// End every process of the unit.
    Kill(UnitId),
    /// The unit's state changed; for the console and for clients that wait.
    Changed(UnitId),
    /// Everything that can be stopped is stopped. Comes once, after [`Event::Shutdown`].
    AllStopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Desired {
    Up,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Stopped,
    Waiting,
    Starting { deadline: Time },
    Ready { since: Time },
    Stopping { deadline: Time, killed: bool, cause: StopCause },
    Backoff { until: Time },
    Failed(Failure),
}

/// Why a run ends, and so what comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum StopCause {
    /// By request, or because a requirement was lost.
    Requested,
    /// A one-shot did its work.
    Completed,
    /// The program ended by itself, well, and is not to be run again.
    Finished,
    /// Something went wrong; `steady` when it had been Ready for [`STEADY_AFTER`].
    Failed { failure: Failure, steady: bool },
}

#[derive(Debug)]
struct Unit {
    spec: Spec,
    desired: Desired,
    state: State,
    /// A run is under way: between [`Action::Start`] and [`Event::Gone`].
    alive: bool,
    restart_requested: bool,
    history: RestartHistory,
    last_failure: Option<Failure>,
    changed_at: Time,
}

/// All units and the order among them.
#[derive(Debug)]
pub struct Supervisor {
    units: Vec<Unit>,
    /// Every unit after all that it requires or comes after.
    order: Vec<UnitId>,
    closing: bool,
    all_stopped_said: bool,
}

impl Supervisor {
    /// Every unit is wanted from the start. Fails with the first cycle in `requires` and `after`.
    pub fn new(specs: Vec<Spec>) -> Result<Self, Vec<UnitId>> {
        let edges: Vec<Vec<usize>> =
            specs.iter().map(|spec| spec.requires.iter().chain(&spec.after).map(|unit| unit.0).collect()).collect();
        let order = graph::order(&edges).map_err(|cycle| cycle.into_iter().map(UnitId).collect::<Vec<_>>())?;
        let units = specs.into_iter().map(Unit::new).collect();
        Ok(Supervisor {
            units,
            order: order.into_iter().map(UnitId).collect(),
            closing: false,
            all_stopped_said: false,
        })
    }

    /// Takes in one event; says what to do. Time never goes back between calls.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(event, now, &mut actions);
        self.expire_deadlines(now, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.units.iter().filter_map(Unit::deadline).min()
    }

    /// All units, in the order they were given.
    pub fn ids(&self) -> impl Iterator<Item = UnitId> + use<> {
        (0..self.units.len()).map(UnitId)
    }

    pub fn name(&self, unit: UnitId) -> &str {
        &self.units[unit.0].spec.name
    }

    pub fn state(&self, unit: UnitId) -> UnitState {
        match self.units[unit.0].state {
            State::Stopped => UnitState::Stopped,
            State::Waiting => UnitState::Waiting,
            State::Starting { .. } => UnitState::Starting,
            State::Ready { .. } => UnitState::Ready,
            State::Stopping { .. } => UnitState::Stopping,
            State::Backoff { .. } => UnitState::Backoff,
            State::Failed(_) => UnitState::Failed,
        }
    }

    /// Why the unit failed last: what its state Failed stands on, or what it was restarted for.
    pub fn failure(&self, unit: UnitId) -> Option<&Failure> {
        self.units[unit.0].last_failure.as_ref()
    }

    /// When the unit came into its state.
    pub fn changed_at(&self, unit: UnitId) -> Time {
        self.units[unit.0].changed_at
    }

    /// Restarts that nobody asked for, since boot.
    pub fn restarts(&self, unit: UnitId) -> u32 {
        self.units[unit.0].history.total()
    }

    /// No change of the unit's state is under way or due: a request about it has its answer.
    pub fn is_settled(&self, unit: UnitId) -> bool {
        let record = &self.units[unit.0];
        let resting = match record.state {
            State::Stopped | State::Failed(_) => true,
            State::Ready { .. } => self.should_run()[unit.0],
            State::Waiting => self.is_blocked(unit),
            State::Starting { .. } | State::Stopping { .. } | State::Backoff { .. } => false,
        };
        resting && !record.restart_requested
    }

    /// Every unit is Ready.
    pub fn all_ready(&self) -> bool {
        self.units.iter().all(|unit| matches!(unit.state, State::Ready { .. }))
    }

    fn take(&mut self, event: Event, now: Time, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::SetUpFailed(unit, failure) => self.set_up_failed(unit, failure, now, actions),
            Event::Executed(unit) => self.reached(unit, ReadyWhen::Started, now, actions),
            Event::Notified(unit) => self.reached(unit, ReadyWhen::Notify, now, actions),
            Event::Exited(unit, outcome) => self.exited(unit, outcome, now, actions),
            Event::Gone(unit) => self.gone(unit, now, actions),
            Event::Start(unit) => self.want(unit),
            Event::Stop(unit) => {
                let record = &mut self.units[unit.0];
                record.desired = Desired::Down;
                record.restart_requested = false;
            }
            Event::Restart(unit) => {
                self.want(unit);
                let record = &mut self.units[unit.0];
                // A waiting unit has no run to end, and a broken one never will.
                let has_effect = record.spec.defect.is_none() && record.state != State::Waiting;
                record.restart_requested = has_effect && !self.closing;
            }
            Event::Shutdown => {
                self.closing = true;
                for unit in &mut self.units {
                    unit.desired = Desired::Down;
                    unit.restart_requested = false;
                }
            }
        }
    }

    /// Desired Up for the unit and for all that it requires; what failed among them is forgiven.
    fn want(&mut self, unit: UnitId) {
        if self.closing {
            return;
        }
        let mut pending = vec![unit];
        let mut seen = vec![false; self.units.len()];
        while let Some(next) = pending.pop() {
            if std::mem::replace(&mut seen[next.0], true) {
                continue;
            }
            let record = &mut self.units[next.0];
            record.desired = Desired::Up;
            if record.spec.defect.is_none() && matches!(record.state, State::Failed(_) | State::Backoff { .. }) {
                record.history.forgive();
                record.restart_requested = true;
            }
            pending.extend(record.spec.requires.iter().copied());
        }
        self.units[unit.0].history.forgive();
    }

    fn set_up_failed(&mut self, unit: UnitId, failure: Failure, now: Time, actions: &mut Vec<Action>) {
        if matches!(self.units[unit.0].state, State::Starting { .. }) {
            let cause = StopCause::Failed { failure, steady: false };
            actions.push(Action::Kill(unit));
            self.enter(unit, State::Stopping { deadline: now + KILL_PATIENCE, killed: true, cause }, now, actions);
        }
    }

    fn reached(&mut self, unit: UnitId, when: ReadyWhen, now: Time, actions: &mut Vec<Action>) {
        let record = &self.units[unit.0];
        if record.spec.ready == when && matches!(record.state, State::Starting { .. }) {
            self.enter(unit, State::Ready { since: now }, now, actions);
        }
    }

    /// What is left of the unit when its main process ended by itself is killed at once, so that the next run comes soon.
    fn exited(&mut self, unit: UnitId, outcome: Outcome, now: Time, actions: &mut Vec<Action>) {
        let record = &self.units[unit.0];
        let success = outcome.is_success();
        let cause = match record.state {
            State::Starting { .. } if success && record.spec.ready == ReadyWhen::Exited => StopCause::Completed,
            State::Starting { .. } => StopCause::Failed {
                failure: Failure::new(Stage::ExitedBeforeReady, outcome.to_string()),
                steady: false,
            },
            State::Ready { .. } if success && record.spec.restart != Restart::Always => StopCause::Finished,
            State::Ready { since } => StopCause::Failed {
                failure: Failure::new(Stage::Running, outcome.to_string()),
                steady: now.saturating_sub(since) >= STEADY_AFTER,
            },
            _ => return,
        };
        actions.push(Action::Kill(unit));
        self.enter(unit, State::Stopping { deadline: now + KILL_PATIENCE, killed: true, cause }, now, actions);
    }

    fn gone(&mut self, unit: UnitId, now: Time, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.units[unit.0].alive, false) {
            return;
        }
        let record = &mut self.units[unit.0];
        let cause = match &record.state {
            State::Stopping { cause, .. } => cause.clone(),
            // Given up on before: stays Failed, but may be started again from now on.
            State::Failed(_) | State::Stopped | State::Waiting | State::Backoff { .. } => return,
            // Its end was not reported; the restart policy must still see one.
            State::Starting { .. } | State::Ready { .. } => {
                StopCause::Failed { failure: Failure::new(Stage::Running, "vanished"), steady: false }
            }
        };
        let restart_requested = std::mem::replace(&mut record.restart_requested, false);
        if matches!(cause, StopCause::Finished) && !restart_requested {
            record.desired = Desired::Down;
        }
        let next = match (record.desired, cause) {
            (Desired::Down, _) => State::Stopped,
            (Desired::Up, StopCause::Completed) if !restart_requested => State::Ready { since: now },
            (Desired::Up, StopCause::Failed { failure, steady }) if !restart_requested => {
                record.after_failure(failure, steady, now)
            }
            (Desired::Up, _) => State::Waiting,
        };
        self.enter(unit, next, now, actions);
    }

    fn expire_deadlines(&mut self, now: Time, actions: &mut Vec<Action>) {
        for unit in self.ids() {
            let record = &self.units[unit.0];
            if record.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            let stop_deadline = now + record.spec.stop_timeout;
            match record.state.clone() {
                State::Starting { .. } => {
                    let reason = match record.spec.ready {
                        ReadyWhen::Notify => format!("no READY=1 within {:?}", record.spec.start_timeout),
                        ReadyWhen::Started => format!("not executed within {:?}", record.spec.start_timeout),
                        ReadyWhen::Exited => format!("not finished within {:?}", record.spec.start_timeout),
                    };
                    let cause = StopCause::Failed { failure: Failure::new(Stage::Readiness, reason), steady: false };
                    actions.push(Action::Terminate(unit));
                    self.enter(unit, State::Stopping { deadline: stop_deadline, killed: false, cause }, now, actions);
                }
                State::Stopping { killed: false, cause, .. } => {
                    actions.push(Action::Kill(unit));
                    self.units[unit.0].state = State::Stopping { deadline: now + KILL_PATIENCE, killed: true, cause };
                }
                State::Stopping { killed: true, .. } => {
                    let reason = format!("processes are left {KILL_PATIENCE:?} after SIGKILL");
                    self.units[unit.0].restart_requested = false;
                    self.enter(unit, State::Failed(Failure::new(Stage::Stop, reason)), now, actions);
                }
                State::Backoff { .. } => self.enter(unit, State::Waiting, now, actions),
                State::Stopped | State::Waiting | State::Ready { .. } | State::Failed(_) => {}
            }
        }
    }

    fn enter(&mut self, unit: UnitId, state: State, now: Time, actions: &mut Vec<Action>) {
        let record = &mut self.units[unit.0];
        match &state {
            State::Failed(failure) | State::Stopping { cause: StopCause::Failed { failure, .. }, .. } => {
                record.last_failure = Some(failure.clone());
            }
            State::Stopped => record.last_failure = None,
            _ => {}
        }
        record.state = state;
        record.changed_at = now;
        actions.push(Action::Changed(unit));
    }
}

impl Unit {
    fn new(spec: Spec) -> Self {
        let state = match &spec.defect {
            Some(defect) => State::Failed(defect.clone()),
            None => State::Stopped,
        };
        Unit {
            desired: Desired::Up,
            last_failure: spec.defect.clone(),
            state,
            spec,
            alive: false,
            restart_requested: false,
            history: RestartHistory::default(),
            changed_at: Time::ZERO,
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Starting { deadline } | State::Stopping { deadline, .. } => Some(deadline),
            State::Backoff { until } => Some(until),
            State::Stopped | State::Waiting | State::Ready { .. } | State::Failed(_) => None,
        }
    }

    fn after_failure(&mut self, failure: Failure, steady: bool, now: Time) -> State {
        if self.spec.restart == Restart::Never {
            return State::Failed(failure);
        }
        match self.history.restart(steady, now) {
            Some(Duration::ZERO) => State::Waiting,
            Some(delay) => State::Backoff { until: now + delay },
            None => {
                let window = RESTART_WINDOW.as_secs();
                let reason = format!("{}; given up after {RESTART_LIMIT} restarts within {window} s", failure.reason);
                State::Failed(Failure::new(failure.stage, reason))
            }
        }
    }
}
