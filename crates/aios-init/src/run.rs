//! The loop of PID 1: waits for what the kernel reports, turns it into events, performs the supervisor's actions.
//!
//! One thread, one `poll`. Nothing in a turn blocks, and a panic in one is caught, told and followed by the next turn.

mod notify;
mod perform;
mod requests;
mod signals;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use aios_core::control::UnitState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use self::notify::NotifySocket;
use self::requests::Desk;
use self::signals::Signals;
use crate::Mode;
use crate::boot::BootReport;
use crate::console::{self, say};
use crate::control::Server;
use crate::layout::Layout;
use crate::logs::Ring;
use crate::modules::{Hotplug, RunningKernel};
use crate::power_button::PowerButtons;
use crate::process::{Groups, Run};
use crate::shutdown::{self, Kind};
use crate::supervisor::{Event, Supervisor, Time, UnitId};
use crate::unit::{self, Catalog, Unit};
use crate::watchdog::Watchdog;

/// The loop turns at least this often, so that a lost wake-up costs a delay and not the machine.
const TURN_MAX: Duration = Duration::from_secs(5);
/// Rest after a panic, so that one that comes every turn leaves the processor to others.
const PANIC_REST: Duration = Duration::from_millis(100);
/// Kernel command line: copies the units' output to the console.
const LOG_TO_CONSOLE: &str = "aios.log=console";

/// What the boot hands over to the loop; nothing, when the boot itself broke down.
#[derive(Debug, Default)]
pub struct Handover {
    pub failures: Vec<String>,
    pub watchdog: Option<Watchdog>,
    pub hotplug: Option<Hotplug>,
    pub emergency_shell: Option<PathBuf>,
}

impl From<BootReport> for Handover {
    fn from(report: BootReport) -> Self {
        let BootReport { failures, watchdog, hotplug, emergency_shell, .. } = report;
        Handover { failures, watchdog, hotplug, emergency_shell }
    }
}

/// Runs the units until the shutdown is complete. A panic has been told by the panic hook; here it is only survived.
pub fn run(mode: Mode, layout: Layout, mut handover: Handover) -> ! {
    let mut init = loop {
        let given = std::mem::take(&mut handover);
        let made = catch_unwind(AssertUnwindSafe(|| {
            let mut init = Init::new(mode, layout.clone(), given);
            init.say_defects();
            init
        }));
        match made {
            Ok(init) => break init,
            Err(_) => std::thread::sleep(PANIC_REST),
        }
    };
    loop {
        let turned = catch_unwind(AssertUnwindSafe(|| {
            if let Some(kind) = init.turn() {
                shutdown::finish(kind, mode);
            }
        }));
        if turned.is_err() {
            std::thread::sleep(PANIC_REST);
        }
    }
}

/// Everything that PID 1 holds while units run.
struct Init {
    mode: Mode,
    layout: Layout,
    supervisor: Supervisor,
    /// By [`UnitId`].
    units: Vec<UnitRecord>,
    queue: VecDeque<Event>,
    groups: Groups,
    signals: Option<Signals>,
    notify: Option<NotifySocket>,
    server: Option<Server>,
    desk: Desk,
    watchdog: Option<(Watchdog, Time)>,
    hotplug: Option<Hotplug>,
    /// None in a container: the buttons are the host's.
    power_buttons: Option<PowerButtons>,
    /// When to look for further ones, should no event tell of them.
    look_for_buttons_at: Time,
    boot_failures: Vec<String>,
    log_to_console: bool,
    all_ready_said: bool,
    ending: Option<Kind>,
    all_stopped: bool,
}

struct UnitRecord {
    name: String,
    /// `None` when its file is broken.
    unit: Option<Unit>,
    run: Option<Run>,
    ring: Ring,
    status: Option<String>,
    /// Last state told on the console.
    said: Option<(UnitState, Time)>,
}

/// Monotonic time for deadlines; the console and the logs use the time since the kernel started.
fn now() -> Time {
    let time = clock_gettime(ClockId::Monotonic);
    Time::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn kernel_was_told(word: &str) -> bool {
    let told = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    told.split_whitespace().any(|known| known == word)
}

impl Init {
    fn new(mode: Mode, layout: Layout, handover: Handover) -> Self {
        let mut loaded = unit::load(&layout.unit_directories);
        if let Some(console) = handover.emergency_shell {
            let shell = Unit::emergency_shell(console);
            loaded.units.insert(shell.name.clone(), Ok(shell));
        }
        let catalog = Catalog::new(loaded);
        for warning in &catalog.warnings {
            say(warning);
        }
        let (groups, prepared) = Groups::prepare(mode);
        let open = |what: &str, error: &dyn std::fmt::Display| say(format_args!("{what}: {error}"));
        if let Err(reason) = prepared {
            open("control groups", &reason);
        }
        let signals = Signals::open().map_err(|error| open("signals", &error)).ok();
        let notify = NotifySocket::bind(&layout.notify_socket).map_err(|error| open("notify socket", &error)).ok();
        let server = Server::listen(&layout.control_socket).map_err(|error| open("control socket", &error)).ok();
        let supervisor = Supervisor::new(catalog.specs).expect("invariant: the catalog has cut all cycles");
        let record = |entry: unit::Entry| UnitRecord {
            name: entry.name,
            unit: entry.unit,
            run: None,
            ring: Ring::default(),
            status: None,
            said: None,
        };
        Init {
            mode,
            layout,
            supervisor,
            units: catalog.entries.into_iter().map(record).collect(),
            queue: VecDeque::new(),
            groups,
            signals,
            notify,
            server,
            desk: Desk::default(),
            watchdog: handover.watchdog.map(|watchdog| (watchdog, Time::ZERO)),
            hotplug: handover.hotplug,
            power_buttons: (mode == Mode::Machine).then(PowerButtons::find),
            look_for_buttons_at: Time::ZERO,
            boot_failures: handover.failures,
            log_to_console: kernel_was_told(LOG_TO_CONSOLE),
            all_ready_said: false,
            ending: None,
            all_stopped: false,
        }
    }

    /// One turn: gather, decide, act, answer, wait. Gives the kind of end when there is nothing left to stop.
    fn turn(&mut self) -> Option<Kind> {
        self.pet_watchdog();
        self.take_signals();
        self.take_hotplug();
        self.take_power_button();
        // Before reaping: a process that said READY=1 and ended is still in its group.
        self.take_notifications();
        self.take_reports();
        self.reap();
        self.take_output();
        self.find_ended_runs();
        self.queue.push_back(Event::Tick);
        self.drain_queue();
        self.serve_clients();
        if self.all_stopped {
            // Nobody pets it while file systems are written and unmounted, and a slow card takes its time for that.
            if let Some((watchdog, _)) = &mut self.watchdog {
                watchdog.extend_for_shutdown();
            }
            return self.ending;
        }
        self.wait();
        None
    }

    fn drain_queue(&mut self) {
        while let Some(event) = self.queue.pop_front() {
            for action in self.supervisor.step(event, now()) {
                self.perform(action);
            }
        }
        self.say_all_ready();
    }

    fn serve_clients(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        for asked in server.turn(now()) {
            self.take_request(&mut server, asked);
        }
        self.drain_queue();
        self.answer_waiting(&mut server);
        self.pump_logs(&mut server);
        self.server = Some(server);
    }

    fn pet_watchdog(&mut self) {
        if let Some((watchdog, due)) = &mut self.watchdog
            && *due <= now()
        {
            watchdog.pet();
            *due = now() + watchdog.interval();
        }
    }

    /// Loads the modules of devices that appeared.
    fn take_hotplug(&mut self) {
        let Some(hotplug) = &mut self.hotplug else { return };
        let heard = hotplug.handle(&mut RunningKernel);
        if heard.input {
            // A press is sent to those who have the device open already, so a new button does not wait.
            self.look_for_buttons_at = Time::ZERO;
        }
        match heard.loaded {
            Ok(loaded) => loaded.failed.iter().for_each(|reason| say(format_args!("hotplug: {reason}"))),
            Err(error) => say(format_args!("hotplug: {error}")),
        }
    }

    /// A press is the wish that the machine end.
    fn take_power_button(&mut self) {
        let Some(buttons) = &mut self.power_buttons else { return };
        // Lets go of those that are gone first: one that came back has the same name.
        let pressed = buttons.pressed();
        if self.look_for_buttons_at <= now() {
            buttons.look();
            self.look_for_buttons_at = now() + TURN_MAX;
        }
        if pressed {
            say("power button pressed");
            self.end(Kind::PowerOff);
        }
    }

    /// Units that cannot run at all never change their state, so they are told about once, here.
    fn say_defects(&mut self) {
        for unit in self.supervisor.ids().filter(|unit| self.supervisor.failure(*unit).is_some()).collect::<Vec<_>>() {
            self.say_state(unit);
        }
    }

    /// Begins the shutdown; a later request does not change its kind.
    fn end(&mut self, kind: Kind) {
        if self.ending.is_none() {
            say(match kind {
                Kind::PowerOff => "poweroff",
                Kind::Reboot => "reboot",
            });
            self.ending = Some(kind);
            self.queue.push_back(Event::Shutdown);
        }
    }

    fn say_all_ready(&mut self) {
        if !self.all_ready_said && self.ending.is_none() && self.supervisor.all_ready() {
            self.all_ready_said = true;
            let seconds = console::since_kernel_start().as_secs_f64();
            say(format_args!("all units Ready ({} units, {seconds:.3} s since kernel start)", self.units.len()));
        }
    }

    fn wait(&self) {
        let now = now();
        let deadlines = [
            self.supervisor.next_deadline(),
            self.server.as_ref().and_then(|server| server.next_deadline(now)),
            self.watchdog.as_ref().map(|(_, due)| *due),
        ];
        let wait =
            deadlines.into_iter().flatten().map(|at| at.saturating_sub(now)).min().unwrap_or(TURN_MAX).min(TURN_MAX);
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let input = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        fds.extend(self.signals.iter().map(|signals| input(signals.as_fd())));
        fds.extend(self.notify.iter().map(|notify| input(notify.as_fd())));
        fds.extend(self.hotplug.iter().map(|hotplug| input(hotplug.fd())));
        fds.extend(self.power_buttons.iter().flat_map(PowerButtons::fds).map(input));
        for run in self.units.iter().filter_map(|record| record.run.as_ref()) {
            fds.extend(run.pipes().map(input));
            // Its events file counts as read only when someone asks whether the group is empty.
            if run.main_ended {
                fds.extend(run.group.events().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)));
            }
        }
        fds.extend(self.server.iter().flat_map(|server| server.poll_fds(now)));
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        if let Err(error) = poll(&mut fds, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            say(format_args!("poll: {error}"));
            std::thread::sleep(PANIC_REST);
        }
    }

    fn record(&mut self, unit: UnitId) -> &mut UnitRecord {
        &mut self.units[unit.0]
    }
}
