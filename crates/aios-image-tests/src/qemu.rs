//! The built images in QEMU: a scratch directory, and how many machines run at once.
//!
//! Where there are no images the tests fail and say so: a test that is skipped proves nothing.

use std::{
    fs::{self, File},
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    time::Duration,
};

use aios_keys::hex;
use aios_vm::{Accelerator, Architecture, Board, Images, Vm, VmBuilder, accel, console};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::output;

/// From QEMU's start to all units Ready takes seconds under hardware virtualisation, and up to a minute in TCG on two
/// processors that two machines share; a busy host gets several times that.
const READY: Duration = Duration::from_secs(120);
/// Every unit gets its stop timeout, one after the other at worst.
const POWER_OFF: Duration = Duration::from_secs(60);

/// How many bytes of a file cross the serial line at once, and how often one such piece may come damaged.
const PIECE: usize = 512;
const TRIES: usize = 20;

/// A running machine and its claim to a share of the host.
pub struct TestVm {
    architecture: Architecture,
    vm: Vm,
    /// Commands that were typed at its emergency shell.
    commands: usize,
    _slot: Slot,
}

/// A scratch directory for machines, removed at the end.
pub struct Scratch {
    dir: TempDir,
    board: Board,
}

/// One of the places for machines that may run at once, in all test processes together.
struct Slot {
    _lock: File,
}

/// The built images of the x86_64 board.
pub fn images() -> Images {
    images_of(Board::x86_64())
}

/// The built images of a board.
pub fn images_of(board: Board) -> Images {
    let images = Images::of_board(output().join("images"), board);
    if let Err(error) = images.path(images.board().image()) {
        panic!("these tests boot the built images: {error}");
    }
    images
}

/// How long this host may take until a machine is Ready.
fn ready_patience(architecture: Architecture) -> Duration {
    READY * accelerator(architecture).patience()
}

/// How long this host may take until a machine has powered off.
fn power_off_patience(architecture: Architecture) -> Duration {
    POWER_OFF * accelerator(architecture).patience()
}

impl Scratch {
    /// For machines of the x86_64 board.
    pub fn new() -> Self {
        Self::of_board(Board::x86_64())
    }

    pub fn of_board(board: Board) -> Self {
        let dir = tempfile::tempdir_in(vm_tests_dir()).expect("the output directory takes a scratch directory");
        Scratch { dir, board }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A machine with its own run directory in here.
    pub fn machine(&self, name: &str) -> VmBuilder {
        let accelerator = accelerator(self.board.architecture);
        Vm::builder(&images_of(self.board.clone()), self.dir.path().join(name)).accelerator(accelerator)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl TestVm {
    /// Starts the machine when there is room for it.
    pub fn start(builder: VmBuilder) -> Self {
        let slot = Slot::wait_for();
        let architecture = builder.board().architecture;
        let vm = builder.start().unwrap_or_else(|error| panic!("{error}"));
        TestVm { architecture, vm, commands: 0, _slot: slot }
    }

    /// Starts the machine and waits until all its units are Ready; returns what init said about it.
    pub fn start_to_ready(builder: VmBuilder) -> (Self, String) {
        let mut machine = Self::start(builder);
        let line = machine.expect_line(console::ALL_READY);
        machine.vm.check_units().unwrap_or_else(|error| panic!("{error}"));
        (machine, line)
    }

    /// Waits for a line with `marker`; a failure shows the console.
    pub fn expect_line(&mut self, marker: &str) -> String {
        self.vm.wait_console(marker, ready_patience(self.architecture)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The console up to now.
    pub fn console_text(&mut self) -> String {
        self.vm.console().unwrap_or_else(|error| panic!("{error}")).text()
    }

    /// Runs a command in the emergency shell, which must be allowed: what it printed, without the lines that init says
    /// meanwhile.
    pub fn shell(&mut self, command: &str) -> String {
        self.commands += 1;
        // The terminal echoes what is typed; only the shell does sums.
        let before = self.commands - 1;
        self.send_console(&format!("echo begin-$(({before}+1)).; {command}; echo end-$(({before}+1)).\n"))
            .expect("the console takes a line");
        let (begin, end) = (format!("begin-{}.", self.commands), format!("end-{}.", self.commands));
        self.expect_line(&end);
        let text = self.console_text();
        let output = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(output, _)| output);
        let lines = output.unwrap_or_else(|| panic!("no `{begin}` before `{end}`:\n{text}")).lines();
        lines.filter(|line| console::stamp(line).is_none()).collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    /// Reads a file of the guest through the emergency shell. An emulated serial line now and then says a character
    /// twice, so the file comes in pieces of hexadecimal digits, and one that does not have its checksum is asked for
    /// again.
    pub fn read_file(&mut self, path: &str) -> Vec<u8> {
        let size = self.shell(&format!("stat -c %s {path}"));
        let size: usize = size.parse().unwrap_or_else(|_| panic!("{path}: {size}"));
        (0..size.div_ceil(PIECE)).flat_map(|number| self.read_piece(path, number)).collect()
    }

    fn read_piece(&mut self, path: &str, number: usize) -> Vec<u8> {
        let piece = format!("dd if={path} bs={PIECE} skip={number} count=1 2>/dev/null");
        let ask = format!(r#"{piece} | sha256sum | cut -c 1-64; {piece} | hexdump -v -e '/1 "%02x"'; echo"#);
        for _ in 0..TRIES {
            let answer = self.shell(&ask);
            let bytes = answer.split_once('\n').and_then(|(sum, digits)| {
                let bytes = hex::decode_any(digits)?;
                (sum == hex::encode(&Sha256::digest(&bytes))).then_some(bytes)
            });
            if let Some(bytes) = bytes {
                return bytes;
            }
        }
        panic!("{path}: piece {number} came damaged over the serial line {TRIES} times");
    }

    /// How long this machine may take until it is Ready.
    pub fn ready_patience(&self) -> Duration {
        ready_patience(self.architecture)
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Whether the processor is the translator's, not the host's.
    pub fn is_translated(&self) -> bool {
        accelerator(self.architecture) == Accelerator::Tcg
    }

    /// Waits until the machine has switched itself off. Returns the whole console.
    pub fn wait_off(mut self) -> String {
        let status = self.vm.wait_end(self.ready_patience()).unwrap_or_else(|error| panic!("{error}"));
        let text = self.console_text();
        assert!(status.success() && text.contains(console::POWER_OFF), "qemu ended with {status}:\n{text}");
        text
    }

    /// Presses the power button: the guest must say that it ends, and QEMU must end well. Returns the whole console.
    pub fn power_off(mut self) -> String {
        let status = self.vm.shut_down(power_off_patience(self.architecture)).unwrap_or_else(|error| panic!("{error}"));
        let text = self.console_text();
        assert!(text.contains(console::POWER_OFF), "no `{}` on the console:\n{text}", console::POWER_OFF);
        assert!(status.success(), "qemu ended with {status}:\n{text}");
        text
    }
}

impl Deref for TestVm {
    type Target = Vm;

    fn deref(&self) -> &Vm {
        &self.vm
    }
}

impl DerefMut for TestVm {
    fn deref_mut(&mut self) -> &mut Vm {
        &mut self.vm
    }
}

impl Slot {
    /// Two machines at once, and no more than there are processors: a machine that gets no time fails its timeouts.
    fn wait_for() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let dir = vm_tests_dir();
        loop {
            for number in 0..processors.min(2) {
                let lock =
                    File::create(dir.join(format!("slot-{number}"))).expect("the output directory takes a lock file");
                if lock.try_lock().is_ok() {
                    return Slot { _lock: lock };
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn accelerator(architecture: Architecture) -> Accelerator {
    let cache = accel::cache_in(&vm_tests_dir());
    accel::choose(&cache, architecture).unwrap_or_else(|error| panic!("{error}")).accelerator
}

/// On the same disk as the images, because `/tmp` may be memory.
fn vm_tests_dir() -> PathBuf {
    let dir = output().join("vm-tests");
    fs::create_dir_all(&dir).expect("the output directory can be written");
    dir
}
