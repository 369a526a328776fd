#!/usr/bin/env bash
# `make bench-inference`: the image's own runtime binary beside Debian's llama.cpp, on the factory model.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$(uname -m)
O=$(cd "${O:-output}" && pwd)
peer=${PEER_ROOT:-$O/peer}
benches/peer-llama.sh "$peer"
exec benches/inference.py \
	--runtime "target/$arch-unknown-linux-musl/release/aios-runtime" \
	--model "$O/images/models/smollm2-135m-instruct/model.gguf" \
	--peer-root "$peer" \
	--out "$O/bench/inference.json" "$@"
