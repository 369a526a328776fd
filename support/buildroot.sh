#!/bin/bash
# The Buildroot release that the external tree is made for.
#   available  says whether there is one (exit status) and which, or why not; downloads it where its hash is pinned
#   path       prints the folder of the tree, unpacked
#   pin        downloads the release and its signature, checks that, and writes support/buildroot.hash
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
DL_DIR=${DL_DIR:-$top/dl}
VERSION=2026.05.1
SITE=${BUILDROOT_SITE:-https://buildroot.org/downloads}
archive=$DL_DIR/buildroot-$VERSION.tar.xz
hashes=$top/support/buildroot.hash

pinned_hash() { sed -n "s/^sha256  *\([0-9a-f]\{64\}\)  *buildroot-$VERSION\.tar\.xz\$/\1/p" "$hashes" 2>/dev/null; }
is_right() { [ -e "$archive" ] && printf '%s  %s\n' "$(pinned_hash)" "$archive" | sha256sum --check --status; }

# download FILE: one attempt with a short connection timeout; the whole file or nothing.
download() {
	local part=$DL_DIR/$1.part
	mkdir -p "$DL_DIR"
	if command -v curl >/dev/null; then
		curl --fail --silent --location --connect-timeout 10 --continue-at - --output "$part" "$SITE/$1"
	elif command -v wget >/dev/null; then
		wget --quiet --connect-timeout=10 --tries=1 --continue --output-document="$part" "$SITE/$1"
	else
		return 1
	fi && mv "$part" "$DL_DIR/$1"
}

available() {
	if [ -n "${BUILDROOT:-}" ]; then
		if [ ! -e "$BUILDROOT/package/Makefile.in" ]; then
			echo "BUILDROOT=$BUILDROOT is not a Buildroot tree"
			return 1
		fi
		echo "BUILDROOT=$BUILDROOT"
	elif [ -z "$(pinned_hash)" ]; then
		echo "no hash of Buildroot $VERSION is pinned; \`make pin-buildroot\` pins it, BUILDROOT=DIR uses your tree"
		return 1
	elif is_right; then
		echo "Buildroot $VERSION is in ${DL_DIR#"$top/"}/"
	elif ! download "$(basename "$archive")"; then
		echo "Buildroot $VERSION cannot be downloaded from $SITE"
		return 1
	elif ! is_right; then
		echo "the download of Buildroot $VERSION has not the sha256 that support/buildroot.hash pins"
		rm -f "$archive"
		return 1
	else
		echo "Buildroot $VERSION was downloaded to ${DL_DIR#"$top/"}/"
	fi
}

path() {
	local tree=${O:-$top/output}/buildroot-$VERSION
	if [ -n "${BUILDROOT:-}" ]; then
		(cd "$BUILDROOT" && pwd)
		return
	fi
	if [ ! -e "$tree" ]; then
		rm -rf "$tree.new"
		mkdir -p "$tree.new"
		tar -xf "$archive" --strip-components=1 -C "$tree.new"
		mv "$tree.new" "$tree"
	fi
	(cd "$tree" && pwd)
}

# Upstream signs a list of hashes for each release; who trusts that key can pin the release.
pin() {
	local name signed hash
	name=$(basename "$archive")
	signed=$DL_DIR/$name.sign
	if ! { [ -e "$archive" ] || download "$name"; } || ! download "$name.sign"; then
		echo "error: cannot download $SITE/$name and its .sign" >&2
		exit 1
	fi
	gpg --verify "$signed" || {
		echo "error: the signature of $name.sign is not one that your GnuPG trusts; import the Buildroot maintainers' key first (see https://buildroot.org/download.html)" >&2
		exit 1
	}
	hash=$(gpg --decrypt "$signed" 2>/dev/null | sed -n "s/^SHA256: *\([0-9a-f]\{64\}\) .*/\1/p")
	printf '%s  %s\n' "$hash" "$archive" | sha256sum --check --status ||
		{ echo "error: $archive does not have the sha256 that $name.sign lists" >&2; exit 1; }
	printf '# From %s.sign, whose signature was checked.\nsha256  %s  %s\n' "$name" "$hash" "$name" >"$hashes"
	echo "pinned $name in ${hashes#"$top/"}"
}

case ${1:-} in
available | path | pin) "$1" ;;
*)
	echo "usage: buildroot.sh available|path|pin" >&2
	exit 2
	;;
esac
