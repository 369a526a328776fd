#!/bin/bash
# `make test-injection`: AgentDojo's attacks, and others, on a model that obeys every one of them, at the real tools
# (docs/injection.md). EVERY=N takes each N-th attack only, SUITES="banking slack" only these suites. Needs root: the
# mails, pages and files are in namespaces of mounts and network of their own, and the agents are users.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "make test-injection: needs root, for namespaces and users of its own: sudo make test-injection" >&2
	exit 1
fi
support/host-packages.sh build venv injection
here=benches/injection
mkdir -p "${O:=output}/injection"
venv=$O/injection/venv
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r "$here/requirements.txt"
	cp "$here/requirements.txt" "$venv/requirements.txt"
fi
# As the tests build it, so that nothing is compiled twice.
cargo build --locked --quiet --workspace --bin aios
program=${CARGO_TARGET_DIR:-target}/debug/aios
# shellcheck disable=SC2086 # a list
PYTHONDONTWRITEBYTECODE=1 exec unshare --mount --net "$venv/bin/python" "$here/injection.py" "$(realpath "$program")" \
	--every "${EVERY:-1}" --out "$O/injection" ${SUITES:+--suites $SUITES}
