#!/bin/bash
# Makes the outputs, whichever base ran before: it reads BINARIES_DIR (kernel, GRUB's images, rootfs.erofs, models/),
# TARGET_DIR, HOST_DIR and the facts of the board, and leaves aios-BOARD.{img,qcow2,iso} and SHA256SUMS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
BINARIES_DIR=${BINARIES_DIR:-$1}
# Buildroot called by hand names the defconfig, configs/aios_BOARD_defconfig, in its configuration.
BOARD=${BOARD:-$(sed -n 's|^BR2_DEFCONFIG=".*/aios_\(.*\)_defconfig"|\1|p' "$BR2_CONFIG")}
board_dir=$top/board/$BOARD
# shellcheck source=board/x86_64/meta
. "$board_dir/meta"
# shellcheck source=support/stage.sh
. "$top/support/stage.sh"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$("$top/support/source-date.sh")}
export ARCH FIRMWARE KERNEL_IMAGE EFI_PROGRAM SLOT_SIZE BINARIES_DIR TARGET_DIR HOST_DIR BUILD_DIR SOURCE_DATE_EPOCH LC_ALL=C
export PATH="$HOST_DIR/bin:$HOST_DIR/sbin:$PATH"
image=$BINARIES_DIR/aios-$BOARD
[ "$STAGE_TOTAL" != 0 ] || stage_total $((3 + $(wc -w <<<"$IMAGE_FORMATS")))

models_image() {
	env -u SOURCE_DATE_EPOCH mkfs.erofs --quiet --all-root "-T$SOURCE_DATE_EPOCH" -U 6b1d2a7e-a105-4000-8000-0000000000f2 -L models \
		"$BINARIES_DIR/models.erofs.new" "$BINARIES_DIR/models"
	mv "$BINARIES_DIR/models.erofs.new" "$BINARIES_DIR/models.erofs"
}

# little_endian NUMBER: eight bytes.
little_endian() {
	local shift
	for shift in 0 8 16 24 32 40 48 56; do
		# shellcheck disable=SC2059 # the escape is made here
		printf "\\x$(printf %02x $(($1 >> shift & 255)))"
	done
}

# GRUB without grub-install: the boot sector is told where the core image starts, and the core image's first sector
# where the rest of it is. Both are fields of 64 bits, in sectors of 512 bytes.
bios_boot() {
	local core_sector=2048
	head -c 440 "$BINARIES_DIR/boot.img" >"$1/grub-mbr.img"
	cp "$BINARIES_DIR/grub.img" "$1/grub-core.img"
	little_endian $core_sector | dd of="$1/grub-mbr.img" bs=1 seek=92 conv=notrunc status=none
	little_endian $((core_sector + 1)) | dd of="$1/grub-core.img" bs=1 seek=500 conv=notrunc status=none
}

disk_image() {
	local input=$BUILD_DIR/disk output=$BUILD_DIR/disk-out
	rm -rf "$input" "$output" "$BUILD_DIR/genimage.tmp" "$BUILD_DIR/empty"
	mkdir -p "$input" "$output" "$BUILD_DIR/empty"
	ln -s "$BINARIES_DIR"/{"$KERNEL_IMAGE",initramfs.img,rootfs.erofs,models.erofs} "${firmware_files[@]}" "$input/"
	[ ! -e "$board_dir/grub.cfg" ] || cp "$board_dir/grub.cfg" "$input/"
	case $FIRMWARE in *bios*) bios_boot "$input" ;; esac
	"$here/genimage.sh" "$input" >"$BUILD_DIR/genimage.cfg"
	genimage --rootpath "$BUILD_DIR/empty" --tmppath "$BUILD_DIR/genimage.tmp" --inputpath "$input" \
		--outputpath "$output" --config "$BUILD_DIR/genimage.cfg"
	mv "$output/disk.img" "$image.img"
	rm -rf "$input" "$output" "$BUILD_DIR/genimage.tmp" "$BUILD_DIR/empty"
}

qcow2_image() {
	qemu-img convert -f raw -O qcow2 "$image.img" "$image.qcow2.new"
	qemu-img resize -q -f qcow2 "$image.qcow2.new" "$QCOW2_SIZE"
	mv "$image.qcow2.new" "$image.qcow2"
}

# The EFI partition of the live medium: GRUB and the same menu that BIOS reads from the ISO itself.
live_efi() {
	rm -f "$1"
	truncate -s 4M "$1"
	mkdosfs --invariant -i a105001e -n AIOS-EFI "$1"
	mmd -i "$1" ::/EFI ::/EFI/BOOT
	mcopy -i "$1" "$BINARIES_DIR/efi-part/EFI/BOOT/$EFI_PROGRAM" "::/EFI/BOOT/$EFI_PROGRAM"
	mcopy -i "$1" "$board_dir/grub-iso.cfg" ::/EFI/BOOT/grub.cfg
}

live_image() {
	local tree=$BUILD_DIR/iso bios=()
	rm -rf "$tree"
	mkdir -p "$tree/boot" "$tree/EFI/BOOT" "$tree/aios"
	cp "$BINARIES_DIR/$KERNEL_IMAGE" "$BINARIES_DIR/initramfs.img" "$tree/boot/"
	# UEFI starts the same GRUB from a CD, where it looks on the CD, and from a stick, where it looks on the EFI partition.
	cp "$board_dir/grub-iso.cfg" "$tree/EFI/BOOT/grub.cfg"
	case $FIRMWARE in *bios*)
		mkdir "$tree/boot/grub"
		cp "$board_dir/grub-iso.cfg" "$tree/boot/grub/grub.cfg"
		cp "$BINARIES_DIR/grub-eltorito.img" "$tree/boot/grub/eltorito.img"
		bios=(-b boot/grub/eltorito.img -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info
			--grub2-mbr "$BINARIES_DIR/boot_hybrid.img")
		;;
	esac
	ln "$BINARIES_DIR/rootfs.erofs" "$BINARIES_DIR/models.erofs" "$tree/aios/"
	"$here/install-map.py" "$image.img" "$tree"
	live_efi "$BUILD_DIR/efi-iso.img"
	# xorriso takes volume dates and the disk identifier from SOURCE_DATE_EPOCH, but of the files only some dates.
	xorriso -as mkisofs -o "$image.iso.new" --set_all_file_dates "=$SOURCE_DATE_EPOCH" -V AIOS -R -J -iso-level 3 "${bios[@]}" \
		-append_partition 2 0xef "$BUILD_DIR/efi-iso.img" -appended_part_as_gpt \
		${bios:+-eltorito-alt-boot} -e --interval:appended_partition_2:all:: -no-emul-boot \
		-partition_offset 16 --sort-weight 0 / --sort-weight 1 /boot "$tree"
	mv "$image.iso.new" "$image.iso"
	rm -rf "$tree"
}

checksums() {
	local format names=()
	for format in $IMAGE_FORMATS; do names+=("aios-$BOARD.$format"); done
	(cd "$BINARIES_DIR" && sha256sum "${names[@]}" >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
}

common=("=$SOURCE_DATE_EPOCH" "=$top" "${BASH_SOURCE[0]}" "$board_dir/meta")
# What the machine's firmware starts, or reads before it starts the kernel.
case $FIRMWARE in
*uefi*) firmware_files=("$BINARIES_DIR/efi-part") menus=("$board_dir"/*.cfg) ;;
raspberrypi) menus=() firmware_files=("$BINARIES_DIR/rpi-firmware" "$BINARIES_DIR"/*.dtb "$here/autoboot.txt") ;;
esac
boot_files=("$BINARIES_DIR/$KERNEL_IMAGE" "$BINARIES_DIR/rootfs.erofs" "${firmware_files[@]}")
case $FIRMWARE in *bios*) boot_files+=("$BINARIES_DIR"/{grub.img,boot.img,grub-eltorito.img,boot_hybrid.img}) ;; esac
module_lists=("$here/modules.boot" "$board_dir/modules.boot")

stage "initramfs" "$(inputs_key "${common[@]}" "$here/initramfs.sh" "${module_lists[@]}" "$BINARIES_DIR/rootfs.erofs")" \
	"$BINARIES_DIR/initramfs.img" -- "$here/initramfs.sh" "${module_lists[@]}"
stage "model image" "$(inputs_key "${common[@]}" "$BINARIES_DIR/models")" \
	"$BINARIES_DIR/models.erofs" -- models_image
boot_key=$(inputs_key "${common[@]}" "${boot_files[@]}" "=$(stage_key initramfs)" "=$(stage_key "model image")" \
	"${menus[@]}" "$here/genimage.sh" "$here/install-map.py")
stage "disk image" "$boot_key" "$image.img" -- disk_image
case $IMAGE_FORMATS in *qcow2*) stage "virtual disk" "$boot_key" "$image.qcow2" -- qcow2_image ;; esac
case $IMAGE_FORMATS in *iso*) stage "live image" "$boot_key" "$image.iso" -- live_image ;; esac
stage "checksums" "$boot_key" "$BINARIES_DIR/SHA256SUMS" -- checksums
