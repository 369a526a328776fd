#!/bin/bash
# Leaves in BINARIES_DIR/rpi-firmware what the Raspberry Pi's own boot loader reads before the kernel, as Buildroot does:
# CONFIG_TXT, CMDLINE_TXT, and of the package raspi-firmware the files of the VARIANTS (PI, PI4) that the defconfig names.
set -euo pipefail
package=$HOST_DIR/debian/usr/lib/raspi-firmware
firmware=$BINARIES_DIR/rpi-firmware

files_of() {
	case $1 in
	PI) echo bootcode.bin start.elf fixup.dat ;;
	PI4) echo start4.elf fixup4.dat ;;
	*) echo "error: the prebuilt base knows no BR2_PACKAGE_RPI_FIRMWARE_VARIANT_$1" >&2; return 1 ;;
	esac
}

rm -rf "$firmware"
mkdir -p "$firmware"
cp "$CONFIG_TXT" "$firmware/config.txt"
cp "$CMDLINE_TXT" "$firmware/cmdline.txt"
for variant in $VARIANTS; do
	for file in $(files_of "$variant"); do cp "$package/$file" "$firmware/"; done
done
