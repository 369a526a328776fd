//! The modules of the initramfs: those that a device of this machine asks for, and all the rest only where that does not
//! bring the root file system. A module that nothing needs costs more time than everything else stage 1 does.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::modules::{Kernel, Loaded, ModuleInfo, canonical, device_aliases, insert, matches, module_name};

/// The modules that `modules.load` lists, in an order in which all of them can be loaded.
#[derive(Debug, Default)]
pub struct Drivers {
    modules: Vec<Module>,
    by_name: HashMap<String, usize>,
    seen: BTreeSet<String>,
    /// What has been loaded.
    pub outcome: Loaded,
}

#[derive(Debug)]
struct Module {
    path: PathBuf,
    /// `None`: the file does not say (it is compressed); it is loaded with the rest.
    info: Option<ModuleInfo>,
    offered: bool,
}

impl Drivers {
    /// Reads the list: one absolute path a line.
    pub fn read(list: &Path) -> Self {
        let text = fs::read_to_string(list).unwrap_or_default();
        let mut drivers = Drivers::default();
        for path in text.lines().map(str::trim).filter(|line| !line.is_empty()).map(PathBuf::from) {
            drivers.by_name.insert(module_name(&path), drivers.modules.len());
            drivers.modules.push(Module { info: ModuleInfo::read(&path).ok(), path, offered: false });
        }
        drivers
    }

    /// Loads the drivers of one device that has not had its turn, the likeliest disks first; false when all have had it.
    pub fn load_for_next_device(&mut self, sys: &Path, kernel: &mut dyn Kernel) -> bool {
        let fresh = device_aliases(sys).into_iter().filter(|alias| !self.seen.contains(alias));
        let mut fresh: Vec<String> = fresh.collect();
        fresh.sort_by_key(|alias| rank(alias));
        let before = self.outcome.inserted;
        for alias in fresh {
            self.load_matching(&alias, kernel);
            self.seen.insert(alias);
            if self.outcome.inserted > before {
                return true;
            }
        }
        false
    }

    /// Loads a module by its name, with what it needs.
    pub fn load(&mut self, name: &str, kernel: &mut dyn Kernel) {
        if let Some(index) = self.by_name.get(&canonical(name)) {
            self.load_at(*index, kernel);
        }
    }

    /// Loads everything that is left; false if nothing was.
    pub fn load_rest(&mut self, kernel: &mut dyn Kernel) -> bool {
        let left = self.modules.iter().any(|module| !module.offered);
        (0..self.modules.len()).for_each(|index| self.load_at(index, kernel));
        left
    }

    /// Removes the files: in an initramfs they are memory.
    pub fn remove_files(&self) {
        for module in &self.modules {
            let _ = fs::remove_file(&module.path);
        }
    }

    fn load_matching(&mut self, alias: &str, kernel: &mut dyn Kernel) {
        for index in 0..self.modules.len() {
            let aliases = self.modules[index].info.iter().flat_map(|info| &info.aliases);
            if aliases.clone().any(|pattern| matches(pattern.as_bytes(), alias.as_bytes())) {
                self.load_at(index, kernel);
            }
        }
    }

    fn load_at(&mut self, index: usize, kernel: &mut dyn Kernel) {
        // Marked first, so that modules that need each other end the recursion.
        if std::mem::replace(&mut self.modules[index].offered, true) {
            return;
        }
        let info = self.modules[index].info.clone().unwrap_or_default();
        for name in &info.soft_depends {
            match self.by_name.get(&canonical(name)).copied() {
                Some(needed) => self.load_at(needed, kernel),
                None => self.load_matching(name, kernel),
            }
        }
        for name in &info.depends {
            self.load(name, kernel);
        }
        insert(kernel, &self.modules[index].path, &mut self.outcome);
    }
}

/// Order of the devices' turns: a controller with its disks takes as long as everything before it together.
fn rank(alias: &str) -> u8 {
    match alias.split_once(':') {
        Some(("virtio", _)) => 0,
        // PCI class 01, subclass 08: NVMe.
        Some(("pci", rest)) if rest.contains("bc01sc08") => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::testing::{Recorder, module};

    fn initramfs() -> (tempfile::TempDir, Drivers) {
        let dir = tempfile::tempdir().unwrap();
        let list: Vec<String> = [
            ("virtio_blk", "alias=virtio:d00000002v*\0depends=\0"),
            ("nvme-core", "depends=\0"),
            ("nvme", "alias=pci:v*d*sv*sd*bc01sc08i02*\0depends=nvme-core\0"),
            ("crc32c_generic", "alias=crc32c\0alias=crypto-crc32c\0depends=\0"),
            ("libcrc32c", "softdep=pre: crc32c\0depends=\0"),
            ("erofs", "alias=fs-erofs\0depends=libcrc32c\0"),
            ("xfs", "alias=fs-xfs\0depends=libcrc32c\0"),
        ]
        .iter()
        .map(|(name, info)| {
            let path = dir.path().join(format!("{name}.ko"));
            fs::write(&path, module(info)).unwrap();
            path.display().to_string()
        })
        .collect();
        fs::write(dir.path().join("modules.load"), list.join("\n") + "\n").unwrap();
        let drivers = Drivers::read(&dir.path().join("modules.load"));
        (dir, drivers)
    }

    fn device(sys: &Path, name: &str, alias: &str) {
        let dir = sys.join("bus/any/devices").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("modalias"), alias).unwrap();
    }

    #[test]
    fn only_what_the_devices_and_the_root_need_is_loaded() {
        let ((_dir, mut drivers), sys) = (initramfs(), tempfile::tempdir().unwrap());
        let mut kernel = Recorder::default();
        drivers.load("erofs", &mut kernel);
        device(sys.path(), "a", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\n");
        assert!(drivers.load_for_next_device(sys.path(), &mut kernel));
        assert_eq!(kernel.0, ["crc32c_generic", "libcrc32c", "erofs", "nvme_core", "nvme"]);
        assert!(!drivers.load_for_next_device(sys.path(), &mut kernel));
        device(sys.path(), "b", "virtio:d00000002v00001AF4\n");
        assert!(drivers.load_for_next_device(sys.path(), &mut kernel));
        assert_eq!(kernel.0[5..], ["virtio_blk"]);
    }

    #[test]
    fn virtual_disks_have_their_turn_first() {
        let ((_dir, mut drivers), sys) = (initramfs(), tempfile::tempdir().unwrap());
        device(sys.path(), "a", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\n");
        device(sys.path(), "b", "virtio:d00000002v00001AF4\n");
        let mut kernel = Recorder::default();
        assert!(drivers.load_for_next_device(sys.path(), &mut kernel));
        assert_eq!(kernel.0, ["virtio_blk"]);
    }

    #[test]
    fn the_rest_is_loaded_once_and_in_order() {
        let (_dir, mut drivers) = initramfs();
        let mut kernel = Recorder::default();
        drivers.load("xfs", &mut kernel);
        assert!(drivers.load_rest(&mut kernel));
        assert_eq!(kernel.0, ["crc32c_generic", "libcrc32c", "xfs", "virtio_blk", "nvme_core", "nvme", "erofs"]);
        assert!(!drivers.load_rest(&mut kernel));
        drivers.remove_files();
        assert!(drivers.modules.iter().all(|module| !module.path.exists()));
    }

    #[test]
    fn a_compressed_module_waits_for_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ahci.ko.xz");
        fs::write(&path, b"\xfd7zXZ\0").unwrap();
        fs::write(dir.path().join("modules.load"), format!("{}\n", path.display())).unwrap();
        let mut drivers = Drivers::read(&dir.path().join("modules.load"));
        let mut kernel = Recorder::default();
        assert!(!drivers.load_for_next_device(dir.path(), &mut kernel));
        assert!(kernel.0.is_empty());
        assert!(drivers.load_rest(&mut kernel));
        assert_eq!(kernel.0, ["ahci"]);
    }
}
