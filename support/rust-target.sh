#!/bin/bash
# Makes sure that the Rust toolchain has the standard library of target $1.
set -euo pipefail
target=$1
if ! command -v cargo >/dev/null; then
	echo "error: there is no Rust toolchain (cargo) in PATH; install one with rustup (https://rustup.rs)" >&2
	exit 1
fi
[ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || exit 0
if ! command -v rustup >/dev/null; then
	echo "error: this Rust toolchain has no target $target, and there is no rustup to add it" >&2
	exit 1
fi
echo ">>> adding the Rust target $target"
rustup target add "$target"
