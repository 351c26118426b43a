"""Chance that can be repeated: every draw is a pure function of a seed. Nothing here guards anything.

`random.Random` would do it, too, but seeding one costs 10 us, more than all draws of a call together.
"""

from hashlib import blake2b
from zlib import crc32

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_SPAN = float(1 << 64)


def mixed(value: int) -> int:
    """64 bits that look like chance: the finalizer of SplitMix64, https://prng.di.unimi.it/splitmix64.c."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def uniform(seed: int, number: int) -> float:
    """The draw with that number (from 0): above 0, at most 1."""
    return (mixed((seed + (number + 1) * _STEP) & _MASK) + 1) / _SPAN


def seed_of(call_id: str) -> int:
    """A call's own seed, 64 bits: told by its id, so that whoever knows the call can repeat its choices."""
    return mixed(crc32(call_id.encode()) + _STEP)


def digest(*words: str) -> int:
    """64 bits that stand for the words, in every process and for ever."""
    text = "\0".join(words).encode()
    return int.from_bytes(blake2b(text, digest_size=8, person=b"xrouter-route").digest(), "big")
