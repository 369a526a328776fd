#!/bin/bash
# The prebuilt base: fills O/images, O/target and O/host from pinned Debian packages, as the defconfig $1 chooses, and
# runs the defconfig's hooks. Needs no root, no loop devices and none of the machine's own image tools.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
defconfig=$1
output=$(mkdir -p "${O:-$top/output}" && cd "${O:-$top/output}" && pwd)

export BINARIES_DIR=$output/images TARGET_DIR=$output/target HOST_DIR=$output/host BUILD_DIR=$output/build
export DL_DIR=${DL_DIR:-$top/dl} LC_ALL=C TZ=UTC
umask 022
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$("$top/support/source-date.sh")}
export SOURCE_DATE_EPOCH

# Values of the defconfig, with the external tree's path filled in as Buildroot does.
config() { sed -n "s|^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$|\1|p" "$defconfig" | sed "s|\$(BR2_EXTERNAL_AIOS_PATH)|$top|g"; }

# configs/aios_BOARD_defconfig belongs to board/BOARD.
BOARD=$(basename "$defconfig" | sed 's/^aios_//; s/_defconfig$//')
export BOARD
# shellcheck source=board/x86_64/meta
. "$top/board/$BOARD/meta"
export ARCH KERNEL_IMAGE RUST_TARGET FIRMWARE GRUB_EFI EFI_PROGRAM
# shellcheck source=support/stage.sh
. "$top/support/stage.sh"

manifest=$BUILD_DIR/packages
programs=$BUILD_DIR/programs
debian=$BUILD_DIR/debian-target
OVERLAYS=$(config BR2_ROOTFS_OVERLAY)
POST_BUILD=$(config BR2_ROOTFS_POST_BUILD_SCRIPT)
POST_IMAGE=$(config BR2_ROOTFS_POST_IMAGE_SCRIPT)
# Names below the kernel's device trees, without .dts or .dtb.
DEVICE_TREES=$(config BR2_LINUX_KERNEL_INTREE_DTS_NAME)
export DEVICE_TREES
CONFIG_TXT=$(config BR2_PACKAGE_RPI_FIRMWARE_CONFIG_FILE)
CMDLINE_TXT=$(config BR2_PACKAGE_RPI_FIRMWARE_CMDLINE_FILE)
VARIANTS=$(sed -n 's/^BR2_PACKAGE_RPI_FIRMWARE_VARIANT_\(.*\)=y$/\1/p' "$defconfig")
export CONFIG_TXT CMDLINE_TXT VARIANTS

# Facts of the factory models that the defconfig chooses: package/aios-model-x where BR2_PACKAGE_AIOS_MODEL_X=y.
models() {
	local facts symbol
	for facts in "$top"/package/aios-model-*/model.toml; do
		symbol=$(basename "$(dirname "$facts")" | tr 'a-z-' 'A-Z_')
		[ "$(config "BR2_PACKAGE_$symbol")" != y ] || echo "$facts"
	done
}

fetch_models() {
	rm -rf "$BINARIES_DIR/models"
	mkdir -p "$BINARIES_DIR/models"
	for facts in $(models); do "$top/support/fetch-model.sh" "$facts" "$BINARIES_DIR/models"; done
}

# The Debian part, then the product's programs and overlay, then the hooks that both bases run.
root_file_system() {
	rm -rf "$TARGET_DIR"
	cp -a "$debian" "$TARGET_DIR"
	install -m 755 "$programs/aios" "$programs/aios-runtime" "$TARGET_DIR/usr/bin/"
	install -m 755 "$programs/aios-init" "$TARGET_DIR/usr/sbin/"
	ln -s aios-init "$TARGET_DIR/usr/sbin/init"
	for overlay in $OVERLAYS; do cp -a "$overlay/." "$TARGET_DIR/"; done
	"$here/sbom.sh" "$TARGET_DIR/usr/share/aios/sbom.cdx.json"
	cp "$TARGET_DIR/usr/share/aios/sbom.cdx.json" "$BINARIES_DIR/aios-$BOARD.cdx.json"
	for hook in $POST_BUILD; do "$hook" "$TARGET_DIR"; done

	rm -f "$BINARIES_DIR/rootfs.erofs.new"
	# With SOURCE_DATE_EPOCH in its environment, mkfs.erofs keeps the times of files that are older, in spite of -T.
	env -u SOURCE_DATE_EPOCH "$HOST_DIR/bin/mkfs.erofs" --quiet -zlz4hc,9 -C65536 --all-root "-T$SOURCE_DATE_EPOCH" \
		-U 6b1d2a7e-a105-4000-8000-0000000000f1 -L root -Eztailpacking "$BINARIES_DIR/rootfs.erofs.new" "$TARGET_DIR"
	mv "$BINARIES_DIR/rootfs.erofs.new" "$BINARIES_DIR/rootfs.erofs"
}

mkdir -p "$BINARIES_DIR" "$BUILD_DIR" "$HOST_DIR" "$DL_DIR"
stage_total $((10 + $(wc -w <<<"$IMAGE_FORMATS")))
stage "packages" "$(inputs_key "$here/host.lock" "$here/$ARCH.lock" "$here/fetch.sh" "$here/apt.sh" "=$DL_DIR")" \
	"$manifest" "$DL_DIR/debs" -- "$here/fetch.sh" "$manifest"
stage "host tools" "$(inputs_key "$manifest" "$here/host-tools.sh" "=$HOST_DIR")" \
	"$HOST_DIR/bin/genimage" -- "$here/host-tools.sh" "$manifest"
stage "programs" "" -- "$top/support/build-programs.sh" "$programs"
# shellcheck disable=SC2046 # paths below package/ have no blanks
stage "factory models" "$(inputs_key "$top/support/fetch-model.sh" $(models))" "$BINARIES_DIR/models" -- fetch_models
stage "kernel and base programs" "$(inputs_key "$manifest" "$here/target.sh" "$here/modules.sh" "$here/target.files" \
	"$here/target.applets" "$here/elf_needed.py" "$top/board/common/modules.exclude" "$top/board/$BOARD/modules.exclude" \
	"=$DEVICE_TREES")" "$debian" "$BINARIES_DIR/$KERNEL_IMAGE" -- env TARGET_DIR="$debian" "$here/target.sh" "$manifest"
# shellcheck disable=SC2086 # a defconfig names several overlays and hooks with blanks between
stage "root file system" "$(inputs_key "=$SOURCE_DATE_EPOCH" "=$TARGET_DIR" "=$(stage_key "kernel and base programs")" \
	"$programs" "${BASH_SOURCE[0]}" "$here/sbom.sh" "$top/support/sbom.py" "$top"/Cargo.{toml,lock} $OVERLAYS $POST_BUILD)" \
	"$BINARIES_DIR/rootfs.erofs" "$TARGET_DIR/usr" -- root_file_system
case $FIRMWARE in
raspberrypi)
	stage "boot loader" "$(inputs_key "$manifest" "$here/raspberrypi.sh" "$defconfig" "$CONFIG_TXT" "$CMDLINE_TXT")" \
		"$BINARIES_DIR/rpi-firmware" -- "$here/raspberrypi.sh"
	;;
*)
	stage "boot loader" "$(inputs_key "$manifest" "$here/grub.sh" "$top/board/$BOARD/meta")" "$BINARIES_DIR/efi-part" -- \
		"$here/grub.sh"
	;;
esac
export STAGE_NUMBER STAGE_TOTAL
for hook in $POST_IMAGE; do "$hook" "$BINARIES_DIR"; done
