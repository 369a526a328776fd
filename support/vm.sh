#!/bin/bash
# vm.sh VERB ARG...: aios-vm on the chosen board's images in O, after making sure of QEMU, its firmware and the tool itself.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
O=${O:-$top/output}
tool=${CARGO_TARGET_DIR:-$top/target}/release/aios-vm

board=$("$top/support/build.sh" board)
# shellcheck source=board/x86_64/meta
. "$top/board/$board/meta"
"$top/support/host-packages.sh" "run-$ARCH"
cd "$top"
quiet=()
if [ -x "$tool" ]; then quiet=(--quiet); fi
cargo build "${quiet[@]}" --release --locked -p aios-vm
exec "$tool" --output "$O" --board "$BOARD" --arch "$ARCH" --board-firmware "$FIRMWARE" "$@"
