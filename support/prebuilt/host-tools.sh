#!/bin/bash
# Unpacks the manifest's `host` packages, and the boot loader's modules, into HOST_DIR/debian and writes a wrapper per
# program to HOST_DIR/bin. The wrappers start programs through the packages' own C library, so the images do not depend on the machine's tools.
set -euo pipefail
manifest=$1
root=$HOST_DIR/debian
loader=ld-linux-x86-64.so.2
libraries=usr/lib/x86_64-linux-gnu

if [ "$(uname -m)" != x86_64 ]; then
	echo "error: the prebuilt base's tools are pinned for x86_64 machines (packages.host), and this is $(uname -m); BUILDROOT=DIR builds here" >&2
	exit 1
fi

rm -rf "${HOST_DIR:?}/bin" "$root"
mkdir -p "$root/usr/lib" "$root/usr/lib64" "$root/usr/bin" "$root/usr/sbin" "$HOST_DIR/bin"
ln -s usr/lib usr/lib64 usr/bin usr/sbin "$root/"
awk '$1 == "host" || $1 == "boot" { print $3 }' "$manifest" | while read -r deb; do
	dpkg-deb -x "$DL_DIR/debs/$deb" "$root"
done

for program in "$root"/usr/bin/* "$root"/usr/sbin/*; do
	[ "$(head -c 4 "$program" 2>/dev/null | tail -c 3)" = ELF ] || continue
	wrapper=$HOST_DIR/bin/$(basename "$program")
	cat >"$wrapper" <<-WRAPPER
		#!/bin/sh
		GCONV_PATH='$root/$libraries/gconv' exec '$root/lib64/$loader' --library-path '$root/$libraries' '$program' "\$@"
	WRAPPER
	chmod +x "$wrapper"
done
