#!/bin/bash
# Builds the images of this commit a second time, into other folders, and compares them with the first.
# SHARE_PROGRAMS=1 assembles again from the same compiled programs, which takes a minute instead of several.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
O=${O:-$top/output}
again=$O/reproducible
rm -rf "$again"
mkdir -p "$again"

echo ">>> first build"
"$top/support/build.sh" image
echo ">>> second build"
if [ "${SHARE_PROGRAMS:-}" != 1 ]; then export CARGO_TARGET_DIR=$again/programs; fi
# Read before O changes: an assignment before a command holds for those after it.
chosen() { sed -n "$1p" "$O/selected"; }
defconfig=$(chosen 1) base=$(chosen 2) buildroot=$(chosen 3) offline=$(chosen 4)
O=$again DEFCONFIG=$defconfig BASE=$base BUILDROOT=$buildroot OFFLINE=$offline "$top/support/build.sh" image

if cmp -s "$O/images/SHA256SUMS" "$again/images/SHA256SUMS"; then
	cat "$O/images/SHA256SUMS"
	echo "identical: both builds gave the same images"
	rm -rf "$again"
	exit 0
fi
{
	echo "error: the builds differ:"
	diff "$O/images/SHA256SUMS" "$again/images/SHA256SUMS" || true
	(cd "$again/images" && find . -type f ! -name 'aios-*' ! -name 'SHA256SUMS') | while read -r part; do
		cmp "$O/images/$part" "$again/images/$part" || true
	done
	echo "Both are kept, the second in $again"
} >&2
exit 1
