//! What to boot, and how: choices first, then the files and the QEMU process they lead to.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use super::{Leave, Vm};
use crate::{
    Accelerator, Architecture, Board, Environment, Firmware, Hardware, ImageKind, Images, RunDir, StartError, accel,
    conf_volume::{ConfVolume, EmergencyShell},
    console::ConsoleLog,
    disk,
    firmware::Uefi,
    machine::{Boot, ConsoleWiring, DiskFormat, Durability, Machine, Medium},
    ports::Forwards,
    process::Guarded,
    raspberrypi,
    run_dir::{CONSOLE_SOCKET, QMP_SOCKET},
};

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
    settings: Vec<String>,
    processors: Option<usize>,
    options: Vec<(String, String)>,
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

impl VmBuilder {
    pub(super) fn new(images: &Images, run_dir: PathBuf) -> Self {
        VmBuilder {
            images: images.clone(),
            run_dir,
            image: images.board().image(),
            boot: BootFrom::Firmware(images.board().firmware),
            disk: DiskChoice::Fresh,
            disk_size: disk::SIZE,
            memory_mib: 2048,
            accelerator: None,
            accelerator_cache: None,
            forwards: None,
            emergency_shell: EmergencyShell::Refused,
            settings: Vec::new(),
            processors: None,
            options: Vec::new(),
            lifetime: Lifetime::Owned,
            terminal: false,
        }
    }

    /// Whose images it boots.
    pub fn board(&self) -> &Board {
        self.images.board()
    }

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

    /// A line of `aios.toml` for the first boot, its key written out: `init.watchdog = "5s"`.
    pub fn setting(mut self, line: impl Into<String>) -> Self {
        self.settings.push(line.into());
        self
    }

    /// So many processors, where it is not to be as many as suit the accelerator.
    pub fn processors(mut self, processors: usize) -> Self {
        self.processors = Some(processors);
        self
    }

    /// A further option of QEMU's, with its value.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
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
        let architecture = self.images.board().architecture;
        let hardware = self.images.board().hardware();
        let accelerator = match (self.accelerator, &self.accelerator_cache) {
            // No host's processor is the one that this machine has.
            _ if hardware == Hardware::RaspberryPi3 => Accelerator::Tcg,
            (Some(accelerator), _) => accelerator,
            (None, Some(cache)) => accel::choose(cache, architecture)?.accelerator,
            (None, None) => accel::choose(&accel::cache_in(run_dir.path()), architecture)?.accelerator,
        };
        let (medium, set_aside) = self.medium(run_dir)?;
        let token = run_dir.token()?;
        let conf =
            ConfVolume { api_token: token.clone(), emergency_shell: self.emergency_shell, settings: self.settings() };
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
            hardware,
            architecture,
            accelerator,
            processors: self.processors,
            memory_mib: self.memory_mib,
            boot: self.boot(run_dir)?,
            medium,
            conf_volume,
            forwards: self.forwards.map_or_else(Forwards::any, Ok)?,
            console,
            console_log,
            qmp_socket: QMP_SOCKET.into(),
            options: self.options.clone(),
        };
        Ok((machine, set_aside, token))
    }

    fn settings(&self) -> Vec<String> {
        let mut settings = self.settings.clone();
        if self.images.board().hardware() == Hardware::RaspberryPi3 {
            // Arming it resets QEMU's machine at once.
            settings.push("init.watchdog = \"0s\"".into());
        }
        settings
    }

    fn boot(&self, run_dir: &RunDir) -> Result<Boot, StartError> {
        let board = self.images.board();
        let architecture = board.architecture;
        let unsuited = |asked, instead| Err(StartError::Unsuited { board: board.name.clone(), asked, instead });
        match (&self.boot, board.hardware()) {
            (BootFrom::Firmware(Firmware::RaspberryPi), Hardware::RaspberryPi3) => {
                let card = raspberrypi::read_card(&self.images.path(ImageKind::Img)?, &run_dir.card())?;
                Ok(Boot::Direct {
                    kernel: card.kernel,
                    initrd: card.initramfs,
                    device_tree: Some(card.device_tree),
                    command_line: card.command_line,
                })
            }
            (BootFrom::Firmware(Firmware::RaspberryPi), Hardware::Virtual) => {
                unsuited("by a Raspberry Pi's firmware", "boot with FIRMWARE=uefi")
            }
            (_, Hardware::RaspberryPi3) => unsuited("by UEFI, BIOS or a bare kernel", "leave FIRMWARE unset"),
            (BootFrom::Firmware(Firmware::Bios), _) if architecture != Architecture::X86_64 => {
                Err(StartError::NoBios { architecture })
            }
            (BootFrom::Firmware(Firmware::Bios), Hardware::Virtual) => Ok(Boot::Bios),
            (BootFrom::Firmware(Firmware::Uefi), Hardware::Virtual) => {
                let uefi = Uefi::find(architecture)?;
                let vars = run_dir.firmware_variables();
                fs::copy(&uefi.vars_template, &vars).map_err(StartError::io(format!("write {}", vars.display())))?;
                Ok(Boot::Uefi { code: uefi.code, vars })
            }
            (BootFrom::Kernel { command_line }, Hardware::Virtual) => {
                let direct = self.images.direct_kernel()?;
                Ok(Boot::Direct {
                    kernel: direct.kernel,
                    initrd: direct.initrd,
                    device_tree: None,
                    command_line: command_line.clone(),
                })
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
        let size = match self.images.board().hardware() {
            Hardware::Virtual => self.disk_size,
            // QEMU refuses cards of other sizes.
            Hardware::RaspberryPi3 => {
                let length = fs::metadata(&image).map_err(StartError::io(format!("read {}", image.display())))?.len();
                self.disk_size.max(length).next_power_of_two()
            }
        };
        let (durability, set_aside) = match self.disk {
            DiskChoice::Kept => (Durability::Kept, disk::reuse_or_create_overlay(&path, &image, backing, size)?),
            _ => {
                disk::create_overlay(&path, &image, backing, size)?;
                (Durability::Ephemeral, None)
            }
        };
        Ok((Medium::Disk { path, format: DiskFormat::Qcow2, durability }, set_aside))
    }

    fn spawn(&self, machine: &Machine, run_dir: &RunDir) -> Result<Guarded, StartError> {
        let mut command = Command::new(machine.architecture.qemu());
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
