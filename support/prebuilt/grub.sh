#!/bin/bash
# Makes GRUB's images in BINARIES_DIR from the packages' modules, under the names that Buildroot gives them:
#   efi-part/EFI/BOOT/bootx64.efi  disk and live medium under UEFI
#   grub.img, boot.img             BIOS: core image for the disk, and the boot sector that starts it
#   grub-eltorito.img, boot_hybrid.img  BIOS: live medium as a CD and as a stick
set -euo pipefail
grub=$HOST_DIR/debian/usr/lib/grub
modules=(part_gpt part_msdos fat iso9660 normal linux search search_label search_fs_file test echo configfile regexp
	reboot halt boot minicmd serial terminal)

mkimage() { "$HOST_DIR/bin/grub-mkimage" -d "$grub/$1" -O "$1" "${@:2}"; }

mkdir -p "$BINARIES_DIR/efi-part/EFI/BOOT"
mkimage x86_64-efi -o "$BINARIES_DIR/efi-part/EFI/BOOT/bootx64.efi" -p /EFI/BOOT "${modules[@]}" efi_gop
# The ESP is the second partition of the disk; the empty device name is the disk that BIOS started.
mkimage i386-pc -o "$BINARIES_DIR/grub.img" -p '(,gpt2)/boot/grub' "${modules[@]}" biosdisk
mkimage i386-pc -o "$BUILD_DIR/grub-cd-core.img" -p /boot/grub "${modules[@]}" biosdisk
cat "$grub/i386-pc/cdboot.img" "$BUILD_DIR/grub-cd-core.img" >"$BINARIES_DIR/grub-eltorito.img"
cp "$grub/i386-pc/boot.img" "$grub/i386-pc/boot_hybrid.img" "$BINARIES_DIR/"
