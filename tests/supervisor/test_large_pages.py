"""Large pages: which memory is worth them, and that asking for them harms nobody."""

import subprocess
import sys

from xrouter.supervisor import large_pages

SMAPS = """\
00400000-00401000 r-xp 00000000 fe:00 123                        /usr/bin/python3
Size:                  4 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                   4 kB
Pss:                   4 kB
01f00000-02900000 rw-p 00000000 00:00 0                          [heap]
Size:              10240 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                9000 kB
Pss:                9000 kB
7f0000000000-7f0000800000 rw-p 00000000 00:00 0 \n\
Size:               8192 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                  60 kB
Pss:                  60 kB
7f1000000000-7f1000400000 rw-p 00000000 00:00 0 \n\
Size:               4096 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                4096 kB
Pss:                4096 kB
7f2000000000-7f2000400000 rw-p 00000000 00:00 0                  [anon: other]
Size:               4096 kB
Rss:                4096 kB
7f3000000000-7f3000100000 rw-p 00000000 00:00 0 \n\
Size:               1024 kB
Rss:                1024 kB
7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0                  [stack]
Size:               4096 kB
Rss:                4096 kB
"""


def test_only_full_mappings_of_our_own_are_worth_it():
    """Not code, not a thread's empty stack, nothing that is smaller than a large page."""
    assert large_pages.worth_it(SMAPS) == [
        (0x02000000, 0x02800000),
        (0x7F1000000000, 0x7F1000400000),
    ]


def test_what_was_there_is_there_afterwards():
    program = (
        "from xrouter.supervisor import large_pages\n"
        "kept = [bytes([n % 256]) * 5000 for n in range(4000)]\n"
        "moved = large_pages.use()\n"
        "assert moved % (2 * 1024 * 1024) == 0\n"
        "assert all(one == bytes([n % 256]) * 5000 for n, one in enumerate(kept))\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
