#!/bin/bash
# lock.sh LIST: pins what packages.LIST wants, and the libraries that those programs link, in LIST.lock: `make lock`.
# LIST is an architecture of boards, or `host`.
# Libraries are found by name (DT_NEEDED), not by the packages' own dependency lists, which would pull in
# maintainer-script machinery that nothing here runs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
DL_DIR=${DL_DIR:-$here/../../dl}
# shellcheck source=support/prebuilt/apt.sh
. "$here/apt.sh"

list=$1
case $list in host) ARCH=$HOST_ARCH ;; *) ARCH=$list ;; esac
wanted=$here/packages.$list
lock=$here/$list.lock
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wanted_of() { awk -v role="$1" '$1 == role { print $2 }' "$wanted"; }

# Downloads and unpacks packages: unpack FOLDER NAME... -> FOLDER/NAME/
unpack() {
	local folder=$1 name deb
	shift
	mkdir -p "$work/debs" "$folder"
	(cd "$work/debs" && private_apt apt-get download "$@" >/dev/null)
	for name in "$@"; do
		deb=$(find "$work/debs" -name "${name}_*.deb" | head -n 1)
		dpkg-deb -x "$deb" "$folder/$name"
	done
}

# "soname file" for everything that the programs and libraries below FOLDER... need.
needed_below() {
	find "$@" -type f \( -perm /111 -o -name '*.so*' \) -print0 | xargs -0r "$here/elf_needed.py" | grep -v '^/' || true
}

has_library() { [ -n "$(find "$@" -name "$needed" -print -quit 2>/dev/null)" ]; }

# Names of the library packages that complete the wanted packages of ROLE, whose trees are in $work/ROLE.
resolve_libraries() {
	local role=$1 missing=1 needed file package candidates=()
	shift
	mapfile -t candidates < <(private_apt apt-cache depends --recurse --no-recommends --no-suggests \
		--no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
		grep -E '^(lib|zlib)' | sort -u)
	unpack "$work/libraries" "${candidates[@]}"
	while [ $missing = 1 ]; do
		missing=0
		needed_below "$work/$role" | sort -u -k1,1 >"$work/needed"
		while read -r needed file; do
			has_library "$work/$role" && continue
			package=
			for candidate in "${candidates[@]}"; do
				has_library "$work/libraries/$candidate" || continue
				package=$candidate
				break
			done
			[ -n "$package" ] || fail "${file#"$work/"} needs $needed, which no dependency of the wanted packages has"
			mv "$work/libraries/$package" "$work/$role/$package"
			missing=1
		done <"$work/needed"
	done
	rm -rf "$work/libraries"
	ls "$work/$role"
}

lock_line() {
	local record
	record=$(package_record "$3") || fail "the suite $DEBIAN_SUITE has no package '$3'"
	printf '%s %s %s\n' "$1" "$2" "$record"
}

apt_update >"$work/update.log" 2>&1 || { cat "$work/update.log" >&2; fail "apt cannot read the suite $DEBIAN_SUITE"; }
{
	echo "# Made by \`make lock\` from packages.$list (Debian $DEBIAN_SUITE)."
	echo "# role wanted-as package version sha256 size archive path"
	for name in $(wanted_of kernel); do lock_line kernel "$name" "$(kernel_package "$name")"; done
	for role in target host; do
		mapfile -t names < <(wanted_of "$role")
		[ ${#names[@]} -gt 0 ] || continue
		unpack "$work/$role" "${names[@]}"
		resolve_libraries "$role" "${names[@]}" >"$work/resolved"
		while read -r name; do lock_line "$role" "$name" "$name"; done <"$work/resolved"
	done
	for name in $(wanted_of boot); do lock_line boot "$name" "$name"; done
} >"$work/lock"
chmod 644 "$work/lock"
mv "$work/lock" "$lock"
echo "$(grep -vc '^#' "$lock") packages pinned in ${lock#"$PWD/"}"
