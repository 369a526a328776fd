#!/bin/bash
# What the Makefile calls.
#   select NAME   chooses configs/NAME and the base that builds it
#   image         builds the images of the choice; without one, of DEFCONFIG
#   target NAME   a target of Buildroot's own
#   board         prints the board of the choice; without one, of DEFCONFIG
#   base          prints the base of the choice
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

# The choice is four lines in O/selected: the defconfig's name, the base's, and BUILDROOT and OFFLINE as they were given.
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
	check_base "$name" "$base"
	if [ "$base" = buildroot ]; then
		configure "$name"
	elif [ -n "${OFFLINE:-}" ]; then
		echo "error: OFFLINE=$OFFLINE says where Buildroot's sources come from, but the base is $base; give BUILDROOT=DIR" >&2
		exit 1
	fi
	printf '%s\n' "$name" "$base" "${BUILDROOT:-}" "${OFFLINE:-}" >"$O/selected"
}

# check_base DEFCONFIG BASE: a board whose meta names BASES can be built by these alone.
check_base() {
	local bases board reason
	board=$(sed 's/^aios_//; s/_defconfig$//' <<<"$1")
	bases=$(sed -n 's/^BASES="\(.*\)"$/\1/p' "$top/board/$board/meta")
	reason=$(sed -n 's/^BASES_REASON="\(.*\)"$/\1/p' "$top/board/$board/meta")
	case " ${bases:-$2} " in *" $2 "*) ;; *)
		echo "error: board $board is built by the base ${bases// / or }, not by $2: $reason; give BUILDROOT=DIR (docs/buildroot.md)" >&2
		exit 1
		;;
	esac
}

# With OFFLINE=debian, sources, toolchain and a configuration that names them are prepared first; Buildroot then
# configures itself from that, and keeps it.
configure() {
	local config
	case ${OFFLINE:-} in
	'') buildroot "$1" ;;
	debian)
		"$top/support/host-packages.sh" buildroot offline
		config=$("$top/support/offline/debian.sh" "$1")
		buildroot BR2_DEFCONFIG="$config" defconfig
		;;
	*)
		echo "error: OFFLINE=$OFFLINE: there is OFFLINE=debian" >&2
		exit 1
		;;
	esac
}

selected_defconfig() { sed -n 1p "$O/selected" 2>/dev/null || echo "${DEFCONFIG:-aios_x86_64_defconfig}"; }

# What was chosen holds, unless this call names a base.
recall() {
	if [ -n "${BASE:-}${BUILDROOT:-}" ] || [ ! -e "$O/selected" ]; then
		[ -z "${BUILDROOT:-}" ] || OFFLINE=${OFFLINE:-$(sed -n 4p "$O/selected" 2>/dev/null || true)}
		select_defconfig "$(selected_defconfig)"
	fi
	{
		read -r defconfig
		read -r base
		read -r BUILDROOT || true # not in a choice that an earlier version wrote
	} <"$O/selected"
	export BUILDROOT
}

image() {
	recall
	if [ "$base" = prebuilt ]; then
		"$top/support/host-packages.sh" build
		# shellcheck source=board/x86_64/meta
		(
			. "$top/board/$(board)/meta"
			"$top/support/rust-target.sh" "$RUST_TARGET"
			[ "${RUST_TARGET%%-*}" = "$(uname -m)" ] || "$top/support/host-packages.sh" "cross-${RUST_TARGET%%-*}"
		)
		"$top/support/prebuilt/build.sh" "$top/configs/$defconfig"
	else
		BOARD=$(board) buildroot
		mkdir -p "$O/images"
		cp -alf "$O/buildroot/images/." "$O/images/"
		"$top/support/sbom.sh" "$("$top/support/buildroot.sh" path)" "$(board)"
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
base) sed -n 2p "$O/selected" ;;
*)
	echo "usage: build.sh select NAME | image | target NAME | board | base" >&2
	exit 2
	;;
esac
