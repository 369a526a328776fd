#!/usr/bin/env python3
"""install-map.py IMAGE TREE: what `aios install` needs to write the disk image IMAGE from the live medium TREE.

Most bytes of the image are files of the medium already: kernel, initramfs, root file system, models. This finds them
in the image and writes TREE/aios/install.toml, which says where each piece of each partition comes from, and
TREE/aios/install.bin with the pieces that are in no file. The finished image is the only description of the disk: its
partitions, their sizes and their contents are read from it and are written down nowhere else.
"""

import hashlib
import os
import pathlib
import struct
import sys
import uuid

FORMAT = 1
SECTOR = 512
# Boot code of a master boot record; the disk's signature and the partition entries follow.
BOOT_CODE = 440
# Contents are looked at in pieces of this size: a piece of zeros is left out.
PIECE = 4096

LOOSE = "aios/install.bin"


def partitions(image):
    """Name, type, first byte and size of each partition, in the order of the table."""
    header = os.pread(image, SECTOR, SECTOR)
    if header[:8] != b"EFI PART":
        sys.exit("error: the image has no GUID partition table")
    table, count, length = struct.unpack_from("<QII", header, 72)
    entries = [os.pread(image, length, table * SECTOR + number * length) for number in range(count)]
    used = [entry for entry in entries if any(entry[:16])]
    if used != entries[: len(used)]:
        sys.exit("error: the installer knows no free entries between partitions")
    for entry in used:
        first, last, attributes = struct.unpack_from("<QQQ", entry, 32)
        name = entry[56:128].decode("utf-16-le").rstrip("\0")
        if attributes:
            sys.exit(f"error: partition {name}: the installer knows no attributes")
        yield name, str(uuid.UUID(bytes_le=entry[:16])), first * SECTOR, (last + 1 - first) * SECTOR


def contents(image, start, size):
    """The bytes of a partition up to the last piece that is not zeros."""
    end = start
    try:
        while (more := os.lseek(image, end, os.SEEK_DATA)) < start + size:
            end = os.lseek(image, more, os.SEEK_HOLE)
    except OSError:
        pass  # Only a hole is left.
    data = os.pread(image, min(end - start, size), start)
    used = len(data.rstrip(b"\0"))
    return data[: -(-used // PIECE) * PIECE]


def place_of(content, inside):
    """Where the whole file `content` begins in `inside`, at a sector; None where it does not or is in pieces."""
    # Many a file begins with zeros, and zeros are found everywhere.
    skip = (len(content) - len(content.lstrip(b"\0"))) // SECTOR * SECTOR
    mark = content[skip : skip + SECTOR]
    at = inside.find(mark)
    while at >= 0:
        begin = at - skip
        if begin >= 0 and begin % SECTOR == 0 and inside[begin : begin + len(content)] == content:
            return begin
        at = inside.find(mark, at + 1)
    return None


def runs(data, begin, end):
    """The parts of data[begin:end] that are not zeros, as offset and length."""
    zeros = bytes(PIECE)
    start = None
    for at in range(begin, end, PIECE):
        stop = min(at + PIECE, end)
        if data[at:stop] == zeros[: stop - at]:
            if start is not None:
                yield start, at - start
            start = None
        elif start is None:
            start = at
    if start is not None:
        yield start, end - start


def extents(data, files, loose):
    """What `data` is made of: (offset, file, offset in the file, length), in order; the rest is zeros."""
    found = []
    for name, content in files.items():
        at = place_of(content, data)
        if at is not None:
            found.append((at, name, 0, len(content)))
    begin = 0
    for at, _, _, length in [*sorted(found), (len(data), None, 0, 0)]:
        for offset, run in runs(data, begin, at):
            found.append((offset, LOOSE, len(loose), run))
            loose += data[offset : offset + run]
        begin = at + length
    return sorted(found)


def main():
    image_path, tree = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    files = {
        str(path.relative_to(tree)): path.read_bytes()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and path.stat().st_size >= 1 << 20
    }
    image = os.open(image_path, os.O_RDONLY)
    loose = bytearray(os.pread(image, BOOT_CODE, 0))
    lines = [
        f"# Where the bytes of {image_path.name} are on this medium; for `aios install`.",
        f"format = {FORMAT}",
        f'boot-code = {{ file = "{LOOSE}", at = 0, length = {BOOT_CODE} }}',
    ]
    for name, kind, start, size in partitions(image):
        data = contents(image, start, size)
        lines += [
            "",
            "[[partition]]",
            f'name = "{name}"',
            f'kind = "{kind}"',
            f"start = {start}",
            f"size = {size}",
            f"length = {len(data)}",
            f'sha256 = "{hashlib.sha256(data).hexdigest()}"',
            "extents = [",
        ]
        for offset, source, at, length in extents(data, files, loose):
            lines.append(f'  {{ offset = {offset}, file = "{source}", at = {at}, length = {length} }},')
        lines.append("]")
    (tree / LOOSE).write_bytes(loose)
    (tree / "aios/install.toml").write_text("\n".join(lines) + "\n")
    print(f"{len(loose)} bytes of {image_path.name} are in no file of the medium")


main()
