#!/bin/bash
# vm.sh VERB ARG...: aios-vm on the images in O, after making sure of QEMU, its firmware and the tool itself.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
O=${O:-$top/output}
tool=${CARGO_TARGET_DIR:-$top/target}/release/aios-vm

"$top/support/host-packages.sh" run
cd "$top"
quiet=()
if [ -x "$tool" ]; then quiet=(--quiet); fi
cargo build "${quiet[@]}" --release --locked -p aios-vm
exec "$tool" --output "$O" "$@"
