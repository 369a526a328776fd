#!/usr/bin/env bash
# Unpacks Debian's llama.cpp, the peer of `make bench-inference`, into a private root: peer-llama.sh ROOT
# It needs a newer suite than the image's, and its own C library; so it runs in that root, never on the machine.
set -euo pipefail
root=${1:?usage: peer-llama.sh ROOT}
here=$(cd "$(dirname "$0")/.." && pwd)
DL_DIR=${DL_DIR:-$here/dl}
ARCH=${ARCH:-$(uname -m)}
# shellcheck source=support/prebuilt/apt.sh
. "$here/support/prebuilt/apt.sh"
PEER_SUITE=${PEER_SUITE:-forky}
# What measures, its BLAS backend, and the BLAS that shares threads with it: both take OpenMP's.
PACKAGES=(llama.cpp-tools libggml0-backend-blas libopenblas0-openmp)
libraries=usr/lib/$ARCH-linux-gnu

# The private apt of the prebuilt base, on another suite and with folders of its own.
APT_ROOT=$DL_DIR/apt-peer-$ARCH
if [ "$(cat "$root/.complete" 2>/dev/null)" = "$PEER_SUITE ${PACKAGES[*]}" ]; then
	exit 0
fi
echo "unpacking ${PACKAGES[*]} from Debian $PEER_SUITE into ${root#"$here"/}"
rm -rf "$APT_ROOT/cache/archives"
mkdir -p "$APT_ROOT/none" "$APT_ROOT/lists/partial" "$APT_ROOT/cache/archives/partial"
: >"$APT_ROOT/status"
echo "deb [signed-by=$DEBIAN_KEYRING] $(debian_mirror main) $PEER_SUITE main" >"$APT_ROOT/sources.list"
private_apt apt-get update >"$APT_ROOT/log" 2>&1 || fail "Debian $PEER_SUITE can't be read; see $APT_ROOT/log"
private_apt apt-get install -y --no-install-recommends --download-only -o Debug::NoLocking=1 "${PACKAGES[@]}" >>"$APT_ROOT/log" 2>&1 ||
	fail "${PACKAGES[*]} can't be downloaded from Debian $PEER_SUITE; see $APT_ROOT/log"
rm -rf "$root"
mkdir -p "$root/dev" "$root/proc"
for link in bin lib lib64; do ln -s "usr/$link" "$root/$link"; done
for deb in "$APT_ROOT"/cache/archives/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink
done
# Out of the folder from which ggml takes every backend: it is loaded where GGML_BACKEND_PATH names it.
mv "$root/$libraries/ggml/"backends*/libggml-blas.so "$root/$libraries/ggml/libggml-blas.so"
echo "$PEER_SUITE ${PACKAGES[*]}" >"$root/.complete"
