#!/bin/bash
# sbom.sh BUILDROOT-TREE BOARD: writes O/images/aios-BOARD.cdx.json, the bill of materials (CycloneDX) of what Buildroot
# built last: Buildroot's packages, and the crates in the programs of package/aios.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
tree=$1 board=$2
output=$O/buildroot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BR2_DL_DIR=$DL_DIR/buildroot

make -s -C "$output" show-info >"$work/info.json"
# Buildroot's program asks the network once for the list of licence names; without it, it gives licences as Buildroot
# spells them.
if ! "$tree/utils/generate-cyclonedx" --in-file "$work/info.json" --out-file "$work/buildroot.json" >"$work/log" 2>&1; then
	mkdir -p "$work/cyclonedx"
	echo '{"enum": []}' | tee "$work/cyclonedx/spdx-1.6.schema.json" >/dev/null
	BR2_DL_DIR=$work "$tree/utils/generate-cyclonedx" --in-file "$work/info.json" --out-file "$work/buildroot.json" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
fi

programs=(aios-init)
! grep -qx BR2_PACKAGE_AIOS_CLI=y "$output/.config" || programs+=(aios)
! grep -qx BR2_PACKAGE_AIOS_RUNTIME=y "$output/.config" || programs+=(aios-runtime)
source=$(find "$output/build" -maxdepth 1 -name 'aios-[0-9]*' -o -maxdepth 1 -name aios-custom | head -n 1)
target=$(find "$source/target" -maxdepth 1 -name '*-linux-*' -printf '%f\n' | head -n 1)
(
	cd "$source"
	CARGO_HOME=$work "$output/host/bin/cargo" metadata --offline --locked --format-version 1 --filter-platform "$target" \
		--config 'source.crates-io.replace-with="vendored"' --config "source.vendored.directory=\"$source/VENDOR\""
) >"$work/metadata.json"
python3 "$top/support/sbom.py" "$work/buildroot.json" "$work/metadata.json" "$source/Cargo.lock" "${programs[@]}" \
	>"$O/images/aios-$board.cdx.json.new"
mv "$O/images/aios-$board.cdx.json.new" "$O/images/aios-$board.cdx.json"
