#!/usr/bin/env python3
"""Adds the crates in this product's programs to a CycloneDX bill of materials.

usage: sbom.py BUILDROOT.json METADATA.json Cargo.lock PROGRAM... > merged.json

BUILDROOT.json is what Buildroot's generate-cyclonedx wrote, METADATA.json the output of `cargo metadata`, PROGRAM the
crates that are installed. Crates that only build or test something are left out; what a procedural macro or a build
script needs counts as building.
"""

import json
import sys
import tomllib

PRODUCT = "aios"


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def shipped(metadata, programs):
    """Ids of the packages that are compiled into the programs, with what each needs."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        package["id"]
        for package in metadata["packages"]
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    waiting = [package["id"] for package in metadata["packages"] if package["name"] in programs]
    if len(waiting) != len(programs):
        sys.exit(f"error: not all of {', '.join(programs)} are crates of this workspace")
    needs = {}
    while waiting:
        package = waiting.pop()
        if package in needs:
            continue
        needs[package] = [
            dependency["pkg"]
            for dependency in nodes[package]["deps"]
            if dependency["pkg"] not in macros and any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
        waiting += needs[package]
    return needs


def component(package, checksums):
    entry = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
    }
    if package.get("license"):
        # Older crates separate alternatives with a slash.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        bill = json.load(file)
    with open(sys.argv[2], encoding="utf-8") as file:
        metadata = json.load(file)
    with open(sys.argv[3], "rb") as file:
        lock = tomllib.load(file)
    programs = sys.argv[4:]

    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    needs = shipped(metadata, programs)
    order = sorted(needs, key=lambda package: reference(packages[package]))
    bill.setdefault("components", []).extend(component(packages[package], checksums) for package in order)

    dependencies = bill.setdefault("dependencies", [])
    dependencies.extend(
        {
            "ref": reference(packages[package]),
            "dependsOn": sorted({reference(packages[needed]) for needed in needs[package]}),
        }
        for package in order
    )
    roots = sorted(reference(packages[package]) for package in order if packages[package]["name"] in programs)
    product = next((entry for entry in dependencies if entry["ref"] == PRODUCT), None)
    if product is None:
        sys.exit(f"error: {sys.argv[1]} has no package {PRODUCT}")
    product["dependsOn"] = sorted(set(product.get("dependsOn", [])) | set(roots))
    json.dump(bill, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
