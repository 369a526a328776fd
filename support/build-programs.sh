#!/bin/bash
# Compiles the programs of the image: static, and the same bytes wherever the tree and cargo's home lie.
# Leaves them in $1, and cargo decides what there is to do.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
destination=$1
target=${RUST_TARGET:-x86_64-unknown-linux-musl}
target_dir=${CARGO_TARGET_DIR:-$top/target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
separator=$'\x1f'

export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$target_dir=/build${separator}--remap-path-prefix=$top=/aios${separator}--remap-path-prefix=$cargo_home=/cargo"
unset RUSTFLAGS
# shellcheck source=support/c-compiler.sh
. "$top/support/c-compiler.sh"
c_compiler "$target"
# For another architecture Rust brings all that linking takes: its musl, its lld.
if [ "${target%%-*}" != "$(uname -m)" ]; then
	CARGO_ENCODED_RUSTFLAGS+="${separator}-Clinker=rust-lld"
fi
cd "$top"
programs=(aios aios-init aios-runtime)
cargo build --release --locked --target "$target" --target-dir "$target_dir" "${programs[@]/#/-p=}" \
	--message-format=json-render-diagnostics | support/check_programs.py "${programs[@]}"
mkdir -p "$destination"
for program in "${programs[@]}"; do
	cmp -s "$target_dir/$target/release/$program" "$destination/$program" ||
		install -m 755 "$target_dir/$target/release/$program" "$destination/$program"
done
