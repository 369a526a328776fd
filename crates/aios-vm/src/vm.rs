//! A running machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Accelerator, Api, Environment, Firmware, ImageKind, Images, RunDir, StartError, WaitError, accel,
    conf_volume::{ConfVolume, EmergencyShell},
    console::{self, ConsoleInput, ConsoleLog, POLL},
    disk,
    firmware::Ovmf,
    interrupt,
    machine::{Boot, ConsoleWiring, DiskFormat, Durability, Machine, Medium},
    ports::Forwards,
    process::{Guarded, QEMU},
    qmp::{self, Qmp},
    run_dir::{CONSOLE_SOCKET, QMP_SOCKET},
};

/// Lines of the console that an error ends with.
const TAIL: usize = 60;

/// Whether the machine may outlive the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It dies with the thread that started it, however that ends.
    Owned,
    /// It dies when the [`Vm`] is dropped, unless [`Vm::detach`] lets go of it first.
    Detachable,
}

/// What to boot, and how.
#[derive(Clone, Debug)]
pub struct VmBuilder {
    images: Images,
    run_dir: PathBuf,
    image: ImageKind,
    boot: BootFrom,
    disk: DiskChoice,
    disk_size: u64,
    memory_mib: u64,
    accelerator: Option<Accelerator>,
    accelerator_cache: Option<PathBuf>,
    forwards: Option<Forwards>,
    emergency_shell: EmergencyShell,
    lifetime: Lifetime,
    terminal: bool,
}

#[derive(Clone, Debug)]
enum BootFrom {
    Firmware(Firmware),
    Kernel { command_line: String },
}

#[derive(Clone, Debug)]
enum DiskChoice {
    /// A new overlay on the image.
    Fresh,
    /// The run directory's overlay, made if it is not there.
    Kept,
    /// This disk as it is.
    Given { path: PathBuf, format: DiskFormat },
}

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

impl VmBuilder {
    pub fn image(mut self, image: ImageKind) -> Self {
        self.image = image;
        self
    }

    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.boot = BootFrom::Firmware(firmware);
        self
    }

    /// Starts the kernel directly, without firmware and boot loader.
    pub fn direct_kernel(mut self, command_line: impl Into<String>) -> Self {
        self.boot = BootFrom::Kernel { command_line: command_line.into() };
        self
    }

    /// Keeps the disk in the run directory, and takes the one that is there.
    pub fn keep_disk(mut self) -> Self {
        self.disk = DiskChoice::Kept;
        self
    }

    /// Boots this disk and writes to it.
    pub fn disk(mut self, path: impl Into<PathBuf>, format: DiskFormat) -> Self {
        self.disk = DiskChoice::Given { path: path.into(), format };
        self
    }

    /// Size of a new disk in bytes; never less than the image's.
    pub fn disk_size(mut self, bytes: u64) -> Self {
        self.disk_size = bytes;
        self
    }

    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// This accelerator instead of the probed one.
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = Some(accelerator);
        self
    }

    /// Where the probe's answer is kept; by default in the run directory.
    pub fn accelerator_cache(mut self, path: impl Into<PathBuf>) -> Self {
        self.accelerator_cache = Some(path.into());
        self
    }

    /// These ports of 127.0.0.1; by default any free ones.
    pub fn forwards(mut self, forwards: Forwards) -> Self {
        self.forwards = Some(forwards);
        self
    }

    pub fn emergency_shell(mut self, shell: EmergencyShell) -> Self {
        self.emergency_shell = shell;
        self
    }

    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Connects the guest's console to this process's terminal.
    pub fn console_in_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// The addresses and token that a machine with chosen ports will have.
    pub fn planned_environment(&mut self) -> Result<Environment, StartError> {
        let forwards = match self.forwards {
            Some(forwards) => forwards,
            None => *self.forwards.insert(Forwards::any()?),
        };
        Ok(Environment::new(forwards, &RunDir::open(&self.run_dir)?.token()?))
    }

    /// Prepares the run directory and starts QEMU.
    pub fn start(self) -> Result<Vm, StartError> {
        let run_dir = RunDir::open(&self.run_dir)?;
        let _lock = run_dir.lock()?;
        if let Some(running) = run_dir.running() {
            return Err(StartError::AlreadyRunning { pid: running.pid });
        }
        run_dir.clear();
        let (machine, set_aside, token) = self.prepare(&run_dir)?;
        let started = Instant::now();
        let qemu = self.spawn(&machine, &run_dir)?;
        run_dir.note_running(qemu.id())?;
        let environment = Environment::new(machine.forwards, &token);
        let mut vm = Vm {
            qemu,
            environment,
            accelerator: machine.accelerator,
            started,
            console: ConsoleLog::new(run_dir.console_log()),
            run_dir,
            input: None,
            set_aside,
            leave: Leave::Kill,
        };
        vm.refuse_early_end()?;
        let env = vm.run_dir.env();
        vm.environment.write(&env).map_err(StartError::io(format!("write {}", env.display())))?;
        Ok(vm)
    }

    fn prepare(&self, run_dir: &RunDir) -> Result<(Machine, Option<PathBuf>, String), StartError> {
        let accelerator = match (self.accelerator, &self.accelerator_cache) {
            (Some(accelerator), _) => accelerator,
            (None, Some(cache)) => accel::choose(cache)?.accelerator,
            (None, None) => accel::choose(&accel::cache_in(run_dir.path()))?.accelerator,
        };
        let (medium, set_aside) = self.medium(run_dir)?;
        let token = run_dir.token()?;
        let conf = ConfVolume { api_token: token.clone(), emergency_shell: self.emergency_shell };
        let conf_volume = run_dir.conf_volume();
        conf.to_image()
            .and_then(|image| crate::env_file::write_private(&conf_volume, &image))
            .map_err(StartError::io(format!("write {}", conf_volume.display())))?;
        let console_log = run_dir.console_log();
        // A reader that starts before QEMU must not find the last machine's text.
        File::create(&console_log).map_err(StartError::io(format!("create {}", console_log.display())))?;
        let console = match self.terminal {
            true => ConsoleWiring::Terminal,
            false => ConsoleWiring::Socket(CONSOLE_SOCKET.into()),
        };
        let machine = Machine {
            accelerator,
            memory_mib: self.memory_mib,
            boot: self.boot(run_dir)?,
            medium,
            conf_volume,
            forwards: self.forwards.map_or_else(Forwards::any, Ok)?,
            console,
            console_log,
            qmp_socket: QMP_SOCKET.into(),
        };
        Ok((machine, set_aside, token))
    }

    fn boot(&self, run_dir: &RunDir) -> Result<Boot, StartError> {
        match &self.boot {
            BootFrom::Firmware(Firmware::Bios) => Ok(Boot::Bios),
            BootFrom::Firmware(Firmware::Uefi) => {
                let ovmf = Ovmf::find()?;
                let vars = run_dir.firmware_variables();
                fs::copy(&ovmf.vars_template, &vars).map_err(StartError::io(format!("write {}", vars.display())))?;
                Ok(Boot::Uefi { code: ovmf.code, vars })
            }
            BootFrom::Kernel { command_line } => {
                let direct = self.images.direct_kernel()?;
                Ok(Boot::Direct { kernel: direct.kernel, initrd: direct.initrd, command_line: command_line.clone() })
            }
        }
    }

    fn medium(&self, run_dir: &RunDir) -> Result<(Medium, Option<PathBuf>), StartError> {
        if let DiskChoice::Given { path, format } = &self.disk {
            let path = path.canonicalize().map_err(StartError::io(format!("open {}", path.display())))?;
            return Ok((Medium::Disk { path, format: *format, durability: Durability::Kept }, None));
        }
        let image = self.images.path(self.image)?;
        let backing = match self.image {
            ImageKind::Iso => return Ok((Medium::Cdrom(image), None)),
            ImageKind::Img => DiskFormat::Raw,
            ImageKind::Qcow2 => DiskFormat::Qcow2,
        };
        let path = run_dir.disk();
        let (durability, set_aside) = match self.disk {
            DiskChoice::Kept => {
                (Durability::Kept, disk::reuse_or_create_overlay(&path, &image, backing, self.disk_size)?)
            }
            _ => {
                disk::create_overlay(&path, &image, backing, self.disk_size)?;
                (Durability::Ephemeral, None)
            }
        };
        Ok((Medium::Disk { path, format: DiskFormat::Qcow2, durability }, set_aside))
    }

    fn spawn(&self, machine: &Machine, run_dir: &RunDir) -> Result<Guarded, StartError> {
        let mut command = Command::new(QEMU);
        command.args(machine.arguments()).current_dir(run_dir.path());
        if !self.terminal {
            let log = run_dir.qemu_log();
            let stderr = File::create(&log).map_err(StartError::io(format!("create {}", log.display())))?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        }
        match self.lifetime {
            Lifetime::Owned => Guarded::spawn(&mut command),
            Lifetime::Detachable => {
                // In a process group of its own the terminal's ctrl-c is aios-vm's, which then ends QEMU.
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
                Guarded::spawn_to_detach(&mut command)
            }
        }
    }
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
        VmBuilder {
            images: images.clone(),
            run_dir: run_dir.into(),
            image: ImageKind::Qcow2,
            boot: BootFrom::Firmware(Firmware::Uefi),
            disk: DiskChoice::Fresh,
            disk_size: disk::SIZE,
            memory_mib: 2048,
            accelerator: None,
            accelerator_cache: None,
            forwards: None,
            emergency_shell: EmergencyShell::Refused,
            lifetime: Lifetime::Owned,
            terminal: false,
        }
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

    /// Presses the power button and waits until QEMU has ended: its exit status.
    pub fn shut_down(&mut self, patience: Duration) -> Result<ExitStatus, WaitError> {
        qmp::power_down(&self.run_dir.qmp_socket())?;
        self.wait_end(patience)
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
            if let Err(error) = Qmp::connect(&socket)
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
