"""The crash-safe record of attempts: intent before the first upstream byte, outcome at the end.

Each process writes to its own directory `root/<owner>/`: a `lock` file that it holds while it lives (the kernel
frees it at death) and numbered segments. A completed `write` survives the death of the process; `fdatasync`
follows within 50 ms in a thread and covers loss of power. `flusher.py` reads the segments and deletes them.

The process must not fork without exec while a journal is open: the child would inherit the lock.
"""

import logging
import os
import struct
from collections import deque
from errno import EAGAIN, ENOSPC
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final

from xrouter.core.call import Attempt, Phase, State
from xrouter.core.chat import Usage
from xrouter.core.clock import Clock
from xrouter.core.errors import Overloaded
from xrouter.core.ids import ulid
from xrouter.stores.files import sync_directory, try_lock
from xrouter.stores.frames import fitting_int, frame

_log = logging.getLogger(__name__)

LOCK_NAME: Final = "lock"
SEGMENT_SUFFIX: Final = ".log"
NEW_SUFFIX: Final = ".new"

_SYNC_INTERVAL_S: Final = 0.05
_QUIET_LOOKS: Final = 20  # for a second after the last write the thread looks by itself: waking it would hold up a call
_SEGMENT_BYTES: Final = 1024 * 1024
_IDLE_SEGMENT_BYTES: Final = 64 * 1024
_IDLE_SEGMENT_S: Final = 5.0
_MOST_RETRIES: Final = 10_000
_LONGEST_TEXT: Final = 512
_LONGEST_BYTES: Final = 16 * 1024
_UNENCODABLE: Final = (ValueError, TypeError, OverflowError, struct.error)

_OPEN, _SENT = State.OPEN.value, Phase.SENT.value


class FileJournal:
    """The port `Journal` over one directory. `owner` names this process in the books.

    `failed_writes` counts writes that the file system refused, `dropped` the outcomes given up because more
    than 10,000 of them waited for it; `waiting` outcomes are tried again every 50 ms.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        """Makes the directory and takes its lock. Raises OSError where that fails."""
        self.owner: Final = ulid()
        self.failed_writes = 0
        self.dropped = 0
        self._clock = clock
        self._directory = root / self.owner
        self._lock_fd = _make_directory(self._directory)
        self._number = 1
        self._fd = _create(self._segment(1))
        self._size = 0
        self._opened_at = clock.monotonic()
        self._retries: deque[bytes] = deque()
        self._guard = Lock()  # held for each write and while segments change
        self._dirty = False
        self._asleep = False
        self._wake = Event()
        self._closing = Event()
        self._thread = Thread(target=self._keep, name="journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Outcomes that the file system has refused so far."""
        return len(self._retries)

    def intend(self, attempt: Attempt, expected: Usage, expected_cost_micro: int) -> None:
        """Record that the attempt's first byte is about to leave. Raises `Overloaded` when that cannot be."""
        record = self._frame(attempt, _OPEN, _SENT, expected, expected_cost_micro)
        try:
            with self._guard:
                self._append(record)
        except OSError as error:
            self._count_failure(error)
            raise Overloaded("The gateway cannot record calls at the moment.", retry_after_s=1.0) from error

    def settle(self, attempt: Attempt) -> None:
        """Record the attempt's end. Never raises: an outcome that cannot be written waits in memory."""
        state = State.INTERRUPTED if attempt.state is State.OPEN else attempt.state
        record = self._frame(attempt, state, attempt.phase, attempt.usage, attempt.cost_micro)
        try:
            with self._guard:
                self._append(record)
        except OSError as error:
            self._keep_for_later(record, error)

    def close(self) -> None:
        """Write and sync what is left and give the directory up; the flusher then books all of it."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._retry()
        self._sync()
        with self._guard:  # a late outcome must not reach whatever file gets this number next
            finished, self._fd = self._fd, -1
        os.close(finished)
        os.close(self._lock_fd)
        if self._retries:
            _log.error("%d outcomes are lost: the journal could not be written", len(self._retries))

    def _frame(self, attempt: Attempt, state: str, phase: str, usage: Usage | None, cost_micro: int) -> bytes:
        call, deployment = attempt.call, attempt.deployment
        fields = (
            attempt.id,
            call.id,
            call.request_id,
            call.client_request_id,
            call.caller.key_id,
            attempt.number,
            attempt.model,
            deployment.id,
            deployment.provider,
            deployment.upstream_model,
            call.dialect,
            call.request.stream,
            self.owner,
            state,
            phase,
            attempt.started_at,
            attempt.first_content_at,
            attempt.ended_at,
            attempt.upstream_status,
            attempt.upstream_request_id,
            usage.input_tokens if usage is not None else 0,
            usage.output_tokens if usage is not None else 0,
            usage.cached_tokens if usage is not None else 0,
            usage.reasoning_tokens if usage is not None else 0,
            usage.estimated if usage is not None else False,
            cost_micro,
            attempt.price is None,
            attempt.finish_reason,
            attempt.error,
            call.end_user,
            attempt.on_operator,
            call.decision if attempt.number == 1 else None,
        )
        try:
            return frame(fields)
        except _UNENCODABLE:
            return frame(tuple(_fit(value) for value in fields))

    def _append(self, record: bytes) -> None:
        written = os.write(self._fd, record)
        self._size += written
        if written != len(record):  # the disk is full: take the half record back
            os.ftruncate(self._fd, self._size - written)
            self._size -= written
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        self._dirty = True
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def _keep_for_later(self, record: bytes, error: OSError) -> None:
        if len(self._retries) < _MOST_RETRIES:
            self._retries.append(record)
        else:
            self.dropped += 1
        self._count_failure(error)
        self._wake.set()

    def _count_failure(self, error: OSError) -> None:
        self.failed_writes += 1
        if self.failed_writes & (self.failed_writes - 1) == 0:  # the log hears of the 1st, 2nd, 4th, 8th ...
            _log.error(
                "the journal cannot be written: %s; failures %d, outcomes waiting %d",
                error.strerror,
                self.failed_writes,
                self.waiting,
            )

    def _keep(self) -> None:
        """The thread: sync, repeat refused writes, begin new segments."""
        quiet = 0
        while not self._closing.is_set():
            self._pause()
            if self._dirty or self._retries:
                self._retry()
                self._sync()
                self._rotate()
                quiet = 0
            elif quiet < _QUIET_LOOKS:
                quiet += 1
            else:
                self._sleep()
                quiet = 0

    def _sleep(self) -> None:
        """Until somebody writes."""
        self._asleep = True
        if not (self._dirty or self._retries or self._closing.is_set()):
            self._wake.wait()
        self._asleep = False

    def _pause(self) -> None:
        """Collect writes for 50 ms; cut short when the journal closes."""
        self._wake.clear()
        if not self._closing.is_set():
            self._wake.wait(_SYNC_INTERVAL_S)

    def _retry(self) -> None:
        while self._retries:
            try:
                with self._guard:
                    self._append(self._retries[0])
            except OSError:
                return
            self._retries.popleft()

    def _sync(self) -> None:
        if not self._dirty:
            return
        self._dirty = False  # before the sync: what is written meanwhile is dirty again
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            _log.error("the journal cannot be synced: %s", error.strerror)

    def _rotate(self) -> None:
        """Begin a new segment when this one is large, or not small and old: what a restart reads again stays
        little. The rename that makes the new file visible and the switch to it happen under the guard, so a
        reader that sees a newer segment knows that the older one is complete."""
        aged = self._clock.monotonic() - self._opened_at >= _IDLE_SEGMENT_S
        if self._size < (_IDLE_SEGMENT_BYTES if aged else _SEGMENT_BYTES):
            return
        try:
            finished = self._begin_segment()
            os.fdatasync(finished)
            os.close(finished)
            sync_directory(self._directory)
        except OSError as error:
            _log.error("the journal cannot begin a new segment: %s", error.strerror)

    def _begin_segment(self) -> int:
        path = self._segment(self._number + 1)
        fresh = path.with_suffix(NEW_SUFFIX)
        fresh.unlink(missing_ok=True)
        fd = _create(fresh)
        try:
            with self._guard:
                fresh.rename(path)
                finished, self._fd, self._size = self._fd, fd, 0
        except OSError:
            os.close(fd)
            raise
        self._number += 1
        self._opened_at = self._clock.monotonic()
        return finished

    def _segment(self, number: int) -> Path:
        return self._directory / f"{number:08d}{SEGMENT_SUFFIX}"


def _fit(value: Any) -> Any:
    """A value that would not go into a record, made to: a hostile text or number must not cost us the record."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, bytes):
        return value if len(value) <= _LONGEST_BYTES else None
    if isinstance(value, int):
        return fitting_int(value)
    if isinstance(value, float):
        return value
    return str(value)[:_LONGEST_TEXT].encode("utf-8", "replace").decode()


def _make_directory(directory: Path) -> int:
    """Makes the owner's directory and takes its lock before anybody can see it."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    hidden = directory.with_suffix(NEW_SUFFIX)
    hidden.mkdir(mode=0o700)
    lock_fd = os.open(hidden / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    if not try_lock(lock_fd):  # nobody can know this directory yet
        raise BlockingIOError(EAGAIN, os.strerror(EAGAIN), str(hidden))
    hidden.rename(directory)
    sync_directory(directory.parent)
    return lock_fd


def _create(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
