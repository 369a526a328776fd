#!/bin/bash
# host-packages.sh SET...: installs the Debian packages that this machine lacks for the named sets. It asks first on a
# terminal; with YES=1 or CI=true it does not ask; without a terminal and without these it stops and names the command.
set -euo pipefail

# What each set needs: "package command-or-file that shows it is there".
packages_of() {
	case $1 in
	build)
		echo 'git git'
		echo 'ca-certificates /etc/ssl/certs/ca-certificates.crt'
		echo 'gcc cc'
		echo 'libc6-dev /usr/include/stdio.h'
		echo 'python3-pip :pip'
		;;
	# Programs for another architecture than this machine's.
	cross-aarch64)
		echo 'gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc'
		echo 'libc6-dev-arm64-cross /usr/aarch64-linux-gnu/include/stdio.h'
		;;
	cross-x86_64)
		echo 'gcc-x86-64-linux-gnu x86_64-linux-gnu-gcc'
		echo 'libc6-dev-amd64-cross /usr/x86_64-linux-gnu/include/stdio.h'
		;;
	# A machine of the chosen board's architecture in QEMU.
	run-x86_64)
		echo 'qemu-system-x86 qemu-system-x86_64'
		echo 'qemu-utils qemu-img'
		echo 'ovmf /usr/share/OVMF/OVMF_CODE_4M.fd'
		;;
	run-aarch64)
		echo 'qemu-system-arm qemu-system-aarch64'
		echo 'qemu-utils qemu-img'
		echo 'qemu-efi-aarch64 /usr/share/AAVMF/AAVMF_CODE.fd'
		;;
	check)
		echo 'git git'
		echo 'python3 python3'
		echo 'shellcheck shellcheck'
		;;
	check-package)
		echo 'python3-magic /usr/lib/python3/dist-packages/magic'
		echo 'python3-flake8 /usr/lib/python3/dist-packages/flake8'
		;;
	test)
		echo 'python3-venv :venv'
		# The firewall's tests load rules, in network namespaces of their own.
		echo 'nftables /usr/sbin/nft'
		echo 'git git'
		# Approval over MQTT is tried with a real broker.
		echo 'mosquitto /usr/sbin/mosquitto'
		;;
	# Python programs from the package index, in an environment of their own.
	venv) echo 'python3-venv :venv' ;;
	injection) echo 'iproute2 ip' ;;
	# Programs of the other architecture.
	emulate) echo 'qemu-user-static :emulator' ;;
	buildroot)
		for command in bc bzip2 cpio file g++ patch perl python3 rsync unzip wget xz; do
			case $command in xz) echo 'xz-utils xz' ;; *) echo "$command $command" ;; esac
		done
		;;
	offline)
		echo 'dpkg-dev dpkg-deb'
		for command in bison fakeroot flex gawk genimage kmod m4 patchelf pkgconf xorriso; do echo "$command $command"; done
		echo 'qemu-utils qemu-img'
		echo 'libelf-dev /usr/include/libelf.h'
		echo 'libssl-dev /usr/include/openssl/evp.h'
		;;
	lock) echo 'python3 python3' ;;
	*)
		echo "error: unknown set of packages '$1'" >&2
		exit 2
		;;
	esac
}

is_there() {
	case $1 in
	:pip) python3 -m pip --version >/dev/null 2>&1 || /usr/bin/python3 -m pip --version >/dev/null 2>&1 ;;
	:emulator) command -v qemu-aarch64-static >/dev/null || command -v qemu-aarch64 >/dev/null ;;
	:venv) python3 -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

missing=()
for set in "$@"; do
	while read -r package sign; do
		is_there "$sign" || missing+=("$package")
	done < <(packages_of "$set")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
install=("${as_root[@]}" apt-get install --yes --no-install-recommends "${missing[@]}")

if ! command -v apt-get >/dev/null; then
	echo "error: this machine lacks ${missing[*]} (names of Debian packages) and has no apt-get; install them with its own package manager" >&2
	exit 1
fi
if [ "${#as_root[@]}" -gt 0 ] && ! command -v sudo >/dev/null; then
	echo "error: this machine lacks ${missing[*]}, and there is no sudo; as root: apt-get update && ${install[*]:1}" >&2
	exit 1
fi
if [ "${YES:-}" != 1 ] && [ "${CI:-}" != true ]; then
	if [ ! -t 0 ]; then
		echo "error: this machine lacks ${missing[*]}. Install them (${as_root[*]:+sudo }apt-get update && ${install[*]}), or let the build do so with YES=1" >&2
		exit 1
	fi
	echo "This machine lacks: ${missing[*]}"
	read -r -p "Install with '${install[*]}'? [Y/n] " answer
	case $answer in '' | [Yy]*) ;; *)
		echo "error: cannot go on without ${missing[*]}" >&2
		exit 1
		;;
	esac
fi
echo ">>> installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q >/dev/null
"${install[@]}" >/dev/null
