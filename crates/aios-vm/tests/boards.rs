//! What this tool knows of boards is what `board/*/meta` says, and a Raspberry Pi's card is described without a
//! contradiction: none of these files is read by a compiler, and a mistake shows only on the device.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use aios_vm::{Architecture, Board, Firmware, raspberrypi};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(tree().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `NAME=value` lines of a shell fragment, without quotes.
fn facts(text: &str) -> BTreeMap<String, String> {
    let facts = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    facts.map(|(name, value)| (name.into(), value.trim_matches('"').into())).collect()
}

fn boards() -> Vec<(String, BTreeMap<String, String>)> {
    let names = fs::read_dir(tree().join("board"))
        .expect("the tree is readable")
        .map(|entry| entry.expect("the tree is readable").file_name());
    let names = names.map(|name| name.into_string().expect("the tree is readable")).filter(|name| name != "common");
    names.map(|name| (name.clone(), facts(&read(&format!("board/{name}/meta"))))).collect()
}

fn of_firmware(fact: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let found: Vec<_> = boards().into_iter().filter(|(_, facts)| facts["FIRMWARE"] == fact).collect();
    assert!(!found.is_empty(), "no board starts by {fact}");
    found
}

#[test]
fn every_board_is_what_its_meta_says() {
    let known = [Board::x86_64(), Board::aarch64(), Board::rpi4()];
    let mut found = 0;
    for (name, facts) in boards() {
        assert_eq!(facts["BOARD"], name);
        let architecture = Architecture::from_name(&facts["ARCH"]).unwrap_or_else(|| panic!("{name}: {facts:?}"));
        let firmware = Firmware::from_fact(&facts["FIRMWARE"]).unwrap_or_else(|| panic!("{name}: {facts:?}"));
        let board = Board::new(name.clone(), architecture, firmware);
        assert!(facts["IMAGE_FORMATS"].split(' ').any(|format| format == board.image().extension()), "{name}");
        found += known.iter().filter(|known| **known == board).count();
        let built_by = |base: &str| facts.get("BASES").is_none_or(|bases| bases.split(' ').any(|b| b == base));
        assert!(tree().join(format!("configs/aios_{name}_defconfig")).exists(), "{name}");
        for list in ["modules.boot", "modules.exclude"] {
            let there = tree().join(format!("board/{name}/{list}")).exists();
            assert!(there || (list == "modules.exclude" && !built_by("prebuilt")), "{name} has no {list}");
        }
    }
    assert_eq!(found, known.len(), "a board that this tool knows is not in board/, or is another there");
}

#[test]
fn a_raspberry_pi_is_told_to_start_the_files_that_its_card_has() {
    for (name, facts) in of_firmware("raspberrypi") {
        let text = read(&format!("board/{name}/config.txt"));
        let config = raspberrypi::config(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((config.kernel.as_str(), config.initramfs.as_str()), (&*facts["KERNEL_IMAGE"], "initramfs.img"));
        assert!(!text.contains("gpu_mem=16"), "{name}: with this the firmware is another file than the card has");
        let command_line = read(&format!("board/{name}/cmdline.txt"));
        assert_eq!(command_line.trim().lines().count(), 1, "{name}: the firmware reads one line");
        assert!(command_line.contains("aios.root=PARTLABEL=root-a aios.slot=a"), "{name}: {command_line}");
    }
}

#[test]
fn the_device_tree_that_qemu_plays_is_on_the_card_of_the_board_that_it_boots() {
    let defconfig = read(&format!("configs/aios_{}_defconfig", Board::rpi4().name));
    let tree = raspberrypi::DEVICE_TREE.strip_suffix(".dtb").expect("a device tree ends in .dtb");
    let names = defconfig
        .lines()
        .find(|line| line.starts_with("BR2_LINUX_KERNEL_INTREE_DTS_NAME="))
        .expect("the defconfig names device trees");
    assert!(names.contains(tree), "{names}");
}
