//! A running machine.

mod builder;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use serde_json::Value;

pub use builder::{Lifetime, VmBuilder};

use crate::{
    Accelerator, Api, Environment, Images, RunDir, StartError, WaitError,
    console::{self, ConsoleInput, ConsoleLog, POLL},
    interrupt,
    process::Guarded,
    qmp::{self, Qmp},
};

/// Lines of the console that an error ends with.
const TAIL: usize = 60;

/// A QEMU process with a guest in it.
#[derive(Debug)]
pub struct Vm {
    qemu: Guarded,
    run_dir: RunDir,
    environment: Environment,
    accelerator: Accelerator,
    started: Instant,
    console: ConsoleLog,
    input: Option<ConsoleInput>,
    set_aside: Option<PathBuf>,
    leave: Leave,
}

/// What happens to QEMU when its [`Vm`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Kill,
    Run,
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.leave == Leave::Kill {
            self.qemu.kill();
            self.run_dir.clear();
        }
    }
}

impl Vm {
    /// A machine for an image of `images`, with its files in `run_dir`: by default the qcow2 disk by UEFI, 2 GiB of
    /// memory, a disk of 4 GiB that is gone at the end, and no emergency shell.
    pub fn builder(images: &Images, run_dir: impl Into<PathBuf>) -> VmBuilder {
        VmBuilder::new(images, run_dir.into())
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// When QEMU was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Where a kept disk went that did not fit the image any more.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// The guest's API through the forwarded port, with the right token.
    pub fn api(&self) -> Api {
        Api::new(&self.environment.api, &self.environment.token)
    }

    /// Waits for a line with `marker` on the console: the line. A machine that ends or panics ends the wait.
    pub fn wait_console(&mut self, marker: &str, patience: Duration) -> Result<String, WaitError> {
        let asked = Instant::now();
        loop {
            if let Some(line) = self.poll_console(marker)? {
                return Ok(line);
            }
            if asked.elapsed() >= patience {
                let tail = self.console.tail(TAIL);
                return Err(WaitError::Timeout { marker: marker.into(), after: patience, tail });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Looks once for a line with `marker`; says so if it can no longer come.
    pub fn poll_console(&mut self, marker: &str) -> Result<Option<String>, WaitError> {
        if interrupt::requested() {
            return Err(WaitError::Interrupted);
        }
        // The end is looked for first, so that everything a machine printed before it is read.
        let ended = self.qemu.ended();
        self.refresh()?;
        if let Some(line) = self.console.find(marker) {
            return Ok(Some(line));
        }
        let (marker, tail) = (marker.to_owned(), || self.console.tail(TAIL));
        if let Some(status) = ended {
            let stderr = self.qemu_said();
            return Err(WaitError::Ended { marker, status, stderr, tail: tail() });
        }
        match self.console.find_panic() {
            Some(_) => Err(WaitError::Panicked { marker, tail: tail() }),
            None => Ok(None),
        }
    }

    /// An error if init has given a unit up.
    pub fn check_units(&mut self) -> Result<(), WaitError> {
        self.refresh()?;
        match self.console.find_failed_unit() {
            Some(line) => Err(WaitError::UnitFailed { line, tail: self.console.tail(TAIL) }),
            None => Ok(()),
        }
    }

    /// Waits until init says that all units are Ready and the API names its default model: that model's object. A unit
    /// that init gives up ends the wait. `progress` is called with the console's last line, some times a second.
    pub fn wait_ready(&mut self, patience: Duration, mut progress: impl FnMut(&str)) -> Result<Value, WaitError> {
        const STEP: Duration = Duration::from_millis(100);
        let asked = Instant::now();
        let mut missing = console::ALL_READY.to_owned();
        let mut all_ready = false;
        while asked.elapsed() < patience {
            all_ready |= self.poll_console(console::ALL_READY)?.is_some();
            self.check_units()?;
            if all_ready {
                match self.api().default_model() {
                    Ok(model) => return Ok(model),
                    Err(error) => missing = error.to_string(),
                }
            }
            progress(&self.console.last_line());
            std::thread::sleep(STEP);
        }
        Err(WaitError::Timeout { marker: missing, after: patience, tail: self.console.tail(TAIL) })
    }

    /// The console so far.
    pub fn console(&mut self) -> Result<&mut ConsoleLog, WaitError> {
        self.refresh()?;
        Ok(&mut self.console)
    }

    /// Types on the console.
    pub fn send_console(&mut self, text: &str) -> std::io::Result<()> {
        let input = match &mut self.input {
            Some(input) => input,
            None => self.input.insert(ConsoleInput::connect(&self.run_dir.console_socket())?),
        };
        input.send(text)
    }

    /// A connection to QEMU, which serves one at a time: until it is dropped, [`Vm::shut_down`] waits in vain.
    pub fn qmp(&self) -> Result<Qmp, WaitError> {
        Ok(Qmp::connect(&self.run_dir.qmp_socket())?)
    }

    /// Presses the power button and waits until QEMU has ended: its exit status.
    pub fn shut_down(&mut self, patience: Duration) -> Result<ExitStatus, WaitError> {
        let qemu = &mut self.qemu;
        qmp::power_down(&self.run_dir.qmp_socket(), patience, |step| qemu.wait(step).is_some())?;
        // By now it has ended or has had its time.
        self.wait_end(Duration::ZERO).map_err(|error| match error {
            WaitError::StillRunning { tail, .. } => WaitError::StillRunning { after: patience, tail },
            error => error,
        })
    }

    /// Waits until the guest has ended the machine by itself.
    pub fn wait_end(&mut self, patience: Duration) -> Result<ExitStatus, WaitError> {
        let status = self.qemu.wait(patience);
        self.refresh()?;
        match status {
            Some(status) => {
                self.run_dir.clear();
                Ok(status)
            }
            None => Err(WaitError::StillRunning { after: patience, tail: self.console.tail(TAIL) }),
        }
    }

    /// Waits for the end of a machine whose console is in the terminal, however long that takes.
    pub fn wait_for_leave(mut self) -> std::io::Result<ExitStatus> {
        self.qemu.wait_for_end()
    }

    /// Lets the machine outlive this process.
    pub fn detach(mut self) {
        self.leave = Leave::Run;
        self.qemu.detach();
    }

    fn refresh(&mut self) -> Result<(), WaitError> {
        let error = |source| WaitError::Log { path: self.run_dir.console_log(), source };
        self.console.refresh().map_err(error)
    }

    fn qemu_said(&self) -> String {
        fs::read_to_string(self.run_dir.qemu_log()).unwrap_or_default().trim().to_owned()
    }

    /// QEMU greets on its control socket once its options, files and ports are in order; until then it may end.
    fn refuse_early_end(&mut self) -> Result<(), StartError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let socket = self.run_dir.qmp_socket();
        while self.started.elapsed() < PATIENCE && !socket.exists() && self.qemu.ended().is_none() {
            std::thread::sleep(POLL);
        }
        if self.qemu.ended().is_none() {
            // A connection that breaks is QEMU's end, which takes a moment to be seen.
            if let Err(error) = Qmp::connect_to_starting(&socket)
                && self.qemu.wait(Duration::from_secs(2)).is_none()
            {
                return Err(StartError::io("start qemu")(std::io::Error::other(error)));
            }
        }
        match self.qemu.ended() {
            Some(status) => Err(StartError::EndedAtOnce { status, stderr: self.qemu_said() }),
            None => Ok(()),
        }
    }
}
