"""Writes finished lines from one thread, so that a slow terminal or a full pipe never holds up a call."""

import io
import os
import select
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final, TextIO

import msgspec

CAPACITY: Final = 10_000
"""Lines that may wait; beyond that they are dropped and counted."""

_PAUSE_S: Final = 0.02
_ATOMIC_BYTES: Final = min(select.PIPE_BUF, 4096)
"""A pipe keeps a write of this size in one piece, so lines of several workers never mix."""


class LineSink:
    """A bounded queue and its writer.

    Putting a line costs well under a microsecond: the writer is woken once for a whole batch and then looks
    again every 20 ms until nothing is left. `dropped` counts lines that were not written, because the queue
    was full or the stream refused them; the writer says so in a line of its own when it can write again.
    """

    def __init__(self, stream: TextIO | None, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self.on_dropped: Callable[[int], None] | None = None
        self._write = _writer(stream)
        self._capacity = capacity
        self._lines: deque[bytes | Event] = deque()
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
        self._lines.append(done)
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
            while self._lines:
                self._hurry.wait(_PAUSE_S)
                self._hurry.clear()
                self._write_batch()
            self._awake = False
            if self._lines:  # put() may have seen us awake just now
                self._wake.set()

    def _write_batch(self) -> None:
        piece, lines = bytearray(), 0
        for _ in range(len(self._lines)):
            item = self._lines.popleft()
            if isinstance(item, Event):
                self._write_piece(piece, lines)
                piece, lines = bytearray(), 0
                item.set()
                continue
            if lines and len(piece) + len(item) >= _ATOMIC_BYTES:
                self._write_piece(piece, lines)
                piece, lines = bytearray(), 0
            piece += item
            piece += b"\n"
            lines += 1
        self._write_piece(piece, lines)
        self._tell_dropped()

    def _write_piece(self, piece: bytearray, lines: int) -> None:
        if lines:
            try:
                self._write(piece)
            except (OSError, ValueError):  # the reader is gone, the disk is full, the stream is closed
                self._drop(lines)

    def _tell_dropped(self) -> None:
        dropped = self.dropped
        if dropped == self._told:
            return
        news = dropped - self._told
        line = {"level": "warning", "event": "log lines dropped", "count": news}
        try:
            self._write(bytearray(msgspec.json.encode(line) + b"\n"))
        except (OSError, ValueError):
            return
        finally:
            self._told = dropped
            if self.on_dropped is not None:
                self.on_dropped(news)


def _writer(stream: TextIO | None) -> Callable[[bytearray], None]:
    """How to write to `stream`: through a duplicate of its descriptor where it has one.

    The duplicate stays ours even when the stream is closed and its number given to another file.
    """
    if stream is None:
        return _nowhere
    try:
        descriptor = os.dup(stream.fileno())
    except (io.UnsupportedOperation, AttributeError, ValueError, OSError):
        return lambda piece: _write_text(stream, piece)
    return lambda piece: _write_all(descriptor, piece)


def _nowhere(piece: bytearray) -> None:
    raise OSError("there is no stream to write to")


def _write_text(stream: TextIO, piece: bytearray) -> None:
    stream.write(piece.decode())
    stream.flush()


def _write_all(descriptor: int, piece: bytearray) -> None:
    view = memoryview(piece)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody else has made the terminal non-blocking
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
