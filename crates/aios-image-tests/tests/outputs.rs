//! Each output of the x86_64 board boots by each firmware it is for, to all units Ready.

use aios_image_tests::outputs::{answers_a_prompt_and_powers_off_in_order, boots_to_ready};
use aios_vm::{Board, Firmware, ImageKind};

#[test]
fn the_iso_boots_by_uefi_to_all_units_ready() {
    boots_to_ready(Board::x86_64(), ImageKind::Iso, Firmware::Uefi);
}

#[test]
fn the_iso_boots_by_bios_to_all_units_ready() {
    boots_to_ready(Board::x86_64(), ImageKind::Iso, Firmware::Bios);
}

#[test]
fn the_disk_image_boots_by_uefi_to_all_units_ready() {
    boots_to_ready(Board::x86_64(), ImageKind::Img, Firmware::Uefi);
}

#[test]
fn the_disk_image_boots_by_bios_to_all_units_ready() {
    boots_to_ready(Board::x86_64(), ImageKind::Img, Firmware::Bios);
}

#[test]
fn the_qcow2_boots_by_uefi_answers_a_prompt_and_powers_off_in_order() {
    answers_a_prompt_and_powers_off_in_order(Board::x86_64());
}
