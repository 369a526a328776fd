# shellcheck shell=bash
# Debian packages of one pinned suite, whatever release and architecture the build machine has: apt in a private root for
# each architecture, with the machine's own mirror, proxy and certificate settings. Sourced; needs DL_DIR and, at each
# call of apt, ARCH.

DEBIAN_SUITE=trixie
DEBIAN_KEYRING=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# The architecture of the programs that assemble images; host-tools.sh refuses other build machines.
# shellcheck disable=SC2034 # for the scripts that source this one
HOST_ARCH=x86_64

# APT_ROOT names another private root, for another suite.
apt_root() { printf '%s\n' "${APT_ROOT:-$DL_DIR/apt-$ARCH}"; }

debian_arch() {
	case $ARCH in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) fail "no Debian architecture is known for '$ARCH'" ;;
	esac
}

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# Every archive address in the machine's apt configuration, in order: deb822 files and one-line files.
apt_uris() {
	local file
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -e "$file" ] || continue
		awk '/^URIs:/ { for (i = 2; i <= NF; i++) print $i }' "$file"
	done
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -e "$file" ] || continue
		sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' "$file"
	done
}

# Address of the archive `main` (Debian itself) or `security`.
debian_mirror() {
	local main security
	main=${DEBIAN_MIRROR:-$(apt_uris | grep -E '/debian/?$' | head -n 1)}
	[ -n "$main" ] || fail "this machine's apt configuration names no Debian mirror; give one: make DEBIAN_MIRROR=<address>"
	main=${main%/}
	if [ "$1" = main ]; then
		printf '%s\n' "$main"
		return
	fi
	security=${DEBIAN_SECURITY_MIRROR:-}
	[ -n "$security" ] || [ -n "${DEBIAN_MIRROR:-}" ] || security=$(apt_uris | grep -E '/debian-security/?$' | head -n 1)
	security=${security:-$main-security}
	printf '%s\n' "${security%/}"
}

# private_apt PROGRAM ARG...: PROGRAM (apt-get, apt-cache, /usr/lib/apt/apt-helper) on the private root.
private_apt() {
	local program=$1 root
	root=$(apt_root)
	shift
	"$program" -q \
		-o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::Etc::preferencesparts="$root/none" \
		-o Dir::State::lists="$root/lists" -o Dir::State::status="$root/status" \
		-o Dir::Cache="$root/cache" -o APT::Architecture="$(debian_arch)" \
		-o APT::Architectures="$(debian_arch)" -o APT::Sandbox::User="" \
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
		-o Acquire::Retries=3 -o APT::Update::Post-Invoke::= "$@"
}

# Makes the private root, so that apt starts in it.
apt_prepare() {
	local root
	root=$(apt_root)
	mkdir -p "$root/none" "$root/lists/partial" "$root/cache/archives/partial"
	[ -e "$root/sources.list" ] || : >"$root/sources.list"
	: >"$root/status"
}

# Refreshes the private root's package lists; apt checks the archive's signature with Debian's keyring.
apt_update() {
	local option="[signed-by=$DEBIAN_KEYRING]" components="main non-free-firmware" main security
	[ -e "$DEBIAN_KEYRING" ] || fail "$DEBIAN_KEYRING is missing: install debian-archive-keyring"
	main=$(debian_mirror main)
	security=$(debian_mirror security)
	apt_prepare
	cat >"$(apt_root)/sources.list" <<-LIST
		deb $option $main $DEBIAN_SUITE $components
		deb $option $main $DEBIAN_SUITE-updates $components
		deb $option $security $DEBIAN_SUITE-security $components
	LIST
	private_apt apt-get update
}

# package_record NAME: "name version sha256 size archive path" of the version the suite has now.
package_record() {
	private_apt apt-cache show --no-all-versions "$1" | awk '
		/^Package:/ { name = $2 } /^Version:/ { version = $2 } /^SHA256:/ { hash = $2 }
		/^Size:/ { size = $2 } /^Filename:/ { path = $2 }
		END {
			if (path == "") exit 1
			archive = path ~ /^pool\/updates\// ? "security" : "main"
			print name, version, hash, size, archive, path
		}'
}

# kernel_package META: the kernel that the metapackage META stands for now.
kernel_package() {
	private_apt apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -n 1
}
