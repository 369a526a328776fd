//! What follows from the units' states and directions alone: starts, stops in order, failed dependencies.

use super::{Action, Desired, State, StopCause, Supervisor, Time, UnitId};
use crate::failure::{Failure, Stage};

impl Supervisor {
    /// Applies the rules until none applies any more. Each round moves some unit along the table's arrows, and no arrow
    /// here leads back without an event in between, so this ends.
    pub(super) fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        while self.settle_once(now, actions) {}
        if self.closing && !self.all_stopped_said && !self.units.iter().any(|unit| is_running(&unit.state)) {
            self.all_stopped_said = true;
            actions.push(Action::AllStopped);
        }
    }

    fn settle_once(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let mut changed = false;
        for unit in self.order.clone() {
            if let Some(next) = self.next_state(unit, now) {
                match &next {
                    State::Starting { .. } => {
                        self.units[unit.0].alive = true;
                        actions.push(Action::Start(unit));
                    }
                    State::Stopping { .. } => actions.push(Action::Terminate(unit)),
                    _ => {}
                }
                self.enter(unit, next, now, actions);
                changed = true;
            }
        }
        changed
    }

    /// The state that a unit is due to enter now; takes back a restart request that this fulfils.
    fn next_state(&mut self, unit: UnitId, now: Time) -> Option<State> {
        let record = &self.units[unit.0];
        let up = record.desired == Desired::Up;
        let resting = if up { State::Waiting } else { State::Stopped };
        let restart_requested = record.restart_requested;
        let next = match &record.state {
            State::Stopped => up.then_some(State::Waiting),
            State::Waiting if !up => Some(State::Stopped),
            State::Waiting => self.next_of_waiting(unit, now),
            State::Starting { .. } | State::Ready { .. } => {
                if self.should_run()[unit.0] || self.is_held(unit) {
                    None
                } else if record.alive {
                    let deadline = now + record.spec.stop_timeout;
                    Some(State::Stopping { deadline, killed: false, cause: StopCause::Requested })
                } else {
                    Some(resting)
                }
            }
            State::Stopping { .. } => None,
            State::Backoff { .. } => (!up || restart_requested).then_some(resting),
            State::Failed(_) if record.spec.defect.is_some() => None,
            State::Failed(failure) => {
                let dependency_is_back = failure.stage == Stage::Dependency && self.failed_requirement(unit).is_none();
                (!up || restart_requested || dependency_is_back).then_some(resting)
            }
        };
        // A run that is under way takes the request back itself, at its end.
        if matches!(next, Some(State::Waiting | State::Stopped | State::Starting { .. } | State::Failed(_))) {
            self.units[unit.0].restart_requested = false;
        }
        next
    }

    fn next_of_waiting(&self, unit: UnitId, now: Time) -> Option<State> {
        let record = &self.units[unit.0];
        if let Some(failure) = self.failed_requirement(unit) {
            return Some(State::Failed(failure));
        }
        let running = self.should_run();
        let is_up = |other: &UnitId| running[other.0] && matches!(self.units[other.0].state, State::Ready { .. });
        let required_up = record.spec.requires.iter().all(is_up);
        let order_kept = record.spec.after.iter().all(|other| is_up(other) || self.is_at_rest(*other));
        let may_start = required_up && order_kept && !record.alive && !self.closing;
        may_start.then(|| State::Starting { deadline: now + record.spec.start_timeout })
    }

    fn failed_requirement(&self, unit: UnitId) -> Option<Failure> {
        self.units[unit.0].spec.requires.iter().find_map(|required| {
            let required = &self.units[required.0];
            match &required.state {
                State::Failed(failure) => {
                    let reason = format!("requires {}, which failed ({failure})", required.spec.name);
                    Some(Failure::new(Stage::Dependency, reason))
                }
                _ => None,
            }
        })
    }

    /// For each unit: it is wanted, and so is, and Ready, all that it requires.
    pub(super) fn should_run(&self) -> Vec<bool> {
        let mut should_run = vec![false; self.units.len()];
        for unit in &self.order {
            let record = &self.units[unit.0];
            let required =
                |other: &UnitId| should_run[other.0] && matches!(self.units[other.0].state, State::Ready { .. });
            should_run[unit.0] = record.desired == Desired::Up
                && !self.closing
                && !record.restart_requested
                && record.spec.requires.iter().all(required);
        }
        should_run
    }

    /// Something that comes after the unit is on its way down too and still runs: that one goes first.
    fn is_held(&self, unit: UnitId) -> bool {
        let should_run = self.should_run();
        self.units.iter().enumerate().any(|(at, other)| {
            let comes_after = other.spec.requires.contains(&unit) || other.spec.after.contains(&unit);
            comes_after && other.alive && is_running(&other.state) && !should_run[at]
        })
    }

    /// Nothing more will come of the unit by itself, so what only comes after it need not wait.
    fn is_at_rest(&self, unit: UnitId) -> bool {
        match self.units[unit.0].state {
            State::Stopped | State::Failed(_) => true,
            State::Waiting => self.is_blocked(unit),
            State::Starting { .. } | State::Ready { .. } | State::Stopping { .. } | State::Backoff { .. } => false,
        }
    }

    /// Waiting for something that nobody is about to bring up.
    pub(super) fn is_blocked(&self, unit: UnitId) -> bool {
        let mut blocked = vec![false; self.units.len()];
        for next in &self.order {
            let record = &self.units[next.0];
            let lacks = |required: &UnitId| match self.units[required.0].state {
                State::Stopped | State::Failed(_) => true,
                State::Waiting => blocked[required.0],
                _ => false,
            };
            blocked[next.0] =
                record.state == State::Waiting && (record.alive || record.spec.requires.iter().any(lacks));
        }
        blocked[unit.0]
    }
}

/// A run is under way or its result is in force.
fn is_running(state: &State) -> bool {
    matches!(state, State::Starting { .. } | State::Ready { .. } | State::Stopping { .. })
}
