#!/usr/bin/env python3
"""check_programs.py PROGRAM...: fails where cargo did not build the programs as fast as they are meant to be.

Reads what `cargo build --release --message-format=json-render-diagnostics` prints. Cargo.toml has a profile, but Buildroot
and the environment may override it, and a program without optimisation works all the same, only slowly. So what cargo did
is looked at, in every crate that the programs are made of:

- its opt-level, as cargo reports it, also for a crate that did not need to be compiled again: the profile's, or the one
  that the profile has for this crate;
- what is in its library: LLVM bitcode, for a crate that is made into a library of C as well beside machine code. Cargo has
  the compiler write bitcode only for programs that are optimised when they are linked (lto), which is done from it.

The standard library is not among them: it comes compiled. So do the parts of a crate that are in C or assembly.
"""
import json
import sys
import tomllib
from pathlib import Path

MANIFEST = Path(__file__).parent.parent / "Cargo.toml"
BITCODE, BITCODE_SECTION = b"BC\xc0\xde", b"\0.llvmbc\0"
AR_MAGIC, AR_HEADER = b"!<arch>\n", 60
# How the object files that Rust's compiler writes are called.
UNIT = b".rcgu.o"


def units(library):
    """Contents of the object files in a library, which is an ar(5) archive, that are of Rust's compiler."""
    data = library.read_bytes()
    if not data.startswith(AR_MAGIC):
        raise ValueError(f"{library} is not an archive")
    at, long_names = len(AR_MAGIC), b""
    while at + AR_HEADER <= len(data):
        name, length = data[at : at + 16].rstrip(), int(data[at + 48 : at + 58])
        at += AR_HEADER
        part = data[at : at + length]
        if name == b"//":
            long_names = part
        elif name[1:].isdigit():
            name = long_names[int(name[1:]) :].split(b"\n")[0]
        if name.rstrip(b"/").endswith(UNIT):
            yield part
        at += length + length % 2


def package(package_id):
    """The name in a package id: `SOURCE#NAME@VERSION`, or `FOLDER/NAME#VERSION`."""
    source, _, rest = package_id.partition("#")
    name, at, _ = rest.partition("@")
    return name if at else source.rsplit("/", 1)[-1]


def faults(artifact, profile):
    """What is wrong with a crate, in sentences, and how many libraries it has."""
    name, level = package(artifact["package_id"]), artifact["profile"]["opt_level"]
    libraries = [Path(path) for path in artifact["filenames"] if path.endswith(".rlib")]
    meant = str(profile["package"].get(name, profile)["opt-level"])
    found = [] if level == meant else [f"{name} has opt-level {level} and not {meant}"]
    for library in libraries:
        if not all(part.startswith(BITCODE) or BITCODE_SECTION in part for part in units(library)):
            found.append(f"{name} is not optimised when it is linked (lto): there is only machine code in {library}")
    return found, len(libraries)


def main(programs):
    messages = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    if {"reason": "build-finished", "success": True} not in messages:
        sys.exit(1)  # cargo has said why
    artifacts = [message for message in messages if message["reason"] == "compiler-artifact"]
    # Programs lie beside each other; build scripts and procedural macros, which run here, in another folder.
    folders = {Path(a["executable"]).parent for a in artifacts if a["target"]["name"] in programs and a["executable"]}
    built = {Path(a["executable"]).name for a in artifacts if a["executable"]}
    if missing := set(programs) - built:
        sys.exit(f"error: cargo did not build {', '.join(sorted(missing))}")
    profile = tomllib.loads(MANIFEST.read_text())["profile"]["release"]
    wrong, count = [], 0
    for artifact in artifacts:
        if any(folder in Path(path).parents for folder in folders for path in artifact["filenames"]):
            found, libraries = faults(artifact, profile)
            wrong, count = wrong + found, count + libraries
    if wrong or count == 0:
        print("\n".join(wrong or ["no library was built"]), file=sys.stderr)
        sys.exit(
            f"error: {', '.join(programs)} would be slow: look at [profile.release] in Cargo.toml, and for "
            "CARGO_PROFILE_RELEASE_* in the environment"
        )
    print(f"{', '.join(programs)}: {count} libraries, each of the opt-level that it is meant to have and optimised when linked")


if __name__ == "__main__":
    main(sys.argv[1:])
