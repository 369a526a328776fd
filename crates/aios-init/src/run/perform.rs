//! Performing the supervisor's actions, and gathering what comes of them.

use aios_core::control::UnitState;
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::{Init, UnitRecord, say};
use crate::console;
use crate::failure::{Failure, Stage};
use crate::logs::Line;
use crate::process::{self, SetUp};
use crate::supervisor::{Action, Event, Outcome, UnitId};

impl Init {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Start(unit) => self.start(unit),
            Action::Terminate(unit) => {
                if let Some(run) = &self.units[unit.0].run {
                    run.terminate();
                }
            }
            Action::Kill(unit) => {
                if let Some(run) = &self.units[unit.0].run {
                    run.kill();
                }
            }
            Action::Changed(unit) => self.say_state(unit),
            Action::AllStopped => self.all_stopped = true,
        }
    }

    fn start(&mut self, id: UnitId) {
        let UnitRecord { name, unit, .. } = &self.units[id.0];
        let started = match unit {
            Some(unit) => self.groups.make(name, &unit.limits).and_then(|(group, warnings)| {
                let run = process::spawn(unit, &self.layout, group)?;
                Ok((run, warnings))
            }),
            None => Err(Failure::new(Stage::UnitFile, "the unit file is broken")),
        };
        self.units[id.0].status = None;
        match started {
            Ok((run, warnings)) => {
                self.units[id.0].run = Some(run);
                for warning in warnings {
                    self.note(id, &warning);
                }
            }
            Err(failure) => {
                self.queue.push_back(Event::SetUpFailed(id, failure));
                self.queue.push_back(Event::Gone(id));
            }
        }
    }

    /// Whether the children that are being started have come as far as their programs.
    pub(super) fn take_reports(&mut self) {
        for id in self.supervisor.ids() {
            self.take_report(id);
        }
    }

    fn take_report(&mut self, id: UnitId) {
        let Some(run) = &mut self.units[id.0].run else { return };
        match run.read_set_up() {
            SetUp::Pending => {}
            SetUp::Executed => self.queue.push_back(Event::Executed(id)),
            SetUp::Failed(failure) => self.queue.push_back(Event::SetUpFailed(id, failure)),
        }
    }

    /// Takes in all children that ended. Most are main processes; the rest are orphans that came to PID 1.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(outcome) = outcome(status) else { continue };
            let is_main =
                |record: &UnitRecord| record.run.as_ref().is_some_and(|run| run.main == pid && !run.main_ended);
            let Some(at) = self.units.iter().position(is_main) else { continue };
            let id = UnitId(at);
            // Its report, if any, was written before it ended and tells more than its status.
            self.take_report(id);
            if let Some(run) = &mut self.units[at].run {
                run.main_ended = true;
            }
            self.queue.push_back(Event::Exited(id, outcome));
        }
    }

    pub(super) fn take_output(&mut self) {
        for at in 0..self.units.len() {
            self.take_output_of(UnitId(at), false);
        }
    }

    fn take_output_of(&mut self, id: UnitId, last: bool) {
        let log_to_console = self.log_to_console;
        let UnitRecord { name, run, ring, .. } = self.record(id);
        let Some(run) = run else { return };
        let stamp = console::since_kernel_start();
        run.read_output(last, |text| {
            if log_to_console {
                console::write_line(&format!("{name}: {text}"));
            }
            ring.push(Line { at: stamp, text });
        });
    }

    pub(super) fn find_ended_runs(&mut self) {
        for id in self.supervisor.ids() {
            if self.units[id.0].run.as_ref().is_some_and(process::Run::is_over) {
                self.take_output_of(id, true);
                self.units[id.0].run = None;
                self.queue.push_back(Event::Gone(id));
            }
        }
    }

    /// Tells the console, and the unit's own log, what an operator wants to know without asking.
    pub(super) fn say_state(&mut self, id: UnitId) {
        let state = self.supervisor.state(id);
        let told = (state, self.supervisor.changed_at(id));
        if self.units[id.0].said == Some(told) {
            return;
        }
        self.units[id.0].said = Some(told);
        let name = self.supervisor.name(id);
        let failure = self.supervisor.failure(id).map(|failure| format!("({}): {}", failure.stage, failure.reason));
        let failure = failure.unwrap_or_default();
        let line = match state {
            UnitState::Ready => format!("unit {name}: Ready"),
            UnitState::Failed => format!("unit {name}: Failed {failure}"),
            UnitState::Backoff => format!("unit {name}: Backoff {failure}"),
            UnitState::Stopped | UnitState::Waiting | UnitState::Starting | UnitState::Stopping => return,
        };
        say(&line);
        self.note(id, &line);
    }

    /// Adds a line of PID 1's to the unit's log.
    fn note(&mut self, id: UnitId, text: &str) {
        let line = Line { at: console::since_kernel_start(), text: format!("aios-init: {text}") };
        self.record(id).ring.push(line);
    }
}

/// `None` for a child that was stopped or goes on.
fn outcome(status: WaitStatus) -> Option<Outcome> {
    let exited = status.exit_status().map(Outcome::Status);
    exited.or_else(|| status.terminating_signal().map(Outcome::Signal))
}
