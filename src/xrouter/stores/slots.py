"""Slots of a vendor's credential: at most N calls at once over all processes of this host, and how they are waited for.

A slot is an flock on one of N files, so a process that dies gives its slots back. Within a process tenants are served
in turn (`core/turns.py`), and a slot that comes free is handed on at once; a process asks again every few milliseconds
only while it has callers waiting. A process that sees others wait lets them have their turn.

Where several nodes share a credential, this host may use the first so many files only: its share, a number in a file
that every process maps (`stores/slot_shares.py`). Besides, each process keeps within its window: what it has learnt
that the vendor bears (`core/window.py`).
"""

import asyncio
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from xrouter.core.ports import QueueFull
from xrouter.core.turns import Turns
from xrouter.core.window import Window
from xrouter.stores.files import try_lock
from xrouter.stores.slot_shares import ShareFile

_FIRST_POLL_S: Final = 0.005
_LONGEST_POLL_S: Final = 0.02
MOST_SLOTS: Final = 1024
"""Settings refuse more."""

_NO_FILE: Final = -1
"""The index of a slot where the credential has no limit but its window."""


class HostSlots:
    """The port `Slots` over lock files in `directory`. One instance for each process, on one event loop.

    Names come from the configuration, not from clients: their locks are kept open, one file descriptor for
    each slot that was ever used here, plus one.
    """

    def __init__(self, directory: Path, *, shared: bool = False) -> None:
        """`shared`: other nodes use the credentials, too, and a `SlotKeeper` says how much is this host's."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._shared = shared
        self.rooms: dict[str, Room] = {}

    def room(self, name: str, limit: int, most_waiting: int, start: int = 0) -> "Room":
        room = self.rooms.get(name)
        if room is None:
            if limit > MOST_SLOTS:
                raise ValueError(f"at most {MOST_SLOTS} slots, not {limit}")
            stem = hashlib.sha256(name.encode()).hexdigest()[:32]
            room = self.rooms[name] = Room(name, self.directory / stem, Window(start, limit))
        room.most_waiting = most_waiting
        if room.limit != limit:
            if limit > MOST_SLOTS:
                raise ValueError(f"at most {MOST_SLOTS} slots, not {limit}")
            room.limit = limit
            room.window.bound(limit)
            if limit and self._shared is not (room.share.read() is not None):
                room.share.write(0 if self._shared else None)
        return room

    def load(self, name: str) -> float:
        room = self.rooms.get(name)
        return 0.0 if room is None else (room.running + room.waiting) / (room.limit or 1)

    def close(self) -> None:
        """Close every lock file, which frees what is still held."""
        for room in self.rooms.values():
            room.close()
        self.rooms.clear()


class Room:
    """The slots of one name: lock files `<stem>.<index>`, `<stem>.queue` that waiting processes share, and
    `<stem>.share`. The port `Room`."""

    def __init__(self, name: str, path: Path, window: Window) -> None:
        self.name = name
        self.window = window
        self.limit = 0
        self.most_waiting = 0
        self.running = 0
        self.refused = 0
        self.path = path
        self._turns: Turns[asyncio.Future[int]] = Turns()
        self._fds: dict[int, int] = {}
        self._held: set[int] = set()
        self._queue_fd = -1
        self._share: ShareFile | None = None
        self._poll_s = _FIRST_POLL_S
        self._poll: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return self._turns.waiting

    @property
    def held(self) -> frozenset[int]:
        """The indices of the slots that this process holds."""
        return frozenset(self._held)

    @property
    def share(self) -> ShareFile:
        """How much of the limit this host has."""
        if self._share is None:
            self._share = ShareFile(self.file("share"))
        return self._share

    def take(self) -> int | None:
        if self._turns.waiting:
            return None
        if not self.limit and self.running < self.window.limit:  # nearly always
            self.running += 1
            return _NO_FILE
        index = self._free()
        if index is not None:
            self.running += 1
        return index

    async def wait(self, tenant: str, deadline: float) -> int:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[int] = loop.create_future()
        begins = not self._turns.waiting
        leaves = self._turns.join(tenant, turn, self.most_waiting)
        if leaves is not None:
            self.refused += 1
            if leaves is turn:
                raise QueueFull
            if not leaves.done():
                leaves.set_exception(QueueFull())
        if begins and self.limit:
            fcntl.flock(self._queue(), fcntl.LOCK_SH)  # never waits for long: see `_others_wait`
            self._poll_s = _FIRST_POLL_S
            self._poll_later()
        try:
            async with asyncio.timeout_at(deadline):
                return await turn
        except BaseException:
            if self._turns.leave(tenant, turn):
                self._stop_when_empty()
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(turn.result())  # a slot was handed over in the very moment we left
            raise

    def give_back(self, index: int) -> None:
        self.running -= 1
        if index == _NO_FILE:
            while self._turns.waiting and self.running < self.window.limit and self._grant(_NO_FILE):
                pass
            return
        may_pass_on = self._turns.waiting and index < self._top() and self.running < self.window.limit
        if may_pass_on and not self._others_wait() and self._grant(index):
            return
        self._held.discard(index)
        fcntl.flock(self._fds[index], fcntl.LOCK_UN)
        if self._turns.waiting:  # it is the others' turn: come back after they had time to look
            self._poll_s = _LONGEST_POLL_S
            self._poll_later()

    def look(self) -> None:
        """The share may have become larger: those who wait need not wait for the next look."""
        if self._poll is not None:
            self._poll.cancel()
            self._try_again()

    def file(self, suffix: str) -> Path:
        return self.path.with_suffix(f".{suffix}")

    def close(self) -> None:
        """Close the files. Waiting callers must have left."""
        if self._poll is not None:
            self._poll.cancel()
        for fd in (self._queue_fd, *self._fds.values()):
            if fd >= 0:
                os.close(fd)
        self._fds.clear()
        self._queue_fd = -1
        if self._share is not None:
            self._share.close()
            self._share = None

    def _free(self) -> int | None:
        """A slot that nobody on this host holds, within the window, or None."""
        if self.running >= self.window.limit:
            return None
        if not self.limit:
            return _NO_FILE
        if len(self._held) >= self.limit:
            return None
        for index in range(self._top()):
            if index not in self._held and self._lock(index):
                if index < self._top():
                    self._held.add(index)
                    return index
                fcntl.flock(self._fds[index], fcntl.LOCK_UN)  # the share became smaller meanwhile
                return None
        return None

    def _top(self) -> int:
        """The slots from this index on belong to other nodes."""
        share = self.share.read()
        return self.limit if share is None or share > self.limit else share

    def _grant(self, index: int) -> bool:
        """Give a slot to whose turn it is; False when everybody has just left."""
        while (turn := self._turns.next()) is not None:
            if not turn.done():
                turn.set_result(index)
                self.running += 1
                self._stop_when_empty()
                return True
        self._stop_when_empty()
        return False

    def _try_again(self) -> None:
        self._poll = None
        while self._turns.waiting and (index := self._free()) is not None:
            if not self._grant(index):
                self.running += 1
                self.give_back(index)
        if self._turns.waiting:
            self._poll_s = min(self._poll_s * 2, _LONGEST_POLL_S)
            self._poll_later()

    def _poll_later(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        self._poll = asyncio.get_running_loop().call_later(self._poll_s, self._try_again)

    def _stop_when_empty(self) -> None:
        if not self._turns.waiting:
            if self._queue_fd >= 0:
                fcntl.flock(self._queue_fd, fcntl.LOCK_UN)
            if self._poll is not None:
                self._poll.cancel()
                self._poll = None

    def _others_wait(self) -> bool:
        """Does another process hold the queue's lock too? Asked by trying to have it alone for an instant."""
        alone = try_lock(self._queue())
        fcntl.flock(self._queue(), fcntl.LOCK_SH)
        return not alone

    def _queue(self) -> int:
        if self._queue_fd < 0:
            self._queue_fd = self._open("queue")
        return self._queue_fd

    def _lock(self, index: int) -> bool:
        fd = self._fds.get(index)
        if fd is None:
            fd = self._fds[index] = self._open(str(index))
        return try_lock(fd)

    def _open(self, suffix: str) -> int:
        return os.open(self.file(suffix), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
