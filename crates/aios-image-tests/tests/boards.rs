//! The outputs of boards that are not built by `make test`: each boots in QEMU to all units Ready. `make test-boards`
//! builds each into an output folder of its own, and names that folder in `O`.

use aios_image_tests::{
    install,
    outputs::{answers_a_prompt_and_powers_off_in_order, answers_from_a_card_and_powers_off, boots_to_ready},
    qemu::Scratch,
};
use aios_vm::{Board, Firmware, ImageKind};

mod aarch64 {
    use super::*;

    #[test]
    #[ignore = "boots the aarch64 image: make test-boards"]
    fn the_iso_boots_by_uefi_to_all_units_ready() {
        boots_to_ready(Board::aarch64(), ImageKind::Iso, Firmware::Uefi);
    }

    #[test]
    #[ignore = "boots the aarch64 image: make test-boards"]
    fn the_disk_image_boots_by_uefi_to_all_units_ready() {
        boots_to_ready(Board::aarch64(), ImageKind::Img, Firmware::Uefi);
    }

    #[test]
    #[ignore = "boots the aarch64 image: make test-boards"]
    fn the_qcow2_boots_by_uefi_answers_a_prompt_and_powers_off_in_order() {
        answers_a_prompt_and_powers_off_in_order(Board::aarch64());
    }

    #[test]
    #[ignore = "boots the aarch64 image: make test-boards"]
    fn a_blank_disk_is_installed_unattended_and_boots() {
        let scratch = Scratch::of_board(Board::aarch64());
        let disk = install::empty_disk(&scratch, 4 << 30);
        install::installs(&scratch, Firmware::Uefi, &disk);
        install::first_boot(&scratch, &disk);
    }
}

mod rpi4 {
    use super::*;

    #[test]
    #[ignore = "boots the rpi4 image: make test-boards"]
    fn the_card_boots_in_a_raspberry_pi_3_answers_a_prompt_and_powers_off() {
        answers_from_a_card_and_powers_off(Board::rpi4());
    }
}
