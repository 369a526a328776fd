#!/bin/bash
# Finishes TARGET_DIR, whichever base filled it: what depends on the version and on the commit.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
target=${1:-$TARGET_DIR}
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")

[ -n "$version" ] || { echo "error: Cargo.toml names no workspace version" >&2; exit 1; }
mkdir -p "$target/usr/lib" "$target/usr/share/aios/models" "$target/var/lib/aios" "$target/run" "$target/tmp"
chmod 1777 "$target/tmp"
cat >"$target/usr/lib/os-release" <<OS
NAME="aiOS"
ID=aios
VERSION_ID=$version
PRETTY_NAME="aiOS $version"
OS
rm -f "$target/etc/os-release"
ln -s ../usr/lib/os-release "$target/etc/os-release"
