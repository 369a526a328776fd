#!/bin/bash
# The kernels' tests for the architecture that this machine is not, emulated: so no change breaks the vector instructions
# of the other one unseen. The tests go over all instruction sets that the emulated processor has.
set -euo pipefail
cd "$(dirname "$0")/.."
# $last is the last set of those that QEMU 7.2 has: it knows neither AVX-VNNI nor AVX-512.
case $(uname -m) in
aarch64) other=x86_64 last=avx2 ;;
*) other=aarch64 last=i8mm ;;
esac
target=$other-unknown-linux-musl
support/host-packages.sh emulate
support/rust-target.sh "$target"
emulator=$(command -v "qemu-$other-static" || command -v "qemu-$other")

variables=CARGO_TARGET_${other^^}_UNKNOWN_LINUX_MUSL
# Rust brings all that linking takes (its musl, its lld).
export "${variables}_RUSTFLAGS=-Clinker=rust-lld" "${variables}_RUNNER=$emulator -cpu max" AIOS_TEST_ISA=$last
echo ">>> kernels for $other in $emulator"
cargo test --locked -p aios-kernels --target "$target" "$@"
