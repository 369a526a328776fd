//! The machine's power button: an input device that can send `KEY_POWER`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `EV_KEY` and `KEY_POWER` of the kernel's `input-event-codes.h`.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Value of an event that tells of a key going down; 0 is up, 2 a repetition.
const PRESSED: i32 = 1;
/// Events taken in one read; a button sends four for one press.
const EVENTS: usize = 16;

/// All power buttons of the machine. They may appear and go while it runs.
#[derive(Debug)]
pub struct PowerButtons {
    class: PathBuf,
    nodes: PathBuf,
    open: BTreeMap<String, File>,
}

impl PowerButtons {
    /// Finds those that are there.
    pub fn find() -> Self {
        Self::find_in(Path::new("/sys/class/input"), Path::new("/dev/input"))
    }

    fn find_in(class: &Path, nodes: &Path) -> Self {
        let mut buttons = PowerButtons { class: class.into(), nodes: nodes.into(), open: BTreeMap::new() };
        buttons.look();
        buttons
    }

    /// Finds those that appeared. One that cannot be opened is tried again the next time.
    pub fn look(&mut self) {
        let Ok(entries) = fs::read_dir(&self.class) else { return };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| name.starts_with("event")) {
            if self.open.contains_key(&name) || !has_power_key(&self.class.join(&name)) {
                continue;
            }
            let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
            if let Ok(device) = OpenOptions::new().read(true).custom_flags(flags).open(self.nodes.join(&name)) {
                self.open.insert(name, device);
            }
        }
    }

    /// Readable when [`PowerButtons::pressed`] has something to tell.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().map(File::as_fd)
    }

    /// Takes what was sent: whether a button was pressed. A device that is gone is let go of.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        self.open.retain(|_, device| {
            let mut events = [0; EVENTS * size_of::<libc::input_event>()];
            loop {
                match device.read(&mut events) {
                    Ok(0) => return false,
                    Ok(read) => pressed |= events[..read].chunks_exact(size_of::<libc::input_event>()).any(is_press),
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        pressed
    }
}

/// The kernel lists the keys of a device as hexadecimal words of its word size, the highest first.
fn has_power_key(device: &Path) -> bool {
    let Ok(keys) = fs::read_to_string(device.join("device/capabilities/key")) else { return false };
    let bits = usize::try_from(libc::c_ulong::BITS).unwrap_or(64);
    let (word, bit) = (usize::from(KEY_POWER) / bits, usize::from(KEY_POWER) % bits);
    let word = keys.split_whitespace().rev().nth(word).and_then(|word| libc::c_ulong::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> bit & 1 == 1)
}

fn is_press(event: &[u8]) -> bool {
    let at = |offset: usize| event[offset..].iter().copied();
    let u16_at = |offset| u16::from_ne_bytes(std::array::from_fn(|i| at(offset).nth(i).unwrap_or(0)));
    let value =
        i32::from_ne_bytes(std::array::from_fn(|i| at(offset_of!(libc::input_event, value)).nth(i).unwrap_or(0)));
    u16_at(offset_of!(libc::input_event, type_)) == EV_KEY
        && u16_at(offset_of!(libc::input_event, code)) == KEY_POWER
        && value == PRESSED
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    /// The capabilities of an ACPI power button and of a mouse, as a 64-bit kernel shows them.
    const BUTTON: &str = "10000000000000 0\n";
    const MOUSE: &str = "1f0000 0 0 0 0\n";

    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("dev")).unwrap();
            fs::create_dir(dir.path().join("class")).unwrap();
            Machine { dir }
        }

        /// Adds a device; a FIFO stands for its node, because it too keeps apart "nothing yet" and "gone".
        fn add(&self, name: &str, keys: &str) -> File {
            let capabilities = self.dir.path().join("class").join(name).join("device/capabilities");
            fs::create_dir_all(&capabilities).unwrap();
            fs::write(capabilities.join("key"), keys).unwrap();
            let node = self.dir.path().join("dev").join(name);
            mkfifoat(CWD, &node, Mode::RUSR | Mode::WUSR).unwrap();
            OpenOptions::new().read(true).write(true).open(node).unwrap()
        }

        fn buttons(&self) -> PowerButtons {
            PowerButtons::find_in(&self.dir.path().join("class"), &self.dir.path().join("dev"))
        }
    }

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut event = vec![0; offset_of!(libc::input_event, type_)];
        event.extend_from_slice(&kind.to_ne_bytes());
        event.extend_from_slice(&code.to_ne_bytes());
        event.extend_from_slice(&value.to_ne_bytes());
        event
    }

    #[test]
    fn a_press_is_seen_once_and_a_release_is_none() {
        let machine = Machine::new();
        let mut button = machine.add("event0", BUTTON);
        let mut buttons = machine.buttons();
        assert!(!buttons.pressed());
        button.write_all(&[event(EV_KEY, KEY_POWER, 1), event(0, 0, 0)].concat()).unwrap();
        assert!(buttons.pressed());
        button.write_all(&[event(EV_KEY, KEY_POWER, 0), event(0, 0, 0)].concat()).unwrap();
        assert!(!buttons.pressed());
    }

    #[test]
    fn devices_without_the_key_are_not_opened() {
        let machine = Machine::new();
        let _mouse = machine.add("event0", MOUSE);
        assert_eq!(machine.buttons().fds().count(), 0);
    }

    #[test]
    fn a_button_that_appears_later_is_found_and_one_that_goes_is_dropped() {
        let machine = Machine::new();
        let mut buttons = machine.buttons();
        let button = machine.add("event3", BUTTON);
        buttons.look();
        assert_eq!(buttons.fds().count(), 1);
        drop(button);
        assert!(!buttons.pressed());
        assert_eq!(buttons.fds().count(), 0);
    }
}
