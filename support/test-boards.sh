#!/usr/bin/env bash
# `make test-boards`: builds the boards of another architecture than this machine's that QEMU can start by UEFI, each into an
# output folder of its own, and boots their images. Not in `make test`, because each takes a compilation of all programs.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${O:=output}"
output=$(cd "$O" && pwd)

for facts in board/*/meta; do
	# shellcheck source=board/x86_64/meta
	. "$facts"
	case $FIRMWARE in *uefi*) ;; *) continue ;; esac
	[ "$ARCH" != "$(uname -m)" ] || continue
	echo ">>> board $BOARD"
	export O=$output/boards/$BOARD DEFCONFIG=aios_${BOARD}_defconfig
	support/build.sh image
	support/host-packages.sh "run-$ARCH"
	cargo test --locked -p aios-image-tests --test boards -- --ignored "${BOARD}::" "$@"
done
