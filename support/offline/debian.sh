#!/bin/bash
# Prepares a Buildroot build for a place where only a Debian mirror and the crate and Python registries are reachable.
#   debian.sh DEFCONFIG   fills O/offline and the download folder, and prints the path of the configuration to build
# Each file is checked against the sha256 in debian.sources, here and by Buildroot. Neither Buildroot nor this tree is
# changed: Buildroot is told by configuration (BR2_PACKAGE_OVERRIDE_FILE, BR2_GLOBAL_PATCH_DIR, BR2_PRIMARY_SITE).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
defconfig=$1
work=$O/offline
downloads=$DL_DIR/buildroot
ARCH=x86_64
! grep -q '^BR2_aarch64=y' "$top/configs/$defconfig" || ARCH=aarch64
# shellcheck source=support/prebuilt/apt.sh
. "$top/support/prebuilt/apt.sh"

sources() { sed 's/#.*//; /^ *$/d' "$here/debian.sources"; }
has_hash() { printf '%s  %s\n' "$2" "$1" | sha256sum --check --status 2>/dev/null; }
variable() { tr 'a-z-' 'A-Z_' <<<"$1"; }

# fetch FILE ARCHIVE-PATH SHA256: FILE is complete and right, or the build stops here.
fetch() {
	local file=$1 path=$2 hash=$3 archive=main
	! has_hash "$file" "$hash" || return 0
	case $path in pool/updates/*) archive=security ;; esac
	mkdir -p "$(dirname "$file")"
	"/usr/lib/apt/apt-helper" -q -o APT::Sandbox::User= download-file "$(debian_mirror "$archive")/$path" "$file.part" \
		"SHA256:$hash" >"$work/download.log" 2>&1 || {
		sed 's/^/  /' "$work/download.log" >&2
		rm -f "$file.part"
		fail "cannot get $path with the sha256 of support/offline/debian.sources. If the mirror no longer has it, name a newer file there, or give DEBIAN_MIRROR=<a snapshot of the archive>"
	}
	mv "$file.part" "$file"
}

# The name that Buildroot will look for in the download folder.
file_of() {
	case $1 in
	identical) echo "$2" ;;
	other) basename "$3" ;;
	*) fail "support/offline/debian.sources: '$1' is neither identical nor other" ;;
	esac
}

fetch_sources() {
	local how package version path hash
	while read -r how package version path hash; do
		fetch "$downloads/$package/$(file_of "$how" "$version" "$path")" "$path" "$hash"
	done < <(sources)
	fetch_model aios-model-minilm
	fetch_model aios-model-smollm2
}

# Puts a factory model's files into the download folder, under the names of its hash file.
fetch_model() {
	local package=$1 facts=$top/package/$1/model.toml file weights
	file=$(sed -n 's/^file = "\(.*\)"$/\1/p' "$facts")
	weights=$(awk '/^sha256/ { print $3; exit }' "$top/package/$package/$package.hash")
	[ ! -e "$downloads/$package/$weights" ] || return 0
	rm -rf "$work/models"
	DL_DIR=$DL_DIR "$top/support/fetch-model.sh" "$facts" "$work/models" >&2
	mkdir -p "$downloads/$package"
	mv "$work"/models/*/"$file" "$downloads/$package/$weights"
	find "$work/models" -type f ! -name model.toml -exec mv {} "$downloads/$package/" \;
}

# The package's own assignments come later and would win, were it not for `override`.
overrides() {
	local how package version path hash name hashes
	echo "OFFLINE_DIR = $work"
	echo "OFFLINE_RUST = $(rustc --print sysroot)"
	echo "include $here/machine.mk"
	while read -r how package version path hash; do
		[ "$how" = other ] || continue
		name=$(variable "$package")
		echo "override ${name}_VERSION = $version"
		echo "override ${name}_SOURCE = $(basename "$path")"
		# Only this release's hash counts: Buildroot's are of another one, licence texts among them.
		hashes=$work/patches/$package/$package.hash
		echo "override ${name}_HASH_FILES = $hashes"
		echo "override HOST_${name}_HASH_FILES = $hashes"
		mkdir -p "$work/patches/$package"
		printf 'sha256  %s  %s\n' "$hash" "$(basename "$path")" >"$hashes"
	done < <(sources)
}

# What the configuration has otherwise than the defconfig.
settings() {
	cat <<-CONFIG
		BR2_TOOLCHAIN_EXTERNAL=y
		BR2_TOOLCHAIN_EXTERNAL_CUSTOM=y
		BR2_TOOLCHAIN_EXTERNAL_PATH="$work/toolchain-$ARCH"
		BR2_TOOLCHAIN_EXTERNAL_CUSTOM_PREFIX="$ARCH-aios-linux-gnu"
		BR2_TOOLCHAIN_EXTERNAL_GCC_$(toolchain_fact gcc)=y
		BR2_TOOLCHAIN_EXTERNAL_HEADERS_$(toolchain_fact headers)=y
		BR2_TOOLCHAIN_EXTERNAL_CUSTOM_GLIBC=y
		# BR2_TOOLCHAIN_EXTERNAL_INET_RPC is not set
		BR2_TOOLCHAIN_EXTERNAL_OPENMP=y
		BR2_GLOBAL_PATCH_DIR="\$(BR2_EXTERNAL_AIOS_PATH)/patches $work/patches"
		BR2_PACKAGE_OVERRIDE_FILE="$work/override.mk"
		BR2_PRIMARY_SITE="file://$downloads"
		BR2_PRIMARY_SITE_ONLY=y
		BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE="$(sources | awk '$2 == "linux" { print $3 }')"
	CONFIG
}
toolchain_fact() { sed -n "s/^$1=//p" "$work/toolchain-$ARCH/facts"; }

# The defconfig less what is set otherwise, then that. Bootlin's toolchain is a choice, which the other one excludes.
merged() {
	local symbols
	symbols=$(settings | sed -n 's/^\(# \)\?\(BR2_[A-Za-z0-9_]*\).*/\2/p' | paste -sd '|')
	grep -vE "^(# )?($symbols|BR2_TOOLCHAIN_EXTERNAL_BOOTLIN[A-Z0-9_]*)[= ]" "$top/configs/$defconfig"
	settings
}

mkdir -p "$work/empty" "$downloads"
"$top/support/rust-target.sh" "$ARCH-unknown-linux-gnu" >&2
"$here/toolchain.sh" "$ARCH" "$work/toolchain-$ARCH" >&2
fetch_sources
overrides >"$work/override.mk"
merged >"$work/$defconfig"
echo "$work/$defconfig"
