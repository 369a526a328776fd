#!/bin/bash
# sbom.sh FILE: writes the bill of materials (CycloneDX) of an image of the prebuilt base: the Debian packages of ARCH.lock
# that are in it, and the crates in its programs. Without times and serial numbers, so that two builds give the same bytes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
file=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $ARCH in
x86_64) debian_arch=amd64 ;;
aarch64) debian_arch=arm64 ;;
esac

# The lock's lines: role wanted-as package version sha256 size archive path.
grep -v '^#' "$here/$ARCH.lock" | awk -v arch="$debian_arch" '
	BEGIN { printf "{\n\"bomFormat\": \"CycloneDX\",\n\"specVersion\": \"1.6\",\n\"version\": 1,\n\"components\": [\n" }
	{
		reference = "pkg:deb/debian/" $3 "@" $4 "?arch=" arch
		gsub(/\+/, "%2B", reference)
		separator = NR > 1 ? ",\n" : ""
		printf "%s{\"type\": \"library\", \"bom-ref\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", \"purl\": \"%s\", ", separator, reference, $3, $4, reference
		printf "\"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]}", $5
		references = references (NR > 1 ? ", " : "") "\"" reference "\""
	}
	END { printf "\n],\n\"dependencies\": [{\"ref\": \"aios\", \"dependsOn\": [%s]}]\n}\n", references }' >"$work/debian.json"
(cd "$top" && cargo metadata --locked --format-version 1 --filter-platform "$RUST_TARGET") >"$work/metadata.json"
python3 "$top/support/sbom.py" "$work/debian.json" "$work/metadata.json" "$top/Cargo.lock" aios aios-init aios-runtime >"$work/sbom.json"
install -D -m 644 "$work/sbom.json" "$file"
