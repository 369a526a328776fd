//! Disks as files, with a sysfs around them.

use std::os::unix::fs::symlink;

use super::*;

const MIB: u64 = 1 << 20;

fn plan() -> Plan {
    Plan::parse(
        r#"
format = 1
boot-code = { file = "a", at = 0, length = 440 }
[[partition]]
name = "root-a"
kind = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
start = 1048576
size = 1048576
length = 0
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
extents = []
"#,
    )
    .unwrap()
}

/// A machine in a directory.
struct Fake {
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let machine = Machine { sys: at("sys"), proc: at("proc"), dev: at("dev"), medium: None };
        at("sys/class/block");
        at("sys/dev/block");
        at("proc/self");
        Fake { dir, machine }
    }

    /// Adds a device; the path below `devices` ends with its name.
    fn add(&self, path: &str, number: &str, size: u64, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.machine.sys.join("devices").join(path);
        fs::create_dir_all(dir.join("device")).unwrap();
        fs::write(dir.join("size"), (size / 512).to_string()).unwrap();
        for (file, text) in files {
            let file = dir.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let name = dir.file_name().unwrap().to_owned();
        symlink(&dir, self.machine.sys.join("class/block").join(&name)).unwrap();
        symlink(&dir, self.machine.sys.join("dev/block").join(number)).unwrap();
        let node = self.machine.dev.join(&name);
        fs::File::create(&node).unwrap().set_len(size).unwrap();
        node
    }

    fn proc(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join("proc").join(file), text).unwrap();
    }

    fn refusal(&self, name: &str, overwrite: Overwrite) -> Option<String> {
        let candidates = self.machine.list(&plan());
        let candidate = candidates.iter().find(|candidate| candidate.device.name == name).expect(name);
        candidate
            .refusal(&plan(), overwrite)
            .map(|refusal| refusal.to_string().replace(&self.machine.dev.display().to_string(), "/dev"))
    }

    fn refused(&self, name: &str) -> String {
        let (without, with) = (self.refusal(name, Overwrite::Nothing), self.refusal(name, Overwrite::Anything));
        assert_eq!(without, with, "no force helps against this");
        without.expect(name)
    }
}

#[test]
fn drives_are_candidates_and_what_is_made_of_them_is_not() {
    let fake = Fake::new();
    fake.add("pci/block/vda", "254:0", 128 * MIB, &[("device/model", "Disk One\n")]);
    fake.add("pci/block/vda/vda1", "254:1", 64 * MIB, &[("partition", "1")]);
    fake.add("pci/block/sr0", "11:0", 200 * MIB, &[]);
    let dm = fake.add("virtual/block/dm-0", "253:0", 128 * MIB, &[]);
    fs::remove_dir(fake.machine.sys.join("devices/virtual/block/dm-0/device")).unwrap();
    assert!(dm.exists());
    let list = fake.machine.list(&plan());
    assert_eq!(list.iter().map(|candidate| candidate.device.name.as_str()).collect::<Vec<_>>(), ["vda"]);
    assert_eq!((list[0].model.as_deref(), &list[0].contents), (Some("Disk One"), &Ok(Contents::Empty)));
    assert!(list[0].is_choice(&plan()));
}

#[test]
fn the_live_medium_is_refused() {
    let mut fake = Fake::new();
    fake.add("usb/block/sda", "8:0", 128 * MIB, &[]);
    fake.machine.medium = Some("sda".into());
    assert_eq!(fake.refused("sda"), "/dev/sda is the medium that this system runs from");
}

#[test]
fn a_disk_in_use_is_refused_with_its_user() {
    let fake = Fake::new();
    fake.add("pci/block/sda", "8:0", 128 * MIB, &[]);
    fake.add("pci/block/sda/sda2", "8:2", 64 * MIB, &[("partition", "2")]);
    fake.add("pci/block/sdb", "8:16", 128 * MIB, &[]);
    fake.proc(
        "self/mountinfo",
        "22 1 0:21 / /proc rw - proc proc rw\n30 22 8:2 / /mnt rw,noatime - ext4 /dev/sda2 rw\n",
    );
    fake.proc("swaps", "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n");
    assert_eq!(fake.refused("sda"), "/dev/sda is in use: sda2 is mounted at /mnt");
    assert_eq!(fake.refused("sdb"), "/dev/sdb is in use: sdb is swap space");
    fs::create_dir_all(fake.machine.sys.join("devices/pci/block/sda/sda2/holders/md0")).unwrap();
    fake.proc("self/mountinfo", "");
    assert_eq!(fake.refused("sda"), "/dev/sda is in use: sda2 is part of md0");
}

#[test]
fn a_read_only_disk_is_refused() {
    let fake = Fake::new();
    fake.add("pci/block/sda", "8:0", 128 * MIB, &[("ro", "1\n")]);
    assert_eq!(fake.refused("sda"), "/dev/sda is read-only; look for a write-protect switch");
}

#[test]
fn a_disk_that_is_too_small_is_refused_with_what_is_needed() {
    let fake = Fake::new();
    assert_eq!(plan().needed(), 68 * MIB);
    fake.add("pci/block/sda", "8:0", 68 * MIB - 512, &[]);
    fake.add("pci/block/sdb", "8:16", 68 * MIB, &[]);
    assert_eq!(fake.refused("sda"), "/dev/sda is too small: it has 67 MiB, and 68 MiB are needed");
    assert_eq!(fake.refusal("sdb", Overwrite::Nothing), None);
}

#[test]
fn a_disk_that_is_not_empty_needs_force() {
    let fake = Fake::new();
    let node = fake.add("pci/block/sda", "8:0", 128 * MIB, &[]);
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"XFSB");
    let disk = fs::OpenOptions::new().write(true).open(&node).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &bytes, 0).unwrap();
    let refusal = fake.refusal("sda", Overwrite::Nothing).unwrap();
    assert!(refusal.starts_with("/dev/sda is not empty, it holds a file system: xfs; --force"), "{refusal}");
    assert_eq!(fake.refusal("sda", Overwrite::AllButAios), None);
    assert_eq!(fake.refusal("sda", Overwrite::Anything), None);
    assert!(!fake.machine.list(&plan())[0].is_choice(&plan()));
}

/// The story: installed unattended, restarted, and the medium is still the first to start from.
#[test]
fn an_installed_aios_is_overwritten_by_hand_alone() {
    let candidate = Candidate {
        device: BlockDevice { name: "vda".into(), size: 128 * MIB, ..BlockDevice::default() },
        path: "/dev/vda".into(),
        model: None,
        removable: false,
        contents: Ok(Contents::Aios),
        sector: SECTOR,
        read_only: false,
        is_medium: false,
        used: None,
    };
    for overwrite in [Overwrite::Nothing, Overwrite::AllButAios] {
        assert_eq!(candidate.refusal(&plan(), overwrite), Some(Refusal::Installed("/dev/vda".into())));
    }
    assert_eq!(candidate.refusal(&plan(), Overwrite::Anything), None);
}

#[test]
fn a_disk_with_large_sectors_or_read_errors_is_refused() {
    let fake = Fake::new();
    let node = fake.add("pci/block/sda", "8:0", 128 * MIB, &[]);
    let mut candidate = fake.machine.list(&plan()).remove(0);
    candidate.sector = 4096;
    assert!(matches!(candidate.refusal(&plan(), Overwrite::Anything), Some(Refusal::Sectors(_, 4096))));
    fs::remove_file(&node).unwrap();
    assert!(fake.refused("sda").starts_with("/dev/sda can't be read: "));
}

#[test]
fn what_is_no_disk_is_refused_before_anything_is_opened() {
    let fake = Fake::new();
    let file = fake.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refusal = |path: &Path| fake.machine.find(path, &plan()).unwrap_err();
    assert_eq!(refusal(&file), Refusal::NotBlockDevice(file.clone()));
    assert_eq!(refusal(Path::new("/dev/null")), Refusal::NotBlockDevice("/dev/null".into()));
    assert!(matches!(refusal(Path::new("/dev/no-such-disk")), Refusal::Missing(..)));
}

/// An empty stick that somebody left in must not become the system's disk by itself.
#[test]
fn a_removable_disk_is_installed_to_only_by_name() {
    let fake = Fake::new();
    fake.add("usb/block/sda", "8:0", 128 * MIB, &[("removable", "1\n")]);
    assert_eq!(fake.refusal("sda", Overwrite::Nothing), None);
    assert!(!fake.machine.list(&plan())[0].is_choice(&plan()));
}
