#!/bin/bash
# Makes GRUB's images in BINARIES_DIR from the packages' modules, for the board's FIRMWARE and under the names that
# Buildroot gives them:
#   efi-part/EFI/BOOT/EFI_PROGRAM  disk and live medium under UEFI
#   grub.img, boot.img             BIOS: core image for the disk, and the boot sector that starts it
#   grub-eltorito.img, boot_hybrid.img  BIOS: live medium as a CD and as a stick
set -euo pipefail
grub=$HOST_DIR/debian/usr/lib/grub
modules=(part_gpt part_msdos fat iso9660 normal linux search search_label search_fs_file test echo configfile regexp
	reboot halt boot minicmd serial terminal)

mkimage() { "$HOST_DIR/bin/grub-mkimage" -d "$grub/$1" -O "$1" "${@:2}"; }

uefi() {
	mkdir -p "$BINARIES_DIR/efi-part/EFI/BOOT"
	mkimage "$GRUB_EFI" -o "$BINARIES_DIR/efi-part/EFI/BOOT/$EFI_PROGRAM" -p /EFI/BOOT "${modules[@]}" efi_gop
}

bios() {
	# The ESP is the second partition of the disk; the empty device name is the disk that BIOS started.
	mkimage i386-pc -o "$BINARIES_DIR/grub.img" -p '(,gpt2)/boot/grub' "${modules[@]}" biosdisk
	mkimage i386-pc -o "$BUILD_DIR/grub-cd-core.img" -p /boot/grub "${modules[@]}" biosdisk
	cat "$grub/i386-pc/cdboot.img" "$BUILD_DIR/grub-cd-core.img" >"$BINARIES_DIR/grub-eltorito.img"
	cp "$grub/i386-pc/boot.img" "$grub/i386-pc/boot_hybrid.img" "$BINARIES_DIR/"
}

rm -rf "$BINARIES_DIR"/{efi-part,grub.img,boot.img,grub-eltorito.img,boot_hybrid.img}
# shellcheck disable=SC2153 # of the board's meta
for firmware in $FIRMWARE; do
	case $firmware in
	uefi) uefi ;;
	bios) bios ;;
	*) echo "error: board/$BOARD/meta: no GRUB is known for the firmware '$firmware'" >&2; exit 1 ;;
	esac
done
