#!/bin/bash
# `make fuzz`: damages GGUF files of each family and tokenizer for FUZZ_SECONDS (half an hour), and loads, converts and asks
# what is left of them. An input that makes the programs panic, or take memory or time that it does not justify, is left
# in $O/fuzz. FUZZ_SEED= makes a run again.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${O:=output}/fuzz"
FUZZ_OUT=$(cd "$O/fuzz" && pwd)
FUZZ_SECONDS=${FUZZ_SECONDS:-1800}
FUZZ_SEED=${FUZZ_SEED:-$(date +%s)}
export FUZZ_OUT FUZZ_SECONDS FUZZ_SEED
model=$(find "$(cd "$O" && pwd)/images/models" -name model.gguf -print -quit 2>/dev/null || true)
[ -z "$model" ] || export AIOS_TEST_MODEL=${AIOS_TEST_MODEL:-$model}
# Symbols for the errors of refused files would take most of the time.
export RUST_BACKTRACE=0
# It takes what other work leaves of the processors.
exec nice -n 19 cargo test --locked -p aios-runtime --test fuzz_gguf -- --nocapture
