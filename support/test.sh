#!/usr/bin/env bash
# `make test`, after the image is built: a second assembly gives the same bytes; then the kernels for the other
# architecture, emulated; then unit, property and process tests, and the image in namespaces and in QEMU. The last lines are
# cargo's own.
set -euo pipefail
cd "$(dirname "$0")/.."
board=$(support/build.sh board)
# shellcheck source=board/x86_64/meta
. "board/$board/meta"
if [ "$ARCH" != "$(uname -m)" ]; then
	echo "error: the tests run programs of the image on this $(uname -m) machine, but the board $board that was built is $ARCH. \`make test-boards\` boots it in QEMU; for the tests choose a board of this machine's: make aios_$(uname -m)_defconfig" >&2
	exit 1
fi
support/host-packages.sh "run-$ARCH" test
O=$(cd "${O:-output}" && pwd)
export O AIOS_TEST_MODEL=${AIOS_TEST_MODEL:-$O/images/models/smollm2-135m-instruct/model.gguf}
if [ -z "${AIOS_TEST_GEMMA:-}" ]; then
	MODEL_URL='' support/fetch-model.sh support/test-models/gemma3-270m.toml "$O/test-models"
	AIOS_TEST_GEMMA=$O/test-models/gemma3-270m/model.gguf
fi
export AIOS_TEST_GEMMA

# On the Buildroot base a second assembly is a second build of everything: `make reproducible` is for that.
if [ "$(support/build.sh base)" = prebuilt ]; then SHARE_PROGRAMS=1 support/reproducible.sh; fi
support/test-kernels.sh
cargo test --locked --workspace --no-fail-fast "$@"
