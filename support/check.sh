#!/usr/bin/env bash
# `make check`: everything that can be said of the tree without building an image.
# With BUILDROOT=DIR also Buildroot's own check-package, and the order of the defconfigs' lines.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${O:=output}"
O=$(cd "$O" && pwd)
export BUILD_DIR=${BUILD_DIR:-$O/check}
TOOLS=${TOOLS:-$O/tools}
CARGO_DENY=0.20.2
# shellcheck source=support/stage.sh
. support/stage.sh
# shellcheck source=support/c-compiler.sh
. support/c-compiler.sh

check_clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

# What boards of another architecture than this machine's are built for. Nothing is linked.
other_targets() { sed -n 's/^RUST_TARGET=//p' board/*/meta | grep -v "^$(uname -m)-" | sort -u; }

check_other_targets() {
	local target
	for target in $(other_targets); do
		support/rust-target.sh "$target"
		support/host-packages.sh "cross-${target%%-*}"
		c_compiler "$target"
		cargo clippy --workspace --locked --target "$target" -- -D warnings
	done
}

# Licences, sources and banned crates need no network; the advisory database is fetched, and where it can't be, that is said.
check_deny() {
	local deny=$TOOLS/bin/cargo-deny
	if ! "$deny" --version 2>/dev/null | grep -q " $CARGO_DENY\$"; then
		cargo install --locked --quiet --debug --root "$TOOLS" "cargo-deny@$CARGO_DENY"
	fi
	"$deny" --log-level error check bans licenses sources
	local log=$BUILD_DIR/advisories.log
	if "$deny" check advisories >"$log" 2>&1; then
		return 0
	fi
	if grep -q 'failed to fetch advisory database' "$log"; then
		echo "note: the advisory database can't be reached from here: advisories were not checked"
		return 0
	fi
	cat "$log"
	return 1
}

check_shell() {
	local scripts
	mapfile -t scripts < <(git ls-files | xargs -r -d '\n' grep -lE '^#!.*\b(ba)?sh\b|^# shellcheck shell=' -- 2>/dev/null)
	shellcheck -x "${scripts[@]}"
}

check_benches() { PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover -s benches; }

check_docs() {
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items
	python3 support/check_links.py
}

# Of the kernel that Buildroot built last, where it has built one.
check_kernel() {
	local config fragments
	config=$(find "$buildroot_output/build" -mindepth 2 -maxdepth 2 -path '*/linux-[0-9]*/.config' -print -quit)
	fragments=$(sed -n 's/^BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES="\(.*\)"$/\1/p' "$buildroot_output/.config")
	# shellcheck disable=SC2086,SC2016 # a list of files below Buildroot's name for this folder
	support/kernel-config.sh "$config" ${fragments//'$(BR2_EXTERNAL_AIOS_PATH)'/$PWD}
}

check_package() {
	local files
	mapfile -t files < <(git ls-files Config.in external.mk external.desc configs package patches)
	support/host-packages.sh check-package
	# Its modules are Debian's, which another Python on the PATH does not see.
	/usr/bin/python3 "$BUILDROOT/utils/check-package" -b "${files[@]}"
}

buildroot_output=${O:-$PWD/output}/buildroot
stages=8
[ -z "${BUILDROOT:-}" ] || stages=$((stages + 1))
has_kernel=$(find "$buildroot_output/build" -mindepth 2 -maxdepth 2 -path '*/linux-[0-9]*/.stamp_configured' -print -quit 2>/dev/null || true)
[ -z "$has_kernel" ] || stages=$((stages + 1))
stage_total "$stages"
stage "format (cargo fmt)" "" -- cargo fmt --all --check
stage "lints (clippy)" "" -- check_clippy
stage "lints for $(other_targets | paste -sd ' ') (clippy)" "" -- check_other_targets
stage "dependencies (cargo-deny)" "" -- check_deny
stage "shell scripts (shellcheck)" "" -- check_shell
stage "benchmark scripts (unittest)" "" -- check_benches
stage "documentation (rustdoc, links)" "" -- check_docs
stage "defconfigs" "" -- support/configs.sh check
[ -z "$has_kernel" ] || stage "kernel options" "" -- check_kernel
if [ -n "${BUILDROOT:-}" ]; then
	stage "Buildroot files (check-package)" "" -- check_package
else
	echo "note: Buildroot's check-package runs with BUILDROOT=DIR"
fi
