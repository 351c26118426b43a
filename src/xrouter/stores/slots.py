"""Slots that all processes of this host share: at most N calls at once for a vendor's credential.

A slot is an flock on one of N files, so a process that dies gives its slots back. Within a process callers
are served in turn, and a slot that comes free is handed on at once; a process asks again every few
milliseconds only while it has callers waiting. A process that sees others wait lets them have their turn.
"""

import asyncio
import fcntl
import hashlib
import os
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final

from xrouter.stores.files import try_lock

_FIRST_POLL_S: Final = 0.005
_LONGEST_POLL_S: Final = 0.02
_MOST_SLOTS: Final = 1024  # settings refuse more


class HostSlots:
    """The port `Slots` over lock files in `directory`. One instance for each process, on one event loop.

    Names come from the configuration, not from clients: their locks are kept open, one file descriptor for
    each slot that was ever used here, plus one.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._rooms: dict[str, _Slots] = {}

    def hold(self, name: str, limit: int, deadline: float) -> "_Hold":
        """Hold one of `limit` slots called `name` within the returned context; 0 means no limit.

        Waits in turn until the monotonic `deadline`, then raises TimeoutError. Raises ValueError for a limit
        above 1024.
        """
        if limit > _MOST_SLOTS:
            raise ValueError(f"at most {_MOST_SLOTS} slots, not {limit}")
        if limit <= 0:
            return _Hold(None, deadline)
        slots = self._rooms.get(name)
        if slots is None:
            stem = hashlib.sha256(name.encode()).hexdigest()[:32]
            slots = self._rooms[name] = _Slots(self._directory, stem)
        slots.limit = limit
        return _Hold(slots, deadline)

    def close(self) -> None:
        """Close every lock file, which frees what is still held."""
        for slots in self._rooms.values():
            slots.close()
        self._rooms.clear()


class _Hold:
    """One caller's slot, from entering to leaving."""

    __slots__ = ("_deadline", "_index", "_slots")

    def __init__(self, slots: "_Slots | None", deadline: float) -> None:
        self._slots = slots
        self._deadline = deadline
        self._index = -1

    async def __aenter__(self) -> None:
        slots = self._slots
        if slots is None:
            return
        index = slots.take() if not slots.waiters else None
        self._index = await slots.wait(self._deadline) if index is None else index

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._slots is not None:
            self._slots.give_back(self._index)


class _Slots:
    """The slots of one name: lock files `<stem>.<index>`, and `<stem>.queue` that waiting processes share."""

    def __init__(self, directory: Path, stem: str) -> None:
        self.limit = 0
        self.waiters: deque[asyncio.Future[int]] = deque()
        self._directory = directory
        self._stem = stem
        self._fds: dict[int, int] = {}
        self._held: set[int] = set()
        self._queue_fd = self._open("queue")
        self._poll_s = _FIRST_POLL_S
        self._poll: asyncio.TimerHandle | None = None

    def take(self) -> int | None:
        """A slot that nobody on this host holds, or None."""
        if len(self._held) >= self.limit:
            return None
        for index in range(self.limit):
            if index not in self._held and self._lock(index):
                self._held.add(index)
                return index
        return None

    async def wait(self, deadline: float) -> int:
        """Stand in the queue. Raises TimeoutError at the `deadline`."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[int] = loop.create_future()
        if not self.waiters:
            fcntl.flock(self._queue_fd, fcntl.LOCK_SH)  # never waits for long: see `_others_wait`
            self._poll_s = _FIRST_POLL_S
            self._poll_later()
        self.waiters.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                return await turn
        except BaseException:
            if turn in self.waiters:
                self.waiters.remove(turn)
                self._stop_when_empty()
            if turn.done() and not turn.cancelled():  # a slot was handed over in the very moment we left
                self.give_back(turn.result())
            raise

    def give_back(self, index: int) -> None:
        """Hand the slot to the next in turn here, or free it for everybody."""
        if self.waiters and index < self.limit and not self._others_wait() and self._grant(index):
            return
        self._held.discard(index)
        fcntl.flock(self._fds[index], fcntl.LOCK_UN)
        if self.waiters:  # it is the others' turn: come back after they had time to look
            self._poll_s = _LONGEST_POLL_S
            self._poll_later()

    def close(self) -> None:
        """Close the files. Waiting callers must have left."""
        if self._poll is not None:
            self._poll.cancel()
        for fd in (self._queue_fd, *self._fds.values()):
            os.close(fd)
        self._fds.clear()

    def _grant(self, index: int) -> bool:
        """Give a held slot to the first in turn; False when everybody has just left."""
        while self.waiters:
            turn = self.waiters.popleft()
            if not turn.done():
                turn.set_result(index)
                self._stop_when_empty()
                return True
        self._stop_when_empty()
        return False

    def _try_again(self) -> None:
        self._poll = None
        while self.waiters and (index := self.take()) is not None:
            if not self._grant(index):
                self.give_back(index)
        if self.waiters:
            self._poll_s = min(self._poll_s * 2, _LONGEST_POLL_S)
            self._poll_later()

    def _poll_later(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        self._poll = asyncio.get_running_loop().call_later(self._poll_s, self._try_again)

    def _stop_when_empty(self) -> None:
        if not self.waiters:
            fcntl.flock(self._queue_fd, fcntl.LOCK_UN)
            if self._poll is not None:
                self._poll.cancel()
                self._poll = None

    def _others_wait(self) -> bool:
        """Does another process hold the queue's lock too? Asked by trying to have it alone for an instant."""
        alone = try_lock(self._queue_fd)
        fcntl.flock(self._queue_fd, fcntl.LOCK_SH)
        return not alone

    def _lock(self, index: int) -> bool:
        fd = self._fds.get(index)
        if fd is None:
            fd = self._fds[index] = self._open(str(index))
        return try_lock(fd)

    def _open(self, suffix: str) -> int:
        return os.open(self._directory / f"{self._stem}.{suffix}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
