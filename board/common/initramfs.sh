#!/bin/bash
# initramfs.sh LIST...: makes BINARIES_DIR/initramfs.img from TARGET_DIR: aios-init as /init, and the modules that the lists
# (modules.boot) name with all they need, in the order in which they load. A kernel that has them built in gets an empty
# /modules.load.
set -euo pipefail
boot_modules=("$@")
root=$BUILD_DIR/initramfs
archive=$BUILD_DIR/initramfs.cpio
modules=$(find "$TARGET_DIR/usr/lib/modules" "$TARGET_DIR/lib/modules" -mindepth 1 -maxdepth 1 -type d -print -quit 2>/dev/null || true)

# Paths of the modules to load, dependencies first. modules.dep lists what a module needs, the last of it to load first.
load_order() {
	awk '
		function base(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
		function add(path) { if (!(path in done)) { done[path] = 1; print path } }
		FILENAME ~ /modules\.builtin$/ { builtin[base($1)] = 1; next }
		FILENAME ~ /modules\.dep$/ { path = $1; sub(/:$/, "", path); line[base(path)] = path " " substr($0, length($1) + 2); next }
		/^#/ || NF == 0 { next }
		{
			name = $1
			optional = sub(/^-/, "", name)
			if (name in builtin || (optional && !(name in line))) next
			if (!(name in line)) { print "error: no module " name " in this kernel" > "/dev/stderr"; failed = 1; next }
			count = split(line[name], needed, " ")
			for (i = count; i >= 1; i--) add(needed[i])
		}
		END { exit failed }
	' "$modules/modules.builtin" "$modules/modules.dep" "${boot_modules[@]}"
}

rm -rf "$root"
mkdir -p "$root"/{dev,proc,sys,run,sysroot,modules}
cp "$TARGET_DIR/usr/sbin/aios-init" "$root/init"
: >"$root/modules.load"
if [ -n "$modules" ] && [ -e "$modules/modules.dep" ]; then
	load_order >"$BUILD_DIR/modules.boot"
	while read -r path; do
		name=$(basename "$path")
		case $name in
		# Unpacked here: as one stream the archive compresses better, and stage 1 has less to do.
		*.xz) name=${name%.xz}; xz -dc "$modules/$path" >"$root/modules/$name" ;;
		*) cp "$modules/$path" "$root/modules/$name" ;;
		esac
		echo "/modules/$name" >>"$root/modules.load"
	done <"$BUILD_DIR/modules.boot"
fi

chmod -R u=rwX,go=rX "$root"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
(cd "$root" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
	cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$archive"
zstd --quiet --force -19 "$archive" -o "$BINARIES_DIR/initramfs.img"
echo "$(wc -l <"$root/modules.load") modules, $(stat -c %s "$archive") bytes, $(stat -c %s "$BINARIES_DIR/initramfs.img") packed"
