"""Moves attempts from the journals of this host to the database.

Every process may run a `Flusher`; an flock on `root/flusher.lock` elects the one that works. What it books is
idempotent (see `sql/booking.py`), so being killed between commit and deletion, or two flushers at once, do no
harm. Journals of dead processes are read to their end, then what is still open is booked as `interrupted`.
"""

import asyncio
import logging
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DataError, IntegrityError

from xrouter.core.call import State
from xrouter.core.clock import Clock
from xrouter.stores.files import try_lock
from xrouter.stores.frames import Entry
from xrouter.stores.segments import Owner, Segment, owners_under
from xrouter.stores.sql.booking import book, interrupt
from xrouter.stores.sql.database import Database, DatabaseUnavailable

_log = logging.getLogger(__name__)

_SLICE: Final = 500  # 2 ms of the event loop; less would not keep up with a saturated one, which answers seldom
_LONGEST_BACKOFF_S: Final = 2.0
_UNSETTLED: Final = (State.OPEN, State.INTERRUPTED)


class Flusher:
    """One host's way from `root` to `database`.

    Counters for metrics: `booked` records, `damaged` stretches of segments, `torn` last records of dead
    writers, `rejected` rows that the database refuses, `interrupted` attempts of dead processes; `failing` is
    true while the last try to move anything failed.
    """

    def __init__(self, root: Path, database: Database, clock: Clock, interval_s: float = 0.2) -> None:
        self._root = root
        self._database = database
        self._clock = clock
        self._interval_s = interval_s
        self._owners: dict[str, Owner] = {}
        self._one_at_a_time = asyncio.Lock()
        self._elected_fd: int | None = None
        self.booked = 0
        self.damaged = 0
        self.torn = 0
        self.rejected = 0
        self.interrupted = 0
        self.failing = False

    async def run(self) -> None:
        """Flush each `interval_s` while elected, until cancelled. With the database away: wait 2 s at most
        between tries; the journals keep everything."""
        pause_s = self._interval_s
        try:
            while True:
                try:
                    if self.claim():
                        await self.flush_all()
                    pause_s = self._interval_s
                except (DatabaseUnavailable, OSError) as error:
                    if not self.failing:
                        _log.error("attempts stay in the journal for now: %s", error)
                    self.failing = True
                    pause_s = min(pause_s * 2, _LONGEST_BACKOFF_S)
                await asyncio.sleep(pause_s)
        finally:
            self.close()

    async def flush_all(self) -> None:
        """Book everything that the journals hold now. Needs no election: two at once only share the work.

        Raises `DatabaseUnavailable`, and OSError for journals that cannot be read; nothing is lost then.
        """
        async with self._one_at_a_time:
            self._owners = owners_under(self._root, self._owners, self._clock.now())
            for owner in list(self._owners.values()):
                try:
                    await self._flush(owner)
                except FileNotFoundError:  # another flusher was faster
                    owner.release()
            if self.failing:
                _log.info("the database takes attempts again")
                self.failing = False

    def claim(self) -> bool:
        """Be the one of this host that works, from now on until `close`; false where another process is it."""
        if self._elected_fd is None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._root / "flusher.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            if not try_lock(fd):
                os.close(fd)
                return False
            self._elected_fd = fd
        return True

    @property
    def writers(self) -> int:
        """How many processes had their journal open when it was last flushed: more may come out of these."""
        return sum(not owner.dead and owner.directory.exists() for owner in self._owners.values())

    def close(self) -> None:
        """Give up the election and the locks of dead owners."""
        for owner in self._owners.values():
            owner.release()
        self._owners = {}
        if self._elected_fd is not None:
            os.close(self._elected_fd)
            self._elected_fd = None

    async def _flush(self, owner: Owner) -> None:
        for segment in owner.look():
            await self._drain(segment)
            if segment.complete:
                self.damaged += segment.damaged
                self.torn += segment.torn
                owner.finish(segment)
        if owner.dead:
            left_open = await self._database.write(partial(interrupt, owner=owner.name, now=self._clock.now()))
            if left_open:
                _log.warning("a process died with %d attempts open; they are booked as interrupted", left_open)
            self.interrupted += left_open
            owner.remove()

    async def _drain(self, segment: Segment) -> None:
        """Book what the segment holds, a slice and a transaction at a time."""
        while segment.has_more():
            found = segment.read(_SLICE)
            if found.end == segment.offset:  # the writer is in the middle of its record
                return
            if found.entries:
                entries = _fold(found.entries)
                try:
                    await self._database.write(partial(book, entries=entries))
                except (DataError, IntegrityError):
                    await self._book_singly(entries, segment)
                self.booked += len(found.entries)
            segment.advance(found)

    async def _book_singly(self, entries: list[Entry], segment: Segment) -> None:
        """One row of the slice is refused: find it, keep its segment, go on with the others."""
        for entry in entries:
            try:
                await self._database.write(partial(book, entries=[entry]))
            except (DataError, IntegrityError) as error:
                self.rejected += 1
                segment.damaged += 1
                _log.error("the database refuses attempt %s: %s", entry.id, error.orig)


def _fold(entries: Iterable[Entry]) -> list[Entry]:
    """One entry for each attempt: its outcome where the slice holds that, else its intent."""
    last: dict[str, Entry] = {}
    for entry in entries:
        before = last.get(entry.id)
        if before is None or before.state in _UNSETTLED:
            last[entry.id] = entry
    return list(last.values())
