#!/bin/bash
# Makes O/aios-VERSION.tar.gz of the last commit: this tree with all crates in it. Unpacked, it builds with Buildroot as
# any checkout does, without a crate registry. The same commit gives the same bytes.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
O=${O:-$top/output}
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")
name=aios-$version
date=$("$top/support/source-date.sh")
mkdir -p "$O"
work=$(mktemp -d "$O/release.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ -n "$(git -C "$top" status --porcelain)" ]; then
	echo "note: the tarball has the last commit; what is not committed is not in it" >&2
fi
mkdir "$work/$name"
git -C "$top" archive --format=tar HEAD | tar -x -C "$work/$name"

# The names are those that package/aios gives what it vendors itself; it vendors nothing where they are there.
(
	cd "$work/$name"
	cargo vendor --locked VENDOR >"$work/vendor.log" 2>&1 || { cat "$work/vendor.log" >&2; exit 1; }
	cp Cargo.lock .vendor.lock
)

# The commit's date takes the place of the folder's, which support/source-date.sh has no repository to ask for.
touch --date="@$date" "$work/$name/Cargo.lock"
tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$date" --format=posix \
	--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -C "$work" -cf "$work/$name.tar" "$name"
gzip -9 --no-name "$work/$name.tar"
mv "$work/$name.tar.gz" "$O/$name.tar.gz"
(cd "$O" && sha256sum "$name.tar.gz")
