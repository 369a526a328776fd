//! The virtual machine as data, and its QEMU command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    Accelerator, Architecture, Hardware,
    ports::{Forwards, GUEST_API, GUEST_CONSOLE},
};

/// Everything QEMU is told. Paths are absolute but for sockets: QEMU runs in the run directory, because a socket's address
/// has room for 107 bytes only.
#[derive(Clone, Debug)]
pub struct Machine {
    pub hardware: Hardware,
    pub architecture: Architecture,
    pub accelerator: Accelerator,
    /// Where it is not as many as suit the accelerator.
    pub processors: Option<usize>,
    pub memory_mib: u64,
    pub boot: Boot,
    pub medium: Medium,
    /// The raw `AIOS-CONF` image, attached read-only.
    pub conf_volume: PathBuf,
    pub forwards: Forwards,
    pub console: ConsoleWiring,
    pub console_log: PathBuf,
    pub qmp_socket: PathBuf,
    /// Further options with their values.
    pub options: Vec<(String, String)>,
}

/// What starts the kernel.
#[derive(Clone, Debug)]
pub enum Boot {
    Bios,
    Uefi {
        code: PathBuf,
        vars: PathBuf,
    },
    /// A machine without firmware's tables needs a device tree.
    Direct {
        kernel: PathBuf,
        initrd: PathBuf,
        device_tree: Option<PathBuf>,
        command_line: String,
    },
}

/// What the system is on.
#[derive(Clone, Debug)]
pub enum Medium {
    Disk { path: PathBuf, format: DiskFormat, durability: Durability },
    Cdrom(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

/// Whether the disk outlives the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The guest's flushes reach the host's disk.
    Kept,
    /// The guest's flushes are ignored, which is faster.
    Ephemeral,
}

/// Where the serial console leads.
#[derive(Clone, Debug)]
pub enum ConsoleWiring {
    /// To this terminal, with QEMU's ctrl-a keys.
    Terminal,
    /// To a Unix socket; output goes to the log whether or not somebody is connected.
    Socket(PathBuf),
}

impl DiskFormat {
    pub fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

impl Machine {
    /// QEMU's arguments, without the program's name.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args = self.processors_and_memory();
        self.add_boot(&mut args);
        self.add_medium(&mut args);
        args.option("-drive", format!("if=none,id=conf,format=raw,readonly=on,file={}", escape(&self.conf_volume)));
        let Forwards { api, console } = self.forwards;
        args.option(
            "-netdev",
            format!(
                "user,id=net,hostfwd=tcp:127.0.0.1:{api}-:{GUEST_API},hostfwd=tcp:127.0.0.1:{console}-:{GUEST_CONSOLE}"
            ),
        );
        match self.hardware {
            Hardware::Virtual => {
                args.option("-device", "virtio-blk-pci,drive=conf,serial=aios-conf");
                // Without its option ROM the network card offers no network boot.
                args.option("-device", "virtio-net-pci,netdev=net,romfile=");
                args.option("-device", "virtio-rng-pci");
                args.option("-device", "i6300esb").option("-action", "watchdog=reset");
            }
            Hardware::RaspberryPi3 => {
                args.option("-device", "usb-storage,drive=conf,serial=aios-conf");
                args.option("-device", "usb-net,netdev=net");
            }
        }
        self.add_console(&mut args);
        args.option("-qmp", format!("unix:{},server=on,wait=off", escape(&self.qmp_socket)));
        for (name, value) in &self.options {
            args.option(name, value);
        }
        args.0
    }

    fn processors_and_memory(&self) -> Arguments {
        match self.hardware {
            Hardware::Virtual => {
                let mut args = Arguments::machine(self.architecture.machine());
                self.accelerator.add_to(&mut args, self.architecture, self.processors);
                args.option("-m", format!("{}M", self.memory_mib));
                args
            }
            // Its processors and its memory are what the board has, and other figures are refused.
            Hardware::RaspberryPi3 => {
                let mut args = Arguments::machine("raspi3b");
                args.option("-accel", "tcg,thread=single");
                args
            }
        }
    }

    fn add_boot(&self, args: &mut Arguments) {
        match &self.boot {
            Boot::Bios => {}
            Boot::Uefi { code, vars } => {
                args.option("-drive", format!("if=pflash,format=raw,readonly=on,file={}", escape(code)));
                args.option("-drive", format!("if=pflash,format=raw,file={}", escape(vars)));
            }
            Boot::Direct { kernel, initrd, device_tree, command_line } => {
                args.option("-kernel", kernel).option("-initrd", initrd).option("-append", command_line);
                if let Some(device_tree) = device_tree {
                    args.option("-dtb", device_tree);
                }
            }
        }
    }

    fn add_medium(&self, args: &mut Arguments) {
        match &self.medium {
            Medium::Disk { path, format, durability } => {
                let cache = match durability {
                    Durability::Kept => "writeback",
                    Durability::Ephemeral => "unsafe",
                };
                let drive =
                    format!("id=disk,format={},cache={cache},discard=unmap,file={}", format.name(), escape(path));
                match self.hardware {
                    Hardware::Virtual => args
                        .option("-drive", format!("if=none,{drive}"))
                        .option("-device", "virtio-blk-pci,drive=disk,bootindex=1,serial=aios-disk"),
                    Hardware::RaspberryPi3 => args.option("-drive", format!("if=sd,{drive}")),
                };
            }
            Medium::Cdrom(iso) => {
                args.option("-drive", format!("if=none,id=cd,media=cdrom,format=raw,readonly=on,file={}", escape(iso)));
                match self.architecture {
                    Architecture::X86_64 => args.option("-device", "ide-cd,drive=cd,bootindex=1"),
                    Architecture::Aarch64 => args
                        .option("-device", "virtio-scsi-pci,id=scsi")
                        .option("-device", "scsi-cd,bus=scsi.0,drive=cd,bootindex=1"),
                };
            }
        }
    }

    fn add_console(&self, args: &mut Arguments) {
        let log = escape(&self.console_log);
        match &self.console {
            ConsoleWiring::Terminal => {
                args.option("-chardev", format!("stdio,id=console,mux=on,signal=off,logfile={log}"));
                args.option("-mon", "chardev=console,mode=readline");
            }
            ConsoleWiring::Socket(path) => {
                let path = escape(path);
                args.option("-chardev", format!("socket,id=console,path={path},server=on,wait=off,logfile={log}"));
            }
        }
        if self.hardware == Hardware::RaspberryPi3 {
            // The pins of the header are its second serial line; on the first one is Bluetooth.
            args.option("-serial", "null");
        }
        args.option("-serial", "chardev:console");
    }
}

/// A command line under construction.
#[derive(Default)]
pub(crate) struct Arguments(pub Vec<OsString>);

impl Arguments {
    /// A machine of QEMU's, with nothing in it but what it cannot be without.
    pub fn machine(name: &str) -> Self {
        let mut args = Arguments::default();
        args.option("-machine", name).flag("-nodefaults").option("-display", "none").option("-vga", "none");
        args
    }

    pub fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    pub fn option(&mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.as_ref().into());
        self
    }
}

/// QEMU separates an option's parts with commas; a comma inside a path is doubled.
pub(crate) fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            hardware: Hardware::Virtual,
            architecture: Architecture::X86_64,
            accelerator: Accelerator::Tcg,
            processors: None,
            memory_mib: 2048,
            boot: Boot::Bios,
            medium: Medium::Disk {
                path: "/run/a,b/disk.qcow2".into(),
                format: DiskFormat::Qcow2,
                durability: Durability::Ephemeral,
            },
            conf_volume: "/run/conf.img".into(),
            forwards: Forwards { api: 18080, console: 19090 },
            console: ConsoleWiring::Socket("console.sock".into()),
            console_log: "/run/console.log".into(),
            qmp_socket: "qmp.sock".into(),
            options: Vec::new(),
        }
    }

    fn line(machine: &Machine) -> String {
        machine.arguments().iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_loopback_is_forwarded_into_the_guest() {
        let line = line(&machine());
        assert!(line.contains("hostfwd=tcp:127.0.0.1:18080-:8080,hostfwd=tcp:127.0.0.1:19090-:9090"), "{line}");
        assert_eq!(line.matches("hostfwd=").count(), 2);
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        assert!(line(&machine()).contains("file=/run/a,,b/disk.qcow2"));
    }

    #[test]
    fn a_kept_disk_honours_flushes_and_an_ephemeral_one_does_not() {
        let mut machine = machine();
        assert!(line(&machine).contains("cache=unsafe"));
        if let Medium::Disk { durability, .. } = &mut machine.medium {
            *durability = Durability::Kept;
        }
        assert!(line(&machine).contains("cache=writeback"));
    }

    #[test]
    fn the_configuration_volume_is_read_only_and_never_booted() {
        let line = line(&machine());
        assert!(line.contains("id=conf,format=raw,readonly=on,file=/run/conf.img"));
        assert_eq!(line.matches("bootindex").count(), 1);
    }

    #[test]
    fn uefi_gets_shared_code_and_its_own_variables() {
        let boot = Boot::Uefi { code: "/ovmf/code.fd".into(), vars: "/run/vars.fd".into() };
        let line = line(&Machine { boot, ..machine() });
        assert!(line.contains("if=pflash,format=raw,readonly=on,file=/ovmf/code.fd"));
        assert!(line.contains("if=pflash,format=raw,file=/run/vars.fd"));
    }

    #[test]
    fn several_translated_processors_take_turns_and_further_options_come_last() {
        let options = vec![("-device".to_owned(), "intel-iommu".to_owned())];
        let line = line(&Machine { processors: Some(2), options, ..machine() });
        assert!(line.contains("-accel tcg,thread=single -cpu max -smp 2"), "{line}");
        assert!(line.ends_with("-device intel-iommu"), "{line}");
    }

    #[test]
    fn a_raspberry_pi_has_its_disk_in_the_card_slot_and_the_rest_on_usb() {
        let boot = Boot::Direct {
            kernel: "Image".into(),
            initrd: "initramfs.img".into(),
            device_tree: Some("pi.dtb".into()),
            command_line: "quiet".into(),
        };
        let hardware = Hardware::RaspberryPi3;
        let line = line(&Machine { hardware, architecture: Architecture::Aarch64, boot, ..machine() });
        assert!(line.contains("-machine raspi3b") && line.contains("-dtb pi.dtb"), "{line}");
        assert!(line.contains("-drive if=sd,id=disk,format=qcow2"), "{line}");
        assert!(line.contains("usb-storage,drive=conf") && line.contains("usb-net,netdev=net"), "{line}");
        assert!(line.contains("-serial null -serial chardev:console"), "{line}");
        assert!(!line.contains("virtio") && !line.contains("-smp") && !line.contains(" -m "), "{line}");
    }

    #[test]
    fn a_cd_is_where_the_architectures_machine_has_a_bus_for_it() {
        let medium = Medium::Cdrom("/images/aios.iso".into());
        let line = |architecture| line(&Machine { architecture, medium: medium.clone(), ..machine() });
        assert!(line(Architecture::X86_64).contains("ide-cd,drive=cd,bootindex=1"));
        let aarch64 = line(Architecture::Aarch64);
        assert!(aarch64.contains("-machine virt"), "{aarch64}");
        assert!(aarch64.contains("scsi-cd,bus=scsi.0,drive=cd,bootindex=1"), "{aarch64}");
    }
}
