"""Asks Linux to keep what a worker has loaded in pages of 2 MiB instead of 4 KiB.

A call touches objects all over the 60 MB that modules, settings and providers are made of. In a virtual machine each
missing translation of a page costs two walks; with large pages there is hardly any: 6 to 9 % less processor time a call
(docs/decisions/0020-large-pages.md). Where the kernel has no such pages, or keeps them for itself, nothing happens.
"""

import ctypes
import mmap
import re
from pathlib import Path
from typing import Final

_LARGE_BYTES: Final = 2 * 1024 * 1024
_COLLAPSE: Final = 25  # MADV_COLLAPSE of Linux 6.1; Python 3.11 has no name for it
_FULL: Final = 0.75
"""A mapping is worth it where this share of it is in use: a thread's stack is not."""

_MAPPING: Final = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ 00:00 0 +(?:\[heap\])?\n"
    r"Size: +([0-9]+) kB\n(?:\w.+\n)*?Rss: +([0-9]+) kB\n",
    re.MULTILINE,
)


def use() -> int:
    """Move the memory in use into large pages; how many bytes that were. Call it when everything is loaded: it takes a
    tenth of a second, best in a thread."""
    try:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        smaps = Path("/proc/self/smaps").read_text()
    except (OSError, AttributeError):  # no Linux
        return 0
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    moved = 0
    for first, last in worth_it(smaps):
        if madvise(first, last - first, mmap.MADV_HUGEPAGE) == 0:
            for at in range(first, last, _LARGE_BYTES):
                moved += _LARGE_BYTES if madvise(at, _LARGE_BYTES, _COLLAPSE) == 0 else 0
    return moved


def worth_it(smaps: str) -> list[tuple[int, int]]:
    """The stretches of memory, in whole large pages, that are in use: of the heap and of anonymous mappings. `smaps` is
    the text of `/proc/self/smaps` (https://docs.kernel.org/filesystems/proc.html)."""
    found = []
    for begin, end, size_kb, used_kb in _MAPPING.findall(smaps):
        first = -(-int(begin, 16) // _LARGE_BYTES) * _LARGE_BYTES
        last = int(end, 16) // _LARGE_BYTES * _LARGE_BYTES
        if first < last and int(used_kb) >= _FULL * int(size_kb):
            found.append((first, last))
    return found
