//! What clients of the control socket ask for, and when they get their answers.

use aios_core::control::{LogLine, Request, Response, SystemStatus, UnitState, UnitStatus};

use super::{Init, now};
use crate::console::since_kernel_start;
use crate::control::{Asked, ClientId, Server};
use crate::logs::Found;
use crate::shutdown::Kind;
use crate::supervisor::{Event, UnitId};

/// Lines given to one follower in one turn, so that a fast reader of a fast writer does not hold the loop.
const LINES_AT_ONCE: usize = 512;

/// Clients whose answer is not complete.
#[derive(Debug, Default)]
pub struct Desk {
    waiting: Vec<Waiting>,
    readers: Vec<Reader>,
}

/// Answered when the unit has settled.
#[derive(Debug)]
struct Waiting {
    client: ClientId,
    unit: UnitId,
    wanted: UnitState,
}

#[derive(Debug)]
struct Reader {
    client: ClientId,
    unit: UnitId,
    place: u64,
    follow: bool,
}

impl Init {
    pub(super) fn take_request(&mut self, server: &mut Server, asked: Asked) {
        let Asked { client, request } = asked;
        if let Err(message) = self.carry_out(server, client, request) {
            server.send(client, &Response::Error { message }, now());
            server.finish(client, now());
        }
    }

    fn carry_out(&mut self, server: &mut Server, client: ClientId, request: Request) -> Result<(), String> {
        match request {
            Request::Status { unit } => {
                let units = match unit {
                    Some(name) => vec![self.find(&name)?],
                    None => self.supervisor.ids().collect(),
                };
                server.send(client, &Response::Status(self.status(&units)), now());
                server.finish(client, now());
            }
            Request::Start { unit } => self.order(client, &unit, Event::Start, UnitState::Ready)?,
            Request::Stop { unit } => self.order(client, &unit, Event::Stop, UnitState::Stopped)?,
            Request::Restart { unit } => self.order(client, &unit, Event::Restart, UnitState::Ready)?,
            Request::Log { unit, follow, lines } => {
                let unit = self.find(&unit)?;
                let place = self.units[unit.0].ring.begin(lines);
                self.desk.readers.push(Reader { client, unit, place, follow });
            }
            Request::PowerOff | Request::Reboot => {
                server.send(client, &Response::Done, now());
                server.finish(client, now());
                self.end(if request == Request::Reboot { Kind::Reboot } else { Kind::PowerOff });
            }
        }
        Ok(())
    }

    fn order(
        &mut self,
        client: ClientId,
        name: &str,
        event: fn(UnitId) -> Event,
        wanted: UnitState,
    ) -> Result<(), String> {
        let unit = self.find(name)?;
        if self.ending.is_some() {
            return Err("the system is shutting down".into());
        }
        self.queue.push_back(event(unit));
        self.desk.waiting.push(Waiting { client, unit, wanted });
        Ok(())
    }

    fn find(&self, name: &str) -> Result<UnitId, String> {
        let at = self.units.iter().position(|record| record.name == name);
        at.map(UnitId).ok_or_else(|| format!("there is no unit {name}; `aios status` lists the units"))
    }

    /// Answers those whose unit has settled.
    pub(super) fn answer_waiting(&mut self, server: &mut Server) {
        for waiting in std::mem::take(&mut self.desk.waiting) {
            if !self.supervisor.is_settled(waiting.unit) {
                if server.is_connected(waiting.client) {
                    self.desk.waiting.push(waiting);
                }
                continue;
            }
            server.send(waiting.client, &self.answer(&waiting), now());
            server.finish(waiting.client, now());
        }
    }

    fn answer(&self, waiting: &Waiting) -> Response {
        let state = self.supervisor.state(waiting.unit);
        let name = self.supervisor.name(waiting.unit);
        match (state, self.supervisor.failure(waiting.unit)) {
            (state, _) if state == waiting.wanted => Response::Done,
            // It did its work and ended well.
            (UnitState::Stopped, _) if self.ending.is_none() => Response::Done,
            (UnitState::Failed, Some(failure)) => Response::Error {
                message: format!(
                    "unit {name} has failed ({}): {}; see `aios log {name}`",
                    failure.stage, failure.reason
                ),
            },
            _ => Response::Error { message: format!("unit {name} is {state:?}; see `aios status`") },
        }
    }

    /// Gives readers of logs what is new, as far as they take it.
    pub(super) fn pump_logs(&mut self, server: &mut Server) {
        for mut reader in std::mem::take(&mut self.desk.readers) {
            if !server.is_connected(reader.client) {
                continue;
            }
            match self.pump(server, &mut reader) {
                Pumped::All if !reader.follow || self.all_stopped => server.finish(reader.client, now()),
                Pumped::All | Pumped::Part => self.desk.readers.push(reader),
            }
        }
    }

    fn pump(&self, server: &mut Server, reader: &mut Reader) -> Pumped {
        for _ in 0..LINES_AT_ONCE {
            if !server.has_room(reader.client) {
                return Pumped::Part;
            }
            let line = match self.units[reader.unit.0].ring.read(reader.place) {
                Found::End => return Pumped::All,
                Found::Lost(count) => {
                    reader.place += count;
                    let text = format!("aios-init: {count} lines were lost: they came faster than they were read");
                    LogLine { at_s: since_kernel_start().as_secs_f64(), text }
                }
                Found::Line(line) => {
                    reader.place += 1;
                    LogLine { at_s: line.at.as_secs_f64(), text: line.text.clone() }
                }
            };
            server.send(reader.client, &Response::Log(line), now());
        }
        Pumped::Part
    }

    fn status(&self, units: &[UnitId]) -> SystemStatus {
        SystemStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            hostname: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            uptime_s: since_kernel_start().as_secs_f64(),
            boot_failures: self.boot_failures.clone(),
            units: units.iter().map(|unit| self.unit_status(*unit)).collect(),
        }
    }

    fn unit_status(&self, id: UnitId) -> UnitStatus {
        let record = &self.units[id.0];
        let run = record.run.as_ref();
        UnitStatus {
            name: record.name.clone(),
            description: record.unit.as_ref().map(|unit| unit.description.clone()).unwrap_or_default(),
            state: self.supervisor.state(id),
            pid: run.filter(|run| !run.main_ended).map(|run| run.main.as_raw_nonzero().get()),
            since_s: now().saturating_sub(self.supervisor.changed_at(id)).as_secs_f64(),
            restarts: self.supervisor.restarts(id),
            status: record.status.clone(),
            failure: self.supervisor.failure(id).map(ToString::to_string),
            memory_bytes: run.and_then(|run| run.group.memory()),
        }
    }
}

enum Pumped {
    /// The reader has every line there is.
    All,
    /// There is more, for another turn.
    Part,
}
