"""What the kernel keeps of files: how much, and how to make it let go."""

import ctypes
import mmap
import os

LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE


def files(folder):
    """All files in a folder, at any depth."""
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names)


def evict(folder):
    """Writes all files out and lets the kernel forget them: what is cached from here on was read or written again."""
    for path in files(folder):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(folder):
    """Bytes of the folder's files that are in memory."""
    return sum(map(cached_of, files(folder)))


def cached_of(path):
    """Bytes of one file that are in memory, in whole pages."""
    size = os.path.getsize(path)
    if size == 0:
        return 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-size // PAGE))()
        view = ctypes.c_char.from_buffer(mapped)
        failed = LIBC.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), pages)
        number = ctypes.get_errno()
        # The mapping can't be closed while it is looked at.
        del view
    if failed:
        raise OSError(number, os.strerror(number), path)
    return sum(page & 1 for page in pages) * PAGE
