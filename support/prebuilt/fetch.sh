#!/bin/bash
# Brings every package of host.lock and ARCH.lock into DL_DIR/debs and writes "role package file" lines to the manifest $1.
# A file counts only once its sha256 is the pinned one; it is downloaded under partial/ and then renamed, so that an
# interrupted run leaves nothing half and the next one resumes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=support/prebuilt/apt.sh
. "$here/apt.sh"

manifest=$1
locks=("$here/host.lock" "$here/$ARCH.lock")
debs=$DL_DIR/debs
partial=$debs/partial

locked() { grep -hv '^#' "${locks[@]}"; }

# A package that several roles name is one file.
each_file() { locked | sort -u -k8,8; }

sha256_is() { [ -e "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status; }

# Downloads what is not there yet, in one run of apt's own downloader; a file that the mirror lacks is left out.
download_missing() {
	local package hash archive path file request=() main='' security=''
	while read -r _ _ package _ hash _ archive path; do
		file=$(basename "$path")
		sha256_is "$debs/$file" "$hash" && continue
		if [ -z "$main" ]; then main=$(debian_mirror main); security=$(debian_mirror security); fi
		request+=("${!archive}/$path" "$partial/$file" "")
	done < <(each_file)
	[ ${#request[@]} -gt 0 ] || return 0
	echo "downloading $((${#request[@]} / 3)) packages"
	private_apt /usr/lib/apt/apt-helper download-file "${request[@]}" 2>&1 || true
}

# Moves downloads whose hash is right into place; one that differs ends the build and names the package.
accept_downloads() {
	local package version hash path file found
	while read -r _ _ package version hash _ _ path; do
		file=$(basename "$path")
		[ -e "$partial/$file" ] || continue
		if sha256_is "$partial/$file" "$hash"; then
			mv "$partial/$file" "$debs/$file"
		else
			found=$(sha256sum <"$partial/$file" | cut -c1-64)
			rm -f "$partial/$file"
			fail "package $package $version: the mirror's file $path has sha256 $found, but the lock file pins $hash. Nothing was used of it; try another mirror (DEBIAN_MIRROR=), or look at \`make lock\` and its difference"
		fi
	done < <(each_file)
}

# current_package ROLE NAME WANTED: downloads the suite's present version (apt checks the signed index) and prints its file.
current_package() {
	local name=$2 file
	case $1 in
	host) local ARCH=$HOST_ARCH ;;
	kernel) name=$(kernel_package "$3") ;;
	esac
	(cd "$partial" && private_apt apt-get download "$name" >&2) || fail "package $name: the mirror has neither the pinned nor a current version"
	file=$(find "$partial" -name "${name}_*.deb" -printf '%f\n' | head -n 1)
	mv "$partial/$file" "$debs/$file"
	echo "$file"
}

# Of both architectures that packages are for.
update_indexes() { host_apt_update && { [ "$ARCH" = "$HOST_ARCH" ] || apt_update; }; }

host_apt_update() {
	local ARCH=$HOST_ARCH
	apt_update
}

write_manifest() {
	local role wanted package version hash path file gone=()
	while read -r role wanted package version hash _ _ path; do
		file=$(basename "$path")
		if ! sha256_is "$debs/$file" "$hash"; then
			if [ ${#gone[@]} -eq 0 ]; then
				update_indexes || fail "the mirror lacks $file, and apt cannot read the suite $DEBIAN_SUITE to find a current version; is the network there?"
			fi
			file=$(current_package "$role" "$package" "$wanted")
			gone+=("$package $version -> $file")
		fi
		echo "$role $package $file"
	done < <(locked) >"$manifest.new"
	mv "$manifest.new" "$manifest"
	if [ ${#gone[@]} -gt 0 ]; then
		printf 'note: the mirror no longer has %d pinned packages; took the current ones of %s, verified by the archive'\''s signature (%s). make lock refreshes the lock\n' \
			${#gone[@]} "$DEBIAN_SUITE" "$(IFS=,; echo "${gone[*]}")"
	fi
}

mkdir -p "$partial" "$(dirname "$manifest")"
apt_prepare
download_missing
accept_downloads
write_manifest
