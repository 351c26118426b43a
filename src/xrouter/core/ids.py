"""ULIDs: 128-bit ids that sort by time (https://github.com/ulid/spec)."""

import os
import random
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
# Seeded by the system, then without it: a name must be unique, not secret, and asking the kernel costs 4 us more and
# lets go of the interpreter. A forked process must not repeat its parent's names.
_random = random.Random(os.urandom(32))  # noqa: S311 - as said
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def ulid() -> str:
    """26 characters of Crockford base32: 48 bits of milliseconds, then 80 random bits.

    Reads the wall clock itself: an id is a name, not a measurement, and no test moves it.
    """
    value = (time.time_ns() // 1_000_000 << 80) | _random.getrandbits(80)
    pairs = _PAIRS
    return (
        pairs[value >> 120 & 1023]
        + pairs[value >> 110 & 1023]
        + pairs[value >> 100 & 1023]
        + pairs[value >> 90 & 1023]
        + pairs[value >> 80 & 1023]
        + pairs[value >> 70 & 1023]
        + pairs[value >> 60 & 1023]
        + pairs[value >> 50 & 1023]
        + pairs[value >> 40 & 1023]
        + pairs[value >> 30 & 1023]
        + pairs[value >> 20 & 1023]
        + pairs[value >> 10 & 1023]
        + pairs[value & 1023]
    )
