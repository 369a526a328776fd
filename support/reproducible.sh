#!/bin/bash
# Builds the images twice from the same commit, with different output and compiler folders, and compares them.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
O=${O:-$top/output}
work=$O/reproducible
rm -rf "$work"
mkdir -p "$work"

for run in first second; do
	echo ">>> $run build"
	O=$work/$run CARGO_TARGET_DIR=$work/$run-programs BASE=${BASE:-prebuilt} "$top/support/build.sh" image
done

if cmp -s "$work/first/images/SHA256SUMS" "$work/second/images/SHA256SUMS"; then
	cat "$work/first/images/SHA256SUMS"
	echo "identical: both builds gave the same images"
	rm -rf "$work"
	exit 0
fi
{
	echo "error: the builds differ:"
	diff "$work/first/images/SHA256SUMS" "$work/second/images/SHA256SUMS" || true
	for part in bzImage initramfs.img rootfs.erofs models.erofs grub.img efi-part/EFI/BOOT/bootx64.efi; do
		cmp "$work/first/images/$part" "$work/second/images/$part" || true
	done
	echo "Both are kept in $work"
} >&2
exit 1
