#!/bin/bash
# configs.sh write|check: the defconfigs are configs/fragments/BOARD over the fragments that it includes.
#   write   makes each configs/aios_BOARD_defconfig, through Buildroot (BUILDROOT=DIR), in the order of its savedefconfig
#   check   compares: without BUILDROOT that each has the lines of its fragments, with it that it is what `write` makes
# In a fragment, `include NAME` stands for another one; a later line about the same option replaces an earlier one.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
configs=$top/configs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# A board is a fragment that no other one includes.
boards() {
	local fragment
	for fragment in "$configs"/fragments/*; do
		grep -qx "include $(basename "$fragment")" "$configs"/fragments/* || basename "$fragment"
	done
}

expand() {
	local line
	[ -e "$configs/fragments/$1" ] || fail "there is no configs/fragments/$1"
	while IFS= read -r line; do
		case $line in
		'include '*) expand "${line#include }" ;;
		BR2_* | '# BR2_'*' is not set') printf '%s\n' "$line" ;;
		esac
	done <"$configs/fragments/$1"
}

# BOARD's lines: of each option the last one.
lines() {
	expand "$1" | awk '
		{ name = $0; sub(/^# /, "", name); sub(/[= ].*/, "", name); if (!(name in at)) at[name] = ++count; line[at[name]] = $0 }
		END { for (i = 1; i <= count; i++) print line[i] }'
}

# canonical BOARD: as Buildroot saves it. A line that it does not give back has no effect, and is an error.
canonical() {
	local out=$work/$1 lost
	mkdir -p "$out"
	lines "$1" >"$out/wanted"
	if ! make -s -C "$BUILDROOT" BR2_EXTERNAL="$top" O="$out/o" BR2_DEFCONFIG="$out/wanted" defconfig >"$out/log" 2>&1 ||
		! make -s -C "$BUILDROOT" BR2_EXTERNAL="$top" O="$out/o" BR2_DEFCONFIG="$out/saved" savedefconfig >>"$out/log" 2>&1; then
		cat "$out/log" >&2
		fail "Buildroot does not accept the fragments of $1"
	fi
	lost=$(LC_ALL=C comm -3 <(LC_ALL=C sort "$out/wanted") <(LC_ALL=C sort "$out/saved"))
	[ -z "$lost" ] || fail "$1: lines that Buildroot drops (left) or adds (right):
$lost"
	cat "$out/saved"
}

# The lines alone can be compared without Buildroot; only it knows their order.
check_board() {
	local file=$configs/aios_$1_defconfig
	[ -e "$file" ] || fail "there is no ${file#"$top/"}: make configs BUILDROOT=DIR writes it"
	if [ -n "${BUILDROOT:-}" ]; then
		canonical "$1" >"$work/$1.new"
		diff -u "$file" "$work/$1.new"
	else
		diff -u <(LC_ALL=C sort "$file") <(lines "$1" | LC_ALL=C sort)
	fi || fail "${file#"$top/"} is not what configs/fragments/$1 makes: make configs BUILDROOT=DIR writes it anew"
}

case ${1:-} in
write)
	[ -n "${BUILDROOT:-}" ] || fail "the order of a defconfig's lines is Buildroot's: give BUILDROOT=DIR"
	for board in $(boards); do
		canonical "$board" >"$work/$board.new"
		cp "$work/$board.new" "$configs/aios_${board}_defconfig"
		echo "configs/aios_${board}_defconfig"
	done
	;;
check)
	for board in $(boards); do check_board "$board"; done
	for file in "$configs"/*_defconfig; do
		board=$(basename "$file" _defconfig)
		[ -e "$configs/fragments/${board#aios_}" ] || fail "${file#"$top/"} comes from no fragment"
	done
	echo "$(boards | wc -l) defconfigs are what their fragments make"
	;;
*)
	echo "usage: configs.sh write|check" >&2
	exit 2
	;;
esac
