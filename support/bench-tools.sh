#!/bin/bash
# `make bench-tools`: what a call of a tool costs, part by part. The ledger is measured in memory (/dev/shm), where a commit
# costs no disk's time, and in $O, where it does. The sandbox needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${O:=output}/bench"
bench() { cargo run --locked --quiet --release -p "$1" --example bench -- "${@:2}"; }
echo "== ledger, in memory"
bench aios-ledger /dev/shm "${ENTRIES:-200000}"
echo "== ledger, on this disk"
bench aios-ledger "$O/bench" "${ENTRIES_ON_DISK:-2000}"
echo "== tokens and decisions"
bench aios-policy
echo "== sandbox"
bench aios-sandbox
