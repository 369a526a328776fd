#!/usr/bin/env bash
# `make test`, after the image is built: a second assembly gives the same bytes; then unit, property and process tests,
# and the image in namespaces and in QEMU. The last lines are cargo's own.
set -euo pipefail
cd "$(dirname "$0")/.."
O=$(cd "${O:-output}" && pwd)
export O AIOS_TEST_MODEL=${AIOS_TEST_MODEL:-$O/images/models/smollm2-135m-instruct/model.gguf}

SHARE_PROGRAMS=1 support/reproducible.sh
cargo test --locked --workspace --no-fail-fast "$@"
