"""A file of small numbers that all processes of this host map into memory: one record for each counter.

Whoever reads or writes holds the file's lock (`with file:`), for microseconds; the kernel frees it when its holder
dies. A record is one 16-byte name and two floats, written in place. Records are only ever added at the end; each
process remembers where it found a name. When the file is full, whoever needs room keeps what still matters and counts
the generation up, and everybody looks anew.

The times in it are on the monotonic clock, which all processes of a machine share and which starts anew with it: a
file of an earlier start is emptied.
"""

import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_MAGIC: Final = b"xrlimit1"
_HEADER: Final = struct.Struct("<8s16sIIII")  # magic, boot, generation, records, capacity, how often a process came
_STATE: Final = struct.Struct("<IIII")
_STATE_AT: Final = 24
_JOINS_AT: Final = 36
_BEGIN: Final = 64
_RECORD: Final = struct.Struct("<16sdd")
_PAIR: Final = struct.Struct("<dd")
_SIZE: Final = _RECORD.size
_FIRST: Final = 4_096
MOST_RECORDS: Final = 2**20
"""32 MiB; beyond it what matters least is forgotten."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Pair = tuple[float, float]


class CounterFile:
    """`weight` says how long a record still matters: 0 or less for one that may be forgotten."""

    def __init__(self, path: Path, weight: Callable[[float, float], float], boot: bytes | None = None) -> None:
        """Raises OSError where the file cannot be had."""
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._weight = weight
        self._places: dict[str, int] = {}
        self._index: dict[bytes, int] = {}
        self._generation = self._records = self._capacity = 0
        self.joins = 0
        boot = this_boot() if boot is None else boot
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if os.fstat(self._fd).st_size < _BEGIN or os.pread(self._fd, _STATE_AT, 0) != _MAGIC + boot:
                os.ftruncate(self._fd, 0)
                _grow(self._fd, 0, _FIRST)
                os.pwrite(self._fd, _HEADER.pack(_MAGIC, boot, 1, 0, _FIRST, 0), 0)
            self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size)
            self._look()
            self.joins += 1
            struct.pack_into("<I", self._map, _JOINS_AT, self.joins)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self._map.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        """Waits for the lock, which nobody holds for longer than a few numbers take."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def read(self, name: str) -> Pair | None:
        """None for a name that the file does not hold."""
        place = self._place(name)
        if place is None:
            return None
        found: Pair = _PAIR.unpack_from(self._map, place + 16)
        return found

    def write(self, name: str, first: float, second: float) -> None:
        """Raises OSError where the disk has no room for a new name."""
        place = self._place(name)
        if place is None:
            place = self._add(_hashed(name), first, second)
            self._places[name] = place
            return
        _PAIR.pack_into(self._map, place + 16, first, second)

    def change(self, wanted: Callable[[float, float], Pair | None]) -> None:
        """Look at every record; write what `wanted` gives for it."""
        for place in self._index.values():
            changed = wanted(*_PAIR.unpack_from(self._map, place + 16))
            if changed is not None:
                _PAIR.pack_into(self._map, place + 16, *changed)

    def _place(self, name: str) -> int | None:
        place = self._places.get(name)
        if place is None:
            place = self._index.get(_hashed(name))
            if place is not None:
                self._places[name] = place
        return place

    def _look(self) -> None:
        """What have the others added since we last held the lock?"""
        generation, records, capacity, self.joins = _STATE.unpack_from(self._map, _STATE_AT)
        if generation != self._generation:
            self._index.clear()
            self._places.clear()
            self._generation, self._records = generation, 0
        if capacity != self._capacity:
            self._map.close()
            self._map = mmap.mmap(self._fd, _BEGIN + capacity * _SIZE)
            self._capacity = capacity
        for number in range(self._records, records):
            place = _BEGIN + number * _SIZE
            self._index[self._map[place : place + 16]] = place
        self._records = records

    def _add(self, hashed: bytes, first: float, second: float) -> int:
        if self._records >= self._capacity:
            self._make_room()
        place = _BEGIN + self._records * _SIZE
        _RECORD.pack_into(self._map, place, hashed, first, second)
        self._records += 1
        self._index[hashed] = place
        struct.pack_into("<I", self._map, _STATE_AT + 4, self._records)  # last: what was half written does not count
        return place

    def _make_room(self) -> None:
        """Keep what still matters, and double the file when that is more than half of it."""
        kept = [_RECORD.unpack_from(self._map, _BEGIN + number * _SIZE) for number in range(self._records)]
        kept = [record for record in kept if self._weight(record[1], record[2]) > 0]
        capacity = self._capacity
        if len(kept) > capacity // 2:
            if capacity < MOST_RECORDS:
                _grow(self._fd, capacity, capacity * 2)
                capacity *= 2
            else:
                kept.sort(key=lambda record: self._weight(record[1], record[2]), reverse=True)
                del kept[capacity // 2 :]
        for number, record in enumerate(kept):
            _RECORD.pack_into(self._map, _BEGIN + number * _SIZE, *record)
        _STATE.pack_into(self._map, _STATE_AT, self._generation + 1, len(kept), capacity, self.joins)
        self._look()


def _grow(fd: int, before: int, after: int) -> None:
    """Real zeros, not a hole: a write to mapped memory that the disk has no room for would kill the process."""
    begin = _BEGIN + before * _SIZE if before else 0
    missing = memoryview(bytes(_BEGIN + after * _SIZE - begin))
    while missing:
        written = os.pwrite(fd, missing, begin)
        begin += written
        missing = missing[written:]


def _hashed(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def this_boot() -> bytes:
    """16 bytes that differ from one start of the machine to the next. Zeros where the system does not say."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
