"""ULIDs: 128-bit ids that sort by time (https://github.com/ulid/spec)."""

import os
import random
import time
from functools import lru_cache

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
    pairs, random_bits = _PAIRS, _random.getrandbits
    first, last = random_bits(40), random_bits(40)  # two numbers of one or two digits: shifting a long one costs double
    return (
        _prefix(time.time_ns() // 1_000_000)
        + pairs[first >> 30]
        + pairs[first >> 20 & 1023]
        + pairs[first >> 10 & 1023]
        + pairs[first & 1023]
        + pairs[last >> 30]
        + pairs[last >> 20 & 1023]
        + pairs[last >> 10 & 1023]
        + pairs[last & 1023]
    )


@lru_cache(4)  # a busy process makes several names in each millisecond
def _prefix(ms: int) -> str:
    return "".join([_PAIRS[ms >> shift & 1023] for shift in (40, 30, 20, 10, 0)])
