//! Random graphs of units, run in a simulated world of processes that crash, hang and ignore signals, under an operator
//! who presses buttons at random. The world keeps its own books, so that the supervisor is not judged by its own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::super::*;

/// What a run of a unit does, in milliseconds.
#[derive(Debug, Clone)]
struct Behaviour {
    set_up_fails: bool,
    ready_after: Option<u64>,
    exits_after: Option<u64>,
    status: i32,
    ignores_terminate: bool,
    /// From the main process's end to the last process's end, unless killed.
    lingers: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    SetUpFails,
    Executes,
    Notifies,
    Exits(i32),
    Vanishes,
}

#[derive(Debug, Clone)]
enum Button {
    Start(usize),
    Stop(usize),
    Restart(usize),
}

#[derive(Debug, Clone)]
struct Plan {
    units: Vec<UnitPlan>,
    /// Consumed run by run, round and round.
    behaviours: Vec<Behaviour>,
    buttons: Vec<(u64, Button)>,
    shutdown_at: u64,
}

#[derive(Debug, Clone)]
struct UnitPlan {
    /// Lower-numbered units, so that there is no cycle.
    requires: Vec<usize>,
    after: Vec<usize>,
    ready: ReadyWhen,
    restart: Restart,
    broken: bool,
}

const START_TIMEOUT: u64 = 2_000;
const STOP_TIMEOUT: u64 = 500;

#[derive(Default)]
struct Run {
    number: u64,
    running: bool,
    main_ended: bool,
    terminated: bool,
    started: u64,
    ended_badly_at: Option<u64>,
    restarts: VecDeque<u64>,
}

/// Time, place among those of the same time, unit, run and what happens.
type Appointment = (u64, u64, usize, u64, Happening);

struct World<'a> {
    plan: &'a Plan,
    supervisor: Supervisor,
    runs: Vec<Run>,
    agenda: BinaryHeap<Reverse<Appointment>>,
    sequence: u64,
    next_behaviour: usize,
    now: u64,
    closing: bool,
    all_stopped: u32,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> Self {
        let specs = plan.units.iter().enumerate().map(|(at, unit)| Spec {
            name: format!("u{at}"),
            requires: unit.requires.iter().copied().map(UnitId).collect(),
            after: unit.after.iter().copied().map(UnitId).collect(),
            ready: unit.ready,
            restart: unit.restart,
            start_timeout: Time::from_millis(START_TIMEOUT),
            stop_timeout: Time::from_millis(STOP_TIMEOUT),
            defect: unit.broken.then(|| Failure::new(Stage::UnitFile, "broken")),
        });
        World {
            plan,
            supervisor: Supervisor::new(specs.collect()).expect("edges point to lower numbers"),
            runs: plan.units.iter().map(|_| Run::default()).collect(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            next_behaviour: 0,
            now: 0,
            closing: false,
            all_stopped: 0,
        }
    }

    fn plan_for(&mut self, unit: usize, at: u64, what: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse((at, self.sequence, unit, self.runs[unit].number, what)));
    }

    fn feed(&mut self, event: Event) -> Result<(), TestCaseError> {
        let before: Vec<UnitState> = self.supervisor.ids().map(|unit| self.supervisor.state(unit)).collect();
        for action in self.supervisor.step(event, Time::from_millis(self.now)) {
            match action {
                Action::Start(unit) => self.start(unit.0)?,
                Action::Terminate(unit) => self.terminate(unit.0, before[unit.0])?,
                Action::Kill(unit) => self.kill(unit.0),
                Action::Changed(_) => {}
                Action::AllStopped => self.all_stopped += 1,
            }
        }
        Ok(())
    }

    fn start(&mut self, unit: usize) -> Result<(), TestCaseError> {
        prop_assert!(!self.runs[unit].running, "u{unit} started twice");
        prop_assert!(!self.closing, "u{unit} started during shutdown");
        prop_assert!(!self.plan.units[unit].broken, "broken u{unit} started");
        for required in &self.plan.units[unit].requires {
            prop_assert_eq!(
                self.supervisor.state(UnitId(*required)),
                UnitState::Ready,
                "u{} started before u{}",
                unit,
                required
            );
        }
        let now = self.now;
        let behaviour = self.plan.behaviours[self.next_behaviour % self.plan.behaviours.len()].clone();
        self.next_behaviour += 1;
        let run = &mut self.runs[unit];
        if let Some(ended) = run.ended_badly_at.take() {
            run.restarts.push_back(ended);
            run.restarts.retain(|at| now - at < RESTART_WINDOW.as_millis() as u64);
            prop_assert!(run.restarts.len() <= RESTART_LIMIT, "u{unit} restarted too often");
        }
        *run = Run {
            number: run.number + 1,
            running: true,
            started: now,
            restarts: std::mem::take(&mut run.restarts),
            ..Run::default()
        };
        if behaviour.set_up_fails {
            self.plan_for(unit, now, Happening::SetUpFails);
            self.plan_for(unit, now, Happening::Vanishes);
            return Ok(());
        }
        self.plan_for(unit, now + 1, Happening::Executes);
        if let Some(after) = behaviour.ready_after {
            self.plan_for(unit, now + 1 + after, Happening::Notifies);
        }
        if let Some(after) = behaviour.exits_after {
            self.plan_for(unit, now + 1 + after, Happening::Exits(behaviour.status));
            self.plan_for(unit, now + 1 + after + behaviour.lingers, Happening::Vanishes);
        }
        self.runs[unit].terminated = behaviour.ignores_terminate;
        Ok(())
    }

    fn terminate(&mut self, unit: usize, state_before: UnitState) -> Result<(), TestCaseError> {
        prop_assert!(self.runs[unit].running);
        let timed_out = state_before == UnitState::Starting && self.now >= self.runs[unit].started + START_TIMEOUT;
        for (other, plan) in self.plan.units.iter().enumerate() {
            let bound = plan.requires.contains(&unit) || (self.closing && plan.after.contains(&unit));
            prop_assert!(timed_out || !bound || !self.runs[other].running, "u{unit} stopped before u{other}");
        }
        self.runs[unit].ended_badly_at = None;
        // Set beforehand for a run that ignores SIGTERM.
        if !std::mem::replace(&mut self.runs[unit].terminated, true) {
            self.plan_for(unit, self.now + 3, Happening::Exits(143));
            self.plan_for(unit, self.now + 3, Happening::Vanishes);
        }
        Ok(())
    }

    fn kill(&mut self, unit: usize) {
        if self.runs[unit].running {
            self.plan_for(unit, self.now, Happening::Exits(137));
            self.plan_for(unit, self.now, Happening::Vanishes);
        }
    }

    fn happen(&mut self, unit: usize, number: u64, what: Happening) -> Result<(), TestCaseError> {
        let run = &mut self.runs[unit];
        if !run.running || run.number != number {
            return Ok(());
        }
        let id = UnitId(unit);
        let supervised = matches!(self.supervisor.state(id), UnitState::Starting | UnitState::Ready);
        match what {
            Happening::SetUpFails => {
                run.ended_badly_at = Some(self.now);
                self.feed(Event::SetUpFailed(id, Failure::new(Stage::Exec, "no such file")))
            }
            Happening::Executes => self.feed(Event::Executed(id)),
            Happening::Notifies if run.main_ended => Ok(()),
            Happening::Notifies => self.feed(Event::Notified(id)),
            Happening::Exits(_) if run.main_ended => Ok(()),
            Happening::Exits(status) => {
                run.main_ended = true;
                if supervised && status != 0 {
                    run.ended_badly_at = Some(self.now);
                }
                self.feed(Event::Exited(id, Outcome::Status(status)))
            }
            Happening::Vanishes => {
                run.running = false;
                self.feed(Event::Gone(id))
            }
        }
    }

    /// Whatever comes next, up to and including `until`; false when nothing does.
    fn advance(&mut self, until: u64) -> Result<bool, TestCaseError> {
        let deadline = self.supervisor.next_deadline().map(|time| time.as_millis() as u64);
        let happening = self.agenda.peek().map(|Reverse(entry)| entry.0);
        let Some(next) = [deadline, happening].into_iter().flatten().min().filter(|next| *next <= until) else {
            return Ok(false);
        };
        self.now = self.now.max(next);
        if happening == Some(next) {
            let Some(Reverse((_, _, unit, number, what))) = self.agenda.pop() else { return Ok(false) };
            self.happen(unit, number, what)?;
        } else {
            self.feed(Event::Tick)?;
        }
        Ok(true)
    }

    fn run_until(&mut self, until: u64) -> Result<(), TestCaseError> {
        for _ in 0..100_000 {
            if !self.advance(until)? {
                self.now = self.now.max(until);
                return Ok(());
            }
        }
        Err(TestCaseError::fail("the supervisor does not come to rest"))
    }

    fn press(&mut self, button: &Button) -> Result<(), TestCaseError> {
        let event = match *button {
            Button::Start(unit) => Event::Start(UnitId(unit)),
            Button::Stop(unit) => Event::Stop(UnitId(unit)),
            Button::Restart(unit) => Event::Restart(UnitId(unit)),
        };
        if !matches!(button, Button::Stop(_)) {
            for run in &mut self.runs {
                run.restarts.clear();
                run.ended_badly_at = None;
            }
        }
        self.feed(event)
    }

    /// When neither the world nor a deadline moves any more, each unit is where it belongs, and not on the way.
    fn check_rest(&self) -> Result<(), TestCaseError> {
        for unit in self.supervisor.ids() {
            let state = self.supervisor.state(unit);
            let requires = &self.plan.units[unit.0].requires;
            prop_assert!(self.supervisor.is_settled(unit), "u{} hangs in {:?}", unit.0, state);
            match state {
                UnitState::Waiting => {
                    prop_assert!(
                        requires.iter().any(|other| self.supervisor.state(UnitId(*other)) != UnitState::Ready)
                    );
                }
                UnitState::Ready => {
                    prop_assert!(
                        requires.iter().all(|other| self.supervisor.state(UnitId(*other)) == UnitState::Ready)
                    );
                }
                UnitState::Stopped | UnitState::Failed => prop_assert!(!self.runs[unit.0].running),
                _ => prop_assert!(false, "u{} rests in {:?}", unit.0, state),
            }
        }
        Ok(())
    }
}

fn play(plan: &Plan) -> Result<(), TestCaseError> {
    let mut world = World::new(plan);
    world.feed(Event::Tick)?;
    for (at, button) in &plan.buttons {
        world.run_until(*at)?;
        world.press(button)?;
    }
    world.run_until(plan.shutdown_at)?;
    if world.agenda.is_empty() && world.supervisor.next_deadline().is_none() {
        world.check_rest()?;
    }
    world.closing = true;
    world.feed(Event::Shutdown)?;
    let bound = world.now + plan.units.len() as u64 * (STOP_TIMEOUT + START_TIMEOUT);
    world.run_until(bound)?;
    prop_assert_eq!(world.all_stopped, 1);
    prop_assert!(world.runs.iter().all(|run| !run.running), "something survives the shutdown");
    for unit in world.supervisor.ids() {
        prop_assert!(matches!(world.supervisor.state(unit), UnitState::Stopped | UnitState::Failed));
    }
    Ok(())
}

fn behaviours() -> impl Strategy<Value = Behaviour> {
    let ready_after = prop::option::weighted(0.8, 0u64..3_000);
    let exits_after = prop::option::weighted(0.4, 0u64..20_000);
    let status = prop_oneof![Just(0), Just(1)];
    (prop::bool::weighted(0.1), ready_after, exits_after, status, prop::bool::weighted(0.2), 0u64..400).prop_map(
        |(set_up_fails, ready_after, exits_after, status, ignores_terminate, lingers)| Behaviour {
            set_up_fails,
            ready_after,
            exits_after,
            status,
            ignores_terminate,
            lingers,
        },
    )
}

fn units() -> impl Strategy<Value = Vec<UnitPlan>> {
    let ready = prop_oneof![Just(ReadyWhen::Notify), Just(ReadyWhen::Started), Just(ReadyWhen::Exited)];
    let restart = prop_oneof![Just(Restart::Always), Just(Restart::OnFailure), Just(Restart::Never)];
    let edges = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    prop::collection::vec((edges(), edges(), ready, restart, prop::bool::weighted(0.05)), 1..8).prop_map(|units| {
        let lower = |at: usize, picks: Vec<prop::sample::Index>| match at {
            0 => Vec::new(),
            _ => picks.into_iter().map(|pick| pick.index(at)).collect(),
        };
        let plan = |(at, (requires, after, ready, restart, broken))| UnitPlan {
            requires: lower(at, requires),
            after: lower(at, after),
            ready,
            restart,
            broken,
        };
        units.into_iter().enumerate().map(plan).collect()
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    (units(), prop::collection::vec(behaviours(), 1..30)).prop_flat_map(|(units, behaviours)| {
        let count = units.len();
        let button = (0u64..60_000, 0..count, 0u8..3).prop_map(|(at, unit, kind)| {
            let button = match kind {
                0 => Button::Start(unit),
                1 => Button::Stop(unit),
                _ => Button::Restart(unit),
            };
            (at, button)
        });
        // Late enough now and then for everything to have come to rest.
        let shutdown_at = prop_oneof![60_000u64..70_000, Just(4_000_000)];
        (prop::collection::vec(button, 0..8), shutdown_at).prop_map(move |(mut buttons, shutdown_at)| {
            buttons.sort_by_key(|(at, _)| *at);
            Plan { units: units.clone(), behaviours: behaviours.clone(), buttons, shutdown_at }
        })
    })
}

fn junk(units: usize) -> impl Strategy<Value = Event> {
    let unit = move || (0..units).prop_map(UnitId);
    prop_oneof![
        Just(Event::Tick),
        unit().prop_map(|unit| Event::SetUpFailed(unit, Failure::new(Stage::Exec, "junk"))),
        unit().prop_map(Event::Executed),
        unit().prop_map(Event::Notified),
        (unit(), 0..3i32).prop_map(|(unit, status)| Event::Exited(unit, Outcome::Status(status))),
        unit().prop_map(Event::Gone),
        unit().prop_map(Event::Start),
        unit().prop_map(Event::Stop),
        unit().prop_map(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn units_start_in_order_run_once_and_end_with_the_shutdown(plan in plans()) {
        play(&plan)?;
    }

    /// Events that no world sends in this order: stale, doubled, invented.
    #[test]
    fn senseless_events_never_make_two_runs(units in units(), events in prop::collection::vec((junk(8), 0u64..5_000), 0..200)) {
        let plan = Plan { units, behaviours: Vec::new(), buttons: Vec::new(), shutdown_at: 0 };
        let mut supervisor = World::new(&plan).supervisor;
        let mut running = vec![false; plan.units.len()];
        let mut now = 0;
        for (event, wait) in events {
            now += wait;
            let known = match &event {
                Event::Tick | Event::Shutdown => true,
                Event::SetUpFailed(unit, _) | Event::Exited(unit, _) => unit.0 < running.len(),
                Event::Executed(unit) | Event::Notified(unit) | Event::Gone(unit) | Event::Start(unit)
                | Event::Stop(unit) | Event::Restart(unit) => unit.0 < running.len(),
            };
            if !known {
                continue;
            }
            if let Event::Gone(unit) = event {
                running[unit.0] = false;
            }
            for action in supervisor.step(event, Time::from_millis(now)) {
                if let Action::Start(unit) = action {
                    prop_assert!(!std::mem::replace(&mut running[unit.0], true));
                    for required in &plan.units[unit.0].requires {
                        prop_assert_eq!(supervisor.state(UnitId(*required)), UnitState::Ready);
                    }
                }
            }
        }
    }
}
