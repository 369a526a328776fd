#!/bin/bash
# modules.sh KERNEL LIST...: copies the modules of the unpacked kernel package to TARGET_DIR, less what the lists exclude
# (shell patterns below kernel/) and less whatever needs an excluded module, and indexes them. A pattern after a `!` keeps
# what another one excludes.
set -euo pipefail
kernel=$1
shift
source_dir=$(echo "$kernel"/usr/lib/modules/*)
version=$(basename "$source_dir")
modules=$TARGET_DIR/usr/lib/modules/$version

mkdir -p "$(dirname "$modules")"
cp -a "$source_dir" "$modules"
rm -f "$modules/build" "$modules/source"
"$HOST_DIR/bin/depmod" -b "$TARGET_DIR" "$version"

matching() {
	local pattern
	while read -r pattern; do
		# shellcheck disable=SC2086 # the pattern is to be expanded
		(cd "$modules/kernel" && find $pattern -name '*.ko*' -printf 'kernel/%p\n') ||
			{ echo "error: modules.exclude: '$pattern' matches no module of kernel $version" >&2; exit 1; }
	done | sort -u
}

# modules.dep names every direct and indirect dependency of a module, so one pass finds all that must go.
sed -n 's/^!//p' "$@" | matching >"$BUILD_DIR/modules.kept"
grep -hvE '^([#!]|$)' "$@" | matching | comm -23 - "$BUILD_DIR/modules.kept" >"$BUILD_DIR/modules.excluded"
awk -F'[: ]+' 'NR == FNR { gone[$1]; next } { for (i = 1; i <= NF; i++) if ($i in gone) { print $1; next } }' \
	"$BUILD_DIR/modules.excluded" "$modules/modules.dep" | (cd "$modules" && xargs -r rm -f)
find "$modules/kernel" -type d -empty -delete
"$HOST_DIR/bin/depmod" -b "$TARGET_DIR" "$version"
# The text indexes are what aios-init reads; the binary ones are for other programs.
rm -f "$modules"/*.bin "$modules/modules.symbols" "$modules/modules.order" "$modules/modules.builtin.modinfo"
echo "$(find "$modules" -name '*.ko*' | wc -l) modules of kernel $version"
