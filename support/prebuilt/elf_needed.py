#!/usr/bin/env python3
"""Prints what programs and libraries ask the dynamic loader for: a line "NAME FILE" for each library (DT_NEEDED) and for
the loader itself (PT_INTERP), whose NAME is a path. The files may be of another machine's architecture, so nothing of them
is run. Files that are no 64-bit little-endian ELF are passed over.
"""

import struct
import sys

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB = 1, 5
ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"


def text(data, offset):
    """The string that starts at `offset` and ends with a zero byte."""
    return data[offset : data.index(b"\0", offset)].decode()


def needed(data):
    table, size, count = *struct.unpack_from("<Q", data, 0x20), *struct.unpack_from("<HH", data, 0x36)
    # Of each program header: type, file offset, virtual address, length in the file.
    headers = [
        (kind, offset, address, length)
        for kind, _, offset, address, _, length in (
            struct.unpack_from("<IIQQQQ", data, table + index * size) for index in range(count)
        )
    ]

    def offset_of(address):
        for kind, offset, start, length in headers:
            if kind == PT_LOAD and start <= address < start + length:
                return offset + address - start
        raise ValueError(f"no segment holds the address {address:#x}")

    for kind, offset, _, length in headers:
        if kind == PT_INTERP:
            yield text(data, offset)
        if kind == PT_DYNAMIC:
            entries = list(struct.iter_unpack("<QQ", data[offset : offset + length]))
            strings = next((offset_of(value) for tag, value in entries if tag == DT_STRTAB), None)
            yield from (text(data, strings + value) for tag, value in entries if tag == DT_NEEDED)


def main():
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            data = file.read()
        if not data.startswith(ELF64_LITTLE_ENDIAN):
            continue
        for name in needed(data):
            print(name, path)


main()
