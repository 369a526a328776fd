#!/usr/bin/env bash
# `make bench-inference`: the image's own runtime binary beside Debian's llama.cpp, on the factory model.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$(uname -m)
peer=${PEER_ROOT:-$PWD/output/peer}
benches/peer-llama.sh "$peer"
exec benches/inference.py \
	--runtime "target/$arch-unknown-linux-musl/release/aios-runtime" \
	--model output/images/models/smollm2-135m-instruct/model.gguf \
	--peer-root "$peer" \
	--out output/bench/inference.json "$@"
