#!/bin/bash
# Builds the images of this commit a second time and compares them with the first.
#   prebuilt base   the second build has folders of its own; SHARE_PROGRAMS=1 takes the compiled programs of the first,
#                   which takes a minute instead of several
#   Buildroot       its tools have their own path in them, so the first build is moved aside and the second, from the
#                   sources again, is made in its place
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
O=${O:-$top/output}
mkdir -p "$O"
O=$(cd "$O" && pwd)

build() { "$top/support/build.sh" image; }
chosen() { sed -n "$1p" "$O/selected"; }

second_beside() {
	local defconfig base
	first=$O second=$O/reproducible
	rm -rf "$second"
	mkdir -p "$second"
	if [ "${SHARE_PROGRAMS:-}" != 1 ]; then export CARGO_TARGET_DIR=$second/programs; fi
	# Read before O changes: an assignment before a command holds for those after it.
	defconfig=$(chosen 1) base=$(chosen 2)
	O=$second DEFCONFIG=$defconfig BASE=$base build
}

second_in_place() {
	local defconfig buildroot offline
	first=$O/first second=$O
	if [ -e "$first" ]; then
		echo "error: $first is there: an earlier comparison found a difference or was stopped. Remove it, or move what it holds back to $O" >&2
		exit 1
	fi
	mkdir "$first"
	mv "$O/buildroot" "$O/images" "$first/"
	defconfig=$(chosen 1) buildroot=$(chosen 3) offline=$(chosen 4)
	export BASE=buildroot BUILDROOT=$buildroot OFFLINE=$offline
	if ! { "$top/support/build.sh" select "$defconfig" && build; }; then
		echo "error: the second build failed; the first is in $first" >&2
		exit 1
	fi
}

# What differs, by content where diffoscope (a Debian package) is there to open the images.
report() {
	echo "error: the builds differ:"
	diff "$first/images/SHA256SUMS" "$second/images/SHA256SUMS" || true
	(cd "$second/images" && find . -type f ! -name 'aios-*' ! -name 'SHA256SUMS') | while read -r part; do
		cmp "$first/images/$part" "$second/images/$part" || true
	done
	if command -v diffoscope >/dev/null; then
		diffoscope --max-report-size 100000 "$first/images/rootfs.erofs" "$second/images/rootfs.erofs" || true
	else
		echo "With the Debian package diffoscope installed, this says what differs in the files."
	fi
	echo "Both are kept: $first and $second"
}

echo ">>> first build"
build
echo ">>> second build"
case $(chosen 2) in
buildroot) second_in_place ;;
*) second_beside ;;
esac

if cmp -s "$first/images/SHA256SUMS" "$second/images/SHA256SUMS"; then
	cat "$first/images/SHA256SUMS"
	echo "identical: both builds gave the same images"
	if [ "$first" = "$O" ]; then rm -rf "$second"; else rm -rf "$first"; fi
	exit 0
fi
report >&2
exit 1
