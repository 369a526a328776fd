#!/bin/bash
# Prints genimage's description of the board's disk (docs/ARCHITECTURE.md), of which the files are in the folder $1: from
# the facts in the board's meta, so that what all disks share is written once. Identifiers are fixed so that two builds
# are the same byte for byte; the first boot adds the data partition behind the last one. Types are numbers because older
# genimage knows no names for them.
set -euo pipefail
input=$1

# What UEFI's specification, systemd's and Microsoft's call it.
partition_type() {
	case $1 in
	bios) echo 21686148-6449-6e6f-744e-656564454649 ;;
	esp) echo c12a7328-f81f-11d2-ba4b-00a0c93ec93b ;;
	boot) echo bc13c2ff-59e6-4262-a352-b275fd6f7172 ;;
	basic-data) echo ebd0a0a2-b9e5-4433-87c0-68b6b72699c7 ;;
	linux) echo 0fc63daf-8483-4772-8e79-3d69d8477de4 ;;
	root-x86_64) echo 4f68bce3-e8cd-4db1-96e7-fbcaf984b709 ;;
	root-aarch64) echo b921b045-1df0-41c3-af44-4c6f280d3fae ;;
	*) echo "error: no partition type is known for '$1'" >&2; return 1 ;;
	esac
}

# partition NAME NUMBER TYPE OPTION...: NUMBER is the last figure of its identifier.
partition() {
	local type
	type=$(partition_type "$3")
	printf '  partition %s {\n    partition-type-uuid = "%s"\n    partition-uuid = "6b1d2a7e-a105-4000-8000-%012d"\n' "$1" "$type" "$2"
	printf '    %s\n' "${@:4}"
	echo '  }'
}

# vfat NAME LABEL ID SIZE: a FAT file system of the "path-on-it path-in-the-folder" lines of its input.
vfat() {
	local path source
	printf 'image %s {\n  vfat {\n    label = "%s"\n    extraargs = "-i %s"\n' "$1" "$2" "$3"
	while read -r path source; do printf '    file %s { image = "%s" }\n' "$path" "$source"; done
	printf '  }\n  size = %s\n}\n' "$4"
}

# What the slot's partition holds besides kernel and initramfs.
slot_files() {
	local file
	printf '%s %s\n' "$KERNEL_IMAGE" "$KERNEL_IMAGE" initramfs.img initramfs.img
	case $FIRMWARE in raspberrypi)
		for file in "$input"/rpi-firmware/* "$input"/*.dtb; do printf '%s %s\n' "${file##*/}" "${file#"$input/"}"; done
		;;
	esac
}

# The partition that the machine's firmware reads first.
first_image() {
	case $FIRMWARE in
	raspberrypi) vfat first.vfat FIRMWARE a105000e 16M <<<"autoboot.txt autoboot.txt" ;;
	*)
		{
			echo "EFI/BOOT/$EFI_PROGRAM efi-part/EFI/BOOT/$EFI_PROGRAM"
			echo "EFI/BOOT/grub.cfg grub.cfg"
			case $FIRMWARE in *bios*) echo "boot/grub/grub.cfg grub.cfg" ;; esac
		} | vfat first.vfat ESP a105000e 16M
		;;
	esac
}

first_partitions() {
	case $FIRMWARE in
	# Its own firmware looks for FAT on partitions of this type; autoboot.txt has the numbers of the slots' partitions.
	raspberrypi) partition firmware 3 basic-data 'image = "first.vfat"' ;;
	*bios*)
		printf '  partition mbr {\n    in-partition-table = false\n    image = "grub-mbr.img"\n    offset = 0\n    size = 440\n  }\n'
		# BIOS starts GRUB's core image here: grub-mbr.img has its first sector's number, 2048.
		partition bios 2 bios 'image = "grub-core.img"' 'offset = 1M' 'size = 1M'
		partition esp 3 esp 'image = "first.vfat"'
		;;
	*) partition esp 3 esp 'image = "first.vfat"' 'offset = 1M' ;;
	esac
}

case $FIRMWARE in raspberrypi) slot_type=basic-data ;; *) slot_type=boot ;; esac
first_image
slot_files | vfat boot-a.vfat BOOT-A a105000a "$SLOT_SIZE"
printf 'image disk.img {\n  hdimage {\n    partition-table-type = "gpt"\n    disk-uuid = "6b1d2a7e-a105-4000-8000-000000000001"\n  }\n'
first_partitions
# Reserved for the redundant boot environment; raw, because a FAT file is not written atomically.
partition bootenv 4 linux 'size = 1M'
partition boot-a 5 "$slot_type" 'image = "boot-a.vfat"'
partition boot-b 6 "$slot_type" "size = $SLOT_SIZE"
partition root-a 7 "root-$ARCH" 'image = "rootfs.erofs"' 'size = 512M'
partition root-b 8 "root-$ARCH" 'size = 512M'
partition models 9 linux 'image = "models.erofs"'
echo '}'
