"""How much of a credential's limit this host has, where several nodes share it: one number that all its processes map.

0 in the file means that nobody has said anything: all of it is this host's. Else the number is the share plus one.
`until` is the monotonic time at which other nodes stop to believe in it.

Who makes the share smaller writes first and then looks which slots above it are still held; who takes a slot locks
first and then reads again. So either sees the other (Dekker's way), and no slot above the share is taken unseen.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

_NUMBER: Final = struct.Struct("<I")
_UNTIL: Final = struct.Struct("<d")
_UNTIL_AT: Final = 8
_SIZE: Final = 64


class ShareFile:
    """One for each room and process."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.ftruncate(fd, _SIZE)
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)

    def read(self) -> int | None:
        """Slots of this host; None where it has all of them."""
        number: int = _NUMBER.unpack_from(self._map)[0]
        return number - 1 if number else None

    @property
    def until(self) -> float:
        """0 where no other node was ever asked."""
        until: float = _UNTIL.unpack_from(self._map, _UNTIL_AT)[0]
        return until

    def write(self, share: int | None, until: float = 0.0) -> None:
        _NUMBER.pack_into(self._map, 0, 0 if share is None else share + 1)
        _UNTIL.pack_into(self._map, _UNTIL_AT, until)

    def close(self) -> None:
        self._map.close()
