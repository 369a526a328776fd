#!/usr/bin/env bash
# `make test`, after the image is built: unit, property and process tests, then the image in namespaces and in QEMU.
# The last lines are cargo's own.
set -euo pipefail
cd "$(dirname "$0")/.."
export AIOS_TEST_MODEL=${AIOS_TEST_MODEL:-$PWD/output/images/models/smollm2-135m-instruct/model.gguf}

cargo test --locked --workspace --no-fail-fast "$@"
