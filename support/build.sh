#!/bin/bash
# What the Makefile calls.
#   select NAME   chooses configs/NAME and the base that builds it
#   image         builds the images of the choice; without one, of DEFCONFIG
#   target NAME   a target of Buildroot's own
#   board         prints the board of the choice; without one, of DEFCONFIG
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${O:=$top/output}"
O=$(cd "$O" && pwd)
DL_DIR=${DL_DIR:-$top/dl}
export O DL_DIR

buildroot() {
	local tree
	tree=$("$top/support/buildroot.sh" path)
	"$top/support/host-packages.sh" buildroot
	mkdir -p "$DL_DIR/buildroot"
	make -C "$tree" BR2_EXTERNAL="$top" BR2_DL_DIR="$DL_DIR/buildroot" O="$O/buildroot" "$@"
}

# The choice is two lines, the defconfig's name and the base's, in O/selected.
select_defconfig() {
	local name=$1 base reason
	if [ ! -e "$top/configs/$name" ]; then
		echo "error: there is no configs/$name; there are: $(cd "$top/configs" && echo *_defconfig)" >&2
		exit 1
	fi
	"$top/support/base.sh" >"$O/base.new"
	read -r base reason <"$O/base.new"
	rm -f "$O/base.new"
	echo ">>> $name: base $base ($reason)"
	[ "$base" != buildroot ] || buildroot "$name"
	printf '%s\n%s\n' "$name" "$base" >"$O/selected"
}

selected_defconfig() { sed -n 1p "$O/selected" 2>/dev/null || echo "${DEFCONFIG:-aios_x86_64_defconfig}"; }

# What was chosen holds, unless this call names a base.
recall() {
	if [ -n "${BASE:-}${BUILDROOT:-}" ] || [ ! -e "$O/selected" ]; then
		select_defconfig "$(selected_defconfig)"
	fi
	{ read -r defconfig && read -r base; } <"$O/selected"
}

image() {
	recall
	if [ "$base" = prebuilt ]; then
		"$top/support/host-packages.sh" build
		# shellcheck source=board/x86_64/meta
		(. "$top/board/$(board)/meta" && "$top/support/rust-target.sh" "$RUST_TARGET")
		"$top/support/prebuilt/build.sh" "$top/configs/$defconfig"
	else
		BOARD=$(board) buildroot
		mkdir -p "$O/images"
		cp -alf "$O/buildroot/images/." "$O/images/"
	fi
	echo ">>> ${O#"$top/"}/images: $(cd "$O/images" && echo aios-*.* SHA256SUMS)"
}

# configs/aios_BOARD_defconfig belongs to board/BOARD.
board() { sed 's/^aios_//; s/_defconfig$//' <<<"$defconfig"; }

target() {
	recall
	if [ "$base" != buildroot ]; then
		echo "error: '$1' is not a target here (make help lists them); Buildroot's own targets need BUILDROOT=DIR or BASE=buildroot" >&2
		exit 2
	fi
	BOARD=$(board) buildroot "$1"
}

case ${1:-} in
select) select_defconfig "$2" ;;
image) image ;;
target) target "$2" ;;
board)
	defconfig=$(selected_defconfig)
	board
	;;
*)
	echo "usage: build.sh select NAME | image | target NAME | board" >&2
	exit 2
	;;
esac
