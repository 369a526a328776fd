//! Devices that appear after boot: the kernel announces them on a netlink socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt};

use super::{Kernel, Loaded, ModuleTree, Round, TreeError, coldplug};

/// Multicast group of the kernel's own events; group 2 carries those of a udev, which may be forged.
const KERNEL_GROUP: u32 = 1;

/// Bytes of kernel memory for events that wait: a bus with hundreds of devices announces them in one burst.
const BACKLOG: usize = 1 << 20;

/// Largest event of the kernel (`UEVENT_BUFFER_SIZE` and its header) with room to spare.
const EVENT_BYTES: usize = 8 << 10;

/// Listens for devices and loads their modules.
#[derive(Debug)]
pub struct Hotplug {
    socket: OwnedFd,
    tree: Option<ModuleTree>,
}

/// What came of the events that waited.
#[derive(Debug)]
pub struct Heard {
    /// The modules that new devices asked for.
    pub loaded: Result<Loaded, TreeError>,
    /// Whether an input device may have appeared, with its node in `/dev`.
    pub input: bool,
}

/// What the waiting events say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Announced {
    /// Aliases of new devices.
    aliases: Vec<String>,
    /// A device is an input device.
    input: bool,
    /// Too many events came at once, and some are gone.
    lost: bool,
}

impl Hotplug {
    /// Opens the socket. Do so before [`coldplug`], so that no device falls between the two.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        // The default size does for most machines; a refusal is no reason to have no hot-plugging.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, BACKLOG);
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Hotplug { socket, tree: None })
    }

    /// Hands over the tree that knows which modules are in; without it one is read at the first event.
    pub fn continue_from(&mut self, tree: ModuleTree) {
        self.tree = Some(tree);
    }

    /// Readable when [`Hotplug::handle`] has work.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes all waiting events and loads what they ask for.
    pub fn handle(&mut self, kernel: &mut dyn Kernel) -> Heard {
        let Announced { aliases, input, lost } = self.waiting();
        Heard { loaded: self.load(&aliases, lost, kernel), input: input || lost }
    }

    fn load(&mut self, aliases: &[String], lost: bool, kernel: &mut dyn Kernel) -> Result<Loaded, TreeError> {
        let mut outcome = Loaded::default();
        if aliases.is_empty() && !lost {
            return Ok(outcome);
        }
        let tree = match &mut self.tree {
            Some(tree) => tree,
            empty => empty.insert(ModuleTree::of_running_kernel()?),
        };
        if lost {
            return coldplug(tree, Round::First, kernel, Path::new("/sys"));
        }
        let index = tree.aliases()?;
        for alias in aliases {
            tree.load_for_alias(&index, alias, kernel, &mut outcome);
        }
        Ok(outcome)
    }

    fn waiting(&self) -> Announced {
        let mut announced = Announced::default();
        let mut event = [0u8; EVENT_BYTES];
        loop {
            match recvfrom(&self.socket, &mut event[..], RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    let from_kernel = sender
                        .and_then(|address| SocketAddrNetlink::try_from(address).ok())
                        .is_some_and(|address| address.pid() == 0);
                    if from_kernel {
                        announced.take(&event[..length.min(EVENT_BYTES)]);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => announced.lost = true,
                Err(_) => return announced,
            }
        }
    }
}

impl Announced {
    /// Reads one event; those of other kinds have nothing for us.
    fn take(&mut self, event: &[u8]) {
        let mut fields = event.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
        let header = fields.next().unwrap_or_default();
        if !(header.starts_with("add@") || header.starts_with("bind@") || header.starts_with("change@")) {
            return;
        }
        for field in fields {
            match field.split_once('=') {
                Some(("MODALIAS", alias)) if !alias.is_empty() => self.aliases.push(alias.to_owned()),
                Some(("SUBSYSTEM", "input")) => self.input = true,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(event: &[u8]) -> Announced {
        let mut announced = Announced::default();
        announced.take(event);
        announced
    }

    #[test]
    fn an_added_device_gives_its_alias() {
        let event = b"add@/devices/pci0000:00/0000:00:05.0\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=pci\0\
            MODALIAS=pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00\0SEQNUM=77\0";
        let alias = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00".to_owned();
        assert_eq!(announced(event), Announced { aliases: vec![alias], ..Announced::default() });
    }

    #[test]
    fn an_input_device_is_told_of_when_its_node_is_made() {
        let event = b"add@/devices/LNXPWRBN:00/input/input0/event0\0ACTION=add\0SUBSYSTEM=input\0\
            MAJOR=13\0MINOR=64\0DEVNAME=input/event0\0SEQNUM=900\0";
        assert_eq!(announced(event), Announced { input: true, ..Announced::default() });
        assert_eq!(announced(b"remove@/devices/x\0SUBSYSTEM=input\0"), Announced::default());
    }

    #[test]
    fn events_without_a_new_device_give_nothing() {
        for event in [
            &b"remove@/devices/x\0ACTION=remove\0MODALIAS=usb:v1\0"[..],
            b"add@/devices/virtual/block/loop0\0ACTION=add\0SUBSYSTEM=block\0",
            b"add@/devices/x\0MODALIAS=\0",
            b"libudev\0\xfe\xed\xca\xfe",
            b"",
            b"\0\0\0",
        ] {
            assert_eq!(announced(event), Announced::default());
        }
    }
}
