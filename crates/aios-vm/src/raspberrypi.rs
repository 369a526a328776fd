//! The part of the Raspberry Pi's own firmware, which QEMU does not run: the card says what is to be started.

use std::{
    fs,
    io::{Cursor, Read as _},
    path::{Path, PathBuf},
};

use aios_storage::{Disk as _, FileDisk, disk::Window, gpt};
use fatfs::{FileSystem, FsOptions};

use crate::StartError;

/// The device tree of the machine that QEMU plays.
pub const DEVICE_TREE: &str = "bcm2837-rpi-3-b.dtb";

/// What a card has to be started, as files for QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub device_tree: PathBuf,
    pub command_line: String,
}

/// Which files `config.txt` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub kernel: String,
    pub initramfs: String,
}

/// A partition of the card with a FAT file system.
struct Volume {
    number: u32,
    bytes: Vec<u8>,
}

/// Reads the card as the firmware does: `autoboot.txt` of the first partition has the number of the slot's partition, whose
/// `config.txt` and `cmdline.txt` say the rest. The files are copied to the folder `into`.
pub fn read_card(image: &Path, into: &Path) -> Result<Started, StartError> {
    let refused = |reason| StartError::Card { image: image.into(), reason };
    let slot = autoboot(&mut Volume::read(image, 1).map_err(refused)?).map_err(refused)?;
    let mut volume = Volume::read(image, slot).map_err(refused)?;
    let config = volume.text("config.txt").and_then(|text| config(&text)).map_err(refused)?;
    let command_line = volume.text("cmdline.txt").map_err(refused)?.trim().to_owned();
    fs::create_dir_all(into).map_err(StartError::io(format!("create {}", into.display())))?;
    let mut copy = |name: &str| {
        let path = into.join(name);
        let bytes = volume.file(name).map_err(refused)?;
        fs::write(&path, bytes).map_err(StartError::io(format!("write {}", path.display())))?;
        Ok::<_, StartError>(path)
    };
    Ok(Started {
        kernel: copy(&config.kernel)?,
        initramfs: copy(&config.initramfs)?,
        device_tree: copy(DEVICE_TREE)?,
        command_line,
    })
}

/// What `config.txt` says outside of sections for other models. An initramfs must follow the kernel in memory, for which
/// QEMU finds the place.
pub fn config(text: &str) -> Result<Config, String> {
    let lines = || lines_for_all(text);
    let kernel = lines().find_map(|line| line.strip_prefix("kernel=")).ok_or("config.txt has no line `kernel=`")?;
    let initramfs = lines()
        .find_map(|line| line.strip_prefix("initramfs "))
        .and_then(|rest| rest.trim().strip_suffix(" followkernel"))
        .ok_or("config.txt has no line `initramfs <file> followkernel`")?;
    Ok(Config { kernel: kernel.trim().into(), initramfs: initramfs.trim().into() })
}

fn autoboot(first: &mut Volume) -> Result<u32, String> {
    let text = first.text("autoboot.txt")?;
    let number = lines_for_all(&text).find_map(|line| line.strip_prefix("boot_partition="));
    let number = number.ok_or("autoboot.txt has no line `boot_partition=` for [all]")?;
    number.parse().map_err(|_| format!("autoboot.txt: boot_partition={number}: that is no number"))
}

/// Lines before any `[section]` and in `[all]`, without comments.
fn lines_for_all(text: &str) -> impl Iterator<Item = &str> {
    let mut for_all = true;
    text.lines().map(str::trim).filter(move |line| {
        if line.starts_with('[') {
            for_all = *line == "[all]";
        }
        for_all && !line.starts_with(['[', '#'])
    })
}

impl Volume {
    fn read(image: &Path, number: u32) -> Result<Self, String> {
        let disk = FileDisk::open_read_only(image).map_err(|error| error.to_string())?;
        let table = gpt::Table::read(&disk).map_err(|error| error.to_string())?;
        let entry = table.partitions().find(|(found, _)| *found == number).map(|(_, entry)| entry);
        let entry = entry.ok_or_else(|| format!("there is no partition {number}"))?;
        let window = Window::new(&disk, entry.first() * disk.sector(), entry.sectors() * disk.sector());
        let length =
            usize::try_from(window.size()).map_err(|_| format!("partition {number} is too large to be read"))?;
        let mut bytes = vec![0; length];
        window.read_at(0, &mut bytes).map_err(|error| format!("partition {number}: {error}"))?;
        Ok(Volume { number, bytes })
    }

    fn file(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let number = self.number;
        let problem = |error: std::io::Error| format!("{name} on partition {number}: {error}");
        let volume = FileSystem::new(Cursor::new(&mut self.bytes[..]), FsOptions::new()).map_err(problem)?;
        let mut bytes = Vec::new();
        volume.root_dir().open_file(name).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(problem)?;
        Ok(bytes)
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        let number = self.number;
        String::from_utf8(self.file(name)?).map_err(|_| format!("{name} on partition {number} is no text"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use aios_storage::gpt::{Entry, Guid, Table};
    use fatfs::FormatVolumeOptions;

    use super::*;

    const SECTOR: u64 = 512;
    const MIB: u64 = 1 << 20;

    fn fat(files: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = vec![0; MIB as usize];
        fatfs::format_volume(Cursor::new(&mut bytes[..]), FormatVolumeOptions::new()).unwrap();
        let volume = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new()).unwrap();
        for (name, text) in files {
            volume.root_dir().create_file(name).unwrap().write_all(text.as_bytes()).unwrap();
        }
        drop(volume);
        bytes
    }

    /// A card with these file systems as its partitions 1, 2, ...
    fn card(dir: &Path, volumes: &[Vec<u8>]) -> PathBuf {
        let path = dir.join("card.img");
        fs::File::create(&path).unwrap().set_len((volumes.len() as u64 + 2) * MIB).unwrap();
        let mut disk = FileDisk::open(&path).unwrap();
        let mut table = Table::new(&disk, Guid::random().unwrap());
        for (volume, number) in volumes.iter().zip(1_u64..) {
            let first = number * MIB / SECTOR;
            let last = first + MIB / SECTOR - 1;
            table.add(Entry::new(Guid([1; 16]), Guid::random().unwrap(), first, last, "")).unwrap();
            disk.write_at(first * SECTOR, volume).unwrap();
        }
        table.write(&mut disk).unwrap();
        path
    }

    const CONFIG: &str =
        "# a comment\narm_64bit=1\nkernel=Image\ninitramfs initramfs.img followkernel\n[pi5]\nkernel=other\n";

    #[test]
    fn what_the_chosen_slot_names_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let autoboot = "[tryboot]\nboot_partition=3\n[all]\ntryboot_a_b=1\nboot_partition=2\n";
        let slot = |kernel| {
            [("config.txt", CONFIG), ("cmdline.txt", "aios.slot=a quiet\n"), ("Image", kernel), ("initramfs.img", "i")]
        };
        let mut a = slot("kernel of a").to_vec();
        a.push((DEVICE_TREE, "tree"));
        let image = card(dir.path(), &[fat(&[("autoboot.txt", autoboot)]), fat(&a), fat(&slot("kernel of b"))]);
        let started = read_card(&image, &dir.path().join("boot")).unwrap();
        assert_eq!(fs::read_to_string(&started.kernel).unwrap(), "kernel of a");
        assert_eq!(fs::read_to_string(&started.initramfs).unwrap(), "i");
        assert_eq!(fs::read_to_string(&started.device_tree).unwrap(), "tree");
        assert_eq!(started.command_line, "aios.slot=a quiet");
    }

    #[test]
    fn a_card_that_does_not_start_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |volumes: &[Vec<u8>]| read_card(&card(dir.path(), volumes), dir.path()).unwrap_err().to_string();
        let to_2 = fat(&[("autoboot.txt", "[all]\nboot_partition=2\n")]);
        assert!(refusal(&[fat(&[])]).contains("autoboot.txt on partition 1"));
        assert!(refusal(std::slice::from_ref(&to_2)).contains("there is no partition 2"));
        assert!(refusal(&[to_2.clone(), fat(&[("config.txt", "kernel=Image\n")])]).contains("no line `initramfs"));
        let no_kernel = fat(&[("config.txt", CONFIG), ("cmdline.txt", "quiet")]);
        assert!(refusal(&[to_2, no_kernel]).contains("Image on partition 2"));
    }
}
