#!/usr/bin/env bash
# `make test-boards`: builds the boards that crates/aios-image-tests/tests/boards.rs has a module for, each into an output
# folder of its own, and boots their images in QEMU. Not in `make test`, because these are of another architecture than
# most machines, for which all programs are compiled again. BOARDS="rpi4 ..." takes these alone.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${O:=output}"
output=$(cd "$O" && pwd)
tests=crates/aios-image-tests/tests/boards.rs

for board in ${BOARDS:-$(sed -n 's/^mod \(.*\) {$/\1/p' "$tests")}; do
	if [ ! -e "board/$board/meta" ] || ! grep -q "^mod $board {" "$tests"; then
		echo "error: BOARDS: no board '$board' has tests in $tests" >&2
		exit 1
	fi
	# shellcheck source=board/x86_64/meta
	. "board/$board/meta"
	echo ">>> board $BOARD"
	export O=$output/boards/$BOARD DEFCONFIG=aios_${BOARD}_defconfig
	support/build.sh image
	support/host-packages.sh "run-$ARCH"
	cargo test --locked -p aios-image-tests --test boards -- --ignored "${BOARD}::" "$@"
done
