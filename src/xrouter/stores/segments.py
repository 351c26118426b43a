"""Reads the journals of one host: whose they are, who is alive, what is new in them."""

import logging
import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from xrouter.stores.files import try_lock
from xrouter.stores.frames import LARGEST_FRAME, Entry, is_unfinished, read_frames
from xrouter.stores.journal import LOCK_NAME, NEW_SUFFIX, SEGMENT_SUFFIX

_log = logging.getLogger(__name__)

_OWNER_LENGTH: Final = 26
_CHUNK_BYTES: Final = 4 * LARGEST_FRAME
_ASIDE: Final = "corrupt"
_UNBORN_S: Final = 60.0


class Slice(NamedTuple):
    """A stretch of a segment up to the offset `end`: its entries, the (offset, length) of bytes that are no
    record, and whether the writer died within the last one."""

    entries: list[Entry]
    end: int
    damage: list[tuple[int, int]]
    torn: bool


class Segment:
    """One file of an owner, read from `offset` on. `complete` once nobody will write to it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.complete = False
        self.last_of_dead = False
        self.damaged = 0
        self.torn = False

    def read(self, limit: int) -> Slice:
        """What stands behind `offset`, up to `limit` entries. Changes nothing: see `advance`."""
        data, at_end = self._chunk()
        found = read_frames(data, limit)
        end = self.offset + found.used
        damage = [(self.offset + stretch.offset, stretch.length) for stretch in found.damage]
        torn = False
        if found.tail and not at_end and not found.used:  # damage longer than a chunk: step over most of it
            end = self.offset + len(data) - LARGEST_FRAME
            damage = [(self.offset, end - self.offset)]
        elif found.tail and at_end and self.complete:  # nobody will complete this record any more
            torn = self.last_of_dead and is_unfinished(data[found.used :])
            if not torn:
                damage.append((end, len(data) - found.used))
            end = self.offset + len(data)
        return Slice(found.entries, end, damage, torn)

    def advance(self, done: Slice) -> None:
        """The slice is booked: go on behind it, and report what in it was no record."""
        self.offset = done.end
        for at, length in done.damage:
            self.damaged += 1
            _log.error("%s: %d bytes at %d are no record; the file is kept in %s/", self.path, length, at, _ASIDE)
        if done.torn:
            self.torn = True
            _log.info("%s: the writer died in its last record", self.path)

    def has_more(self) -> bool:
        """Is there anything behind `offset`?"""
        return self.path.stat().st_size > self.offset

    def _chunk(self) -> tuple[bytes, bool]:
        if not self.has_more():
            return b"", True
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, _CHUNK_BYTES, self.offset)
        finally:
            os.close(fd)
        return data, len(data) < _CHUNK_BYTES


class Owner:
    """The journal of one process: its directory, and its lock once we hold it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        self.dead = False
        self._segments: dict[str, Segment] = {}
        self._lock_fd: int | None = None

    def look(self) -> list[Segment]:
        """Its segments in the order they were written. First finds out whether the process lives, so that the
        list of a dead one is final."""
        self.dead = self.dead or self._take_lock()
        names = sorted(entry.name for entry in os.scandir(self.directory) if entry.name.endswith(SEGMENT_SUFFIX))
        self._segments = {name: self._segments.get(name) or Segment(self.directory / name) for name in names}
        for name, segment in self._segments.items():
            newest = name == names[-1]
            segment.complete = self.dead or not newest
            segment.last_of_dead = self.dead and newest
        return list(self._segments.values())

    def finish(self, segment: Segment) -> None:
        """Delete a segment whose every record is in the database; a damaged one is kept aside for people."""
        if segment.damaged:
            aside = self.directory.parent / _ASIDE
            aside.mkdir(mode=0o700, exist_ok=True)
            segment.path.rename(aside / f"{self.name}-{segment.path.stem}.corrupt")
        else:
            segment.path.unlink(missing_ok=True)
        self._segments.pop(segment.path.name, None)

    def remove(self) -> None:
        """Delete a dead owner's directory."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let the lock of a dead owner go."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        self.dead = False

    def _take_lock(self) -> bool:
        """True when the process is dead: the lock is ours now."""
        if self._lock_fd is None:
            try:
                fd = os.open(self.directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:  # a removal that was cut short
                return self.directory.is_dir()
            if not try_lock(fd):
                os.close(fd)
                return False
            self._lock_fd = fd
        return True


def owners_under(root: Path, known: dict[str, Owner], now: float) -> dict[str, Owner]:
    """Everybody who has a journal under `root`, by name in order of birth; `known` ones are kept. Deletes the
    directories of processes that died a minute ago while they made them."""
    names: list[str] = []
    try:
        entries = list(os.scandir(root))
    except FileNotFoundError:
        return {}
    for entry in entries:
        if len(entry.name) == _OWNER_LENGTH:
            names.append(entry.name)
        elif entry.name.endswith(NEW_SUFFIX) and now - entry.stat().st_mtime > _UNBORN_S:
            shutil.rmtree(entry.path, ignore_errors=True)
    return {name: known.get(name) or Owner(root / name) for name in sorted(names)}
