#!/usr/bin/env bash
# `make bench-inference`: the image's own runtime binary beside Debian's llama.cpp and stock candle, on the factory model,
# the same model in another format, and a model of tests. Arguments go to benches/inference.py.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
arch=$(uname -m)
O=$(cd "${O:-output}" && pwd)
target_dir=${CARGO_TARGET_DIR:-$top/target}
programs=$target_dir/$arch-unknown-linux-musl/release
factory=$O/images/models/smollm2-135m-instruct/model.gguf
peer=${PEER_ROOT:-$O/peer}

# A measure of speed alone: the values were rounded to Q4_1 before, so that it answers no better than the factory model.
requantized() {
	local folder=$O/bench/models id=smollm2-135m-q8_0
	if [ ! "$folder/$id/model.gguf" -nt "$factory" ]; then
		rm -rf "${folder:?}/$id"
		mkdir -p "$folder"
		printf '[models]\ndirectory = "%s"\nkeys = "%s/keys"\nreserve = "0B"\n' "$folder" "$O/bench" >"$O/bench/aios.toml"
		"$programs/aios" model convert --config "$O/bench/aios.toml" --format q8_0 --id "$id" "$factory" >&2
	fi
	echo "$folder/$id/model.gguf"
}

# Compiled as candle says that it should be, for this machine: it chooses its instructions at compile time.
stock_candle() {
	RUSTFLAGS=-Ctarget-cpu=native cargo build --quiet --release --locked --target-dir "$target_dir/stock" \
		-p aios-runtime --example candle
}

benches/peer-llama.sh "$peer"
candle=()
if [[ "$*" != *--only* || "$*" == *candle* ]]; then
	stock_candle
	candle=(--candle "$target_dir/stock/release/examples/candle")
fi
q8_0=$(requantized)
MODEL_URL='' support/fetch-model.sh support/test-models/gemma3-270m.toml "$O/test-models"
exec benches/inference.py \
	--runtime "$programs/aios-runtime" \
	"${candle[@]}" \
	--model smollm2-135m-q4_1="$factory" \
	--model smollm2-135m-q8_0="$q8_0" \
	--model gemma3-270m-q4_k_m="$O/test-models/gemma3-270m/model.gguf" \
	--peer-root "$peer" \
	--out "$O/bench/inference.json" "$@"
