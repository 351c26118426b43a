"""Writes finished lines from one thread, so that a slow terminal or a full pipe never holds up a call."""

import io
import os
import select
import stat
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final, TextIO

import msgspec

CAPACITY: Final = 10_000
"""Lines that may wait; beyond that they are dropped and counted."""

_PAUSE_S: Final = 0.02
_QUIET_LOOKS: Final = 50
"""For a second after the last line nobody needs to be woken: a thread that wakes takes the processor, and then the
interpreter, from the very call that put the line."""
_ATOMIC_BYTES: Final = min(select.PIPE_BUF, 4096)
"""A pipe keeps a write of this size in one piece, so lines of several workers never mix; a file any."""


class LineSink:
    """A bounded queue and its writer.

    Putting a line costs well under a microsecond: the writer is woken once for a whole batch and then looks
    again every 20 ms until nothing has come for a second. `dropped` counts lines that were not written: the queue
    was full, or the stream refused them; the writer says so in a line of its own when it can write again.
    """

    def __init__(self, stream: TextIO | None, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self.on_dropped: Callable[[int], None] | None = None
        self._write, self._atomic = _writer(stream)
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        self._flushes: deque[Event] = deque()
        self._awake = False
        self._wake = Event()
        self._hurry = Event()
        self._counting = Lock()
        self._told = 0
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line without its newline. Never waits, never raises."""
        if len(self._lines) >= self._capacity:
            self._drop(1)
            return
        self._lines.append(line)
        if not self._awake:
            self._awake = True
            self._wake.set()

    def flush(self, deadline_s: float) -> bool:
        """Wait until everything put so far is written; False when that takes longer than `deadline_s`."""
        done = Event()
        self._flushes.append(done)
        self._hurry.set()
        self._awake = True
        self._wake.set()
        return done.wait(deadline_s)

    def _drop(self, count: int) -> None:
        with self._counting:
            self.dropped += count

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            quiet = 0
            while quiet < _QUIET_LOOKS:
                self._hurry.wait(_PAUSE_S)
                self._hurry.clear()
                if self._lines or self._flushes:
                    self._write_batch()
                    quiet = 0
                else:
                    quiet += 1
            self._awake = False
            if self._lines or self._flushes:  # put() may have seen us awake just now
                self._wake.set()

    def _write_batch(self) -> None:
        """Everything that waits now, and then whoever waits for it."""
        waiting = [self._flushes.popleft() for _ in range(len(self._flushes))]
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._atomic:
            self._write_pieces(lines)
        elif lines:
            self._write_lines(lines)
        self._tell_dropped()
        for done in waiting:
            done.set()

    def _write_pieces(self, lines: list[bytes]) -> None:
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if piece and size + len(line) >= _ATOMIC_BYTES:
                self._write_lines(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line) + 1
        if piece:
            self._write_lines(piece)

    def _write_lines(self, lines: list[bytes]) -> None:
        try:
            self._write(b"\n".join(lines) + b"\n")
        except (OSError, ValueError):  # the reader is gone, the disk is full, the stream is closed
            self._drop(len(lines))

    def _tell_dropped(self) -> None:
        dropped = self.dropped
        if dropped == self._told:
            return
        news = dropped - self._told
        line = {"level": "warning", "event": "log lines dropped", "count": news}
        try:
            self._write(msgspec.json.encode(line) + b"\n")
        except (OSError, ValueError):
            return
        finally:
            self._told = dropped
            if self.on_dropped is not None:
                self.on_dropped(news)


def _writer(stream: TextIO | None) -> tuple[Callable[[bytes], None], bool]:
    """How to write to `stream`: through a duplicate of its descriptor where it has one; and whether it takes small
    pieces only. A file takes a whole batch at once: each write lets go of the interpreter, and so costs a call time.

    The duplicate stays ours even when the stream is closed and its number given to another file.
    """
    if stream is None:
        return _nowhere, False
    try:
        descriptor = os.dup(stream.fileno())
    except (io.UnsupportedOperation, AttributeError, ValueError, OSError):
        return lambda piece: _write_text(stream, piece), False
    return lambda piece: _write_all(descriptor, piece), not stat.S_ISREG(os.fstat(descriptor).st_mode)


def _nowhere(piece: bytes) -> None:
    raise OSError("there is no stream to write to")


def _write_text(stream: TextIO, piece: bytes) -> None:
    stream.write(piece.decode())
    stream.flush()


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody else has made the terminal non-blocking
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
