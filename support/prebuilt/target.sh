#!/bin/bash
# Makes the Debian part of the root file system in TARGET_DIR: the layout, programs of the packages, kernel modules; and
# leaves the kernel and its DEVICE_TREES in BINARIES_DIR. $1 is the package manifest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
manifest=$1
packages=$BUILD_DIR/target-packages
kernel=$BUILD_DIR/kernel

lines() { grep -vE '^(#|$)' "$1"; }

unpack() {
	local tree
	rm -rf "$packages" "$kernel"
	mkdir -p "$packages/usr/lib" "$packages/usr/lib64" "$kernel"
	ln -s usr/lib usr/lib64 "$packages/"
	awk '$1 == "target" { print $3 }' "$manifest" | while read -r deb; do
		dpkg-deb -x "$DL_DIR/debs/$deb" "$packages"
	done
	dpkg-deb -x "$DL_DIR/debs/$(awk '$1 == "kernel" { print $3 }' "$manifest")" "$kernel"
	# What another board left would else pass for this one's.
	rm -f "$BINARIES_DIR"/{bzImage,vmlinux,Image,*.dtb}
	cp "$kernel"/boot/vmlinuz-* "$BINARIES_DIR/$KERNEL_IMAGE"
	for tree in $DEVICE_TREES; do cp "$kernel"/usr/lib/linux-image-*/"$tree.dtb" "$BINARIES_DIR/"; done
	case $KERNEL_IMAGE in bzImage) uncompressed_kernel "$BINARIES_DIR/bzImage" "$BINARIES_DIR/vmlinux" ;; esac
}

# The ELF kernel inside a bzImage, where a kernel packs one with zstd. A virtual machine that starts it directly (PVH)
# spends no time on unpacking. Fields of the boot protocol's header: setup_sects, payload_offset, payload_length;
# the payload ends with its own unpacked length.
uncompressed_kernel() {
	local image=$1 setup offset length
	field() { od -An -t "u$2" -j "$1" -N "$2" "$image" | tr -d ' '; }
	setup=$(field $((0x1f1)) 1) offset=$(field $((0x248)) 4) length=$(field $((0x24c)) 4)
	head -c $(((setup + 1) * 512 + offset + length - 4)) "$image" | tail -c $((length - 4)) |
		"$HOST_DIR/bin/zstd" --quiet --decompress --stdout >"$2"
}

# The merged-usr tree; empty folders are mount points.
make_layout() {
	rm -rf "$TARGET_DIR"
	mkdir -p "$TARGET_DIR"/{dev,proc,sys,run,tmp,root,mnt,boot,etc,usr/{bin,sbin,lib,lib64,share},var/{lib/aios,log}}
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$TARGET_DIR/"
	ln -s /run "$TARGET_DIR/var/run"
	ln -s /tmp "$TARGET_DIR/var/tmp"
}

# Copies a file of the packages, through links: the name stays, what it points at comes too.
copy_file() {
	local path=$1 link
	mkdir -p "$TARGET_DIR$(dirname "$path")"
	cp -a "$packages$path" "$TARGET_DIR$path"
	if [ -L "$packages$path" ]; then
		link=$(readlink "$packages$path")
		copy_file "$(dirname "$path")/$link"
	fi
}

# Copies a program or library of the packages, with the loader and the libraries that it asks for.
copy_program() {
	local path=$1 name
	[ ! -e "$TARGET_DIR$path" ] || return 0
	copy_file "$path"
	"$here/elf_needed.py" "$packages$path" | while read -r name _; do
		case $name in
		/*) copy_program "/usr$name" ;;
		*) copy_program "$libraries/$name" ;;
		esac
	done
}

copy_programs() {
	local path directory applets applet libraries
	libraries=$(cd "$packages" && echo usr/lib/*-linux-gnu)
	libraries=/$libraries
	while read -r path; do copy_program "$path"; done < <(lines "$here/target.files")
	ln -s mke2fs "$TARGET_DIR/usr/sbin/mkfs.ext4"
	while IFS=: read -r directory applets; do
		for applet in $applets; do ln -s /usr/bin/busybox "$TARGET_DIR$directory/$applet"; done
	done < <(lines "$here/target.applets")
}

unpack
make_layout
copy_programs
"$here/modules.sh" "$kernel" "$top/board/common/modules.exclude" "$top/board/$BOARD/modules.exclude"
rm -rf "$packages" "$kernel"
