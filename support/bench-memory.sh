#!/usr/bin/env bash
# `make bench-memory`: search among embeddings beside chromadb, sqlite-vec and usearch, which come from the package index into
# an environment of their own. VECTORS=10000,100000 leaves out the million, whose peers take most of an hour; further
# arguments go to benches/memory.py.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
support/host-packages.sh build venv
mkdir -p "${O:=output}/bench"
peers=${PEER_VENV:-$O/bench/peers}
if [ ! -x "$peers/bin/python" ]; then
	python3 -m venv "$peers.new"
	"$peers.new/bin/pip" install --quiet numpy apsw chromadb==1.5.9 sqlite-vec==0.1.9 usearch==2.26.6
	rm -rf "$peers"
	mv "$peers.new" "$peers"
fi
cargo build --locked --quiet --release -p aios-vectors --example bench
exec "$peers/bin/python" benches/memory.py \
	--program "${CARGO_TARGET_DIR:-$top/target}/release/examples/bench" \
	--folder "$O/bench" --out "$O/bench/memory.json" --vectors "${VECTORS:-10000,100000,1000000}" "$@"
