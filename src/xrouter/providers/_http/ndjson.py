"""Newline-delimited JSON: every line that is not blank is an event.

Source: https://github.com/ndjson/ndjson-spec. The content type says nothing: vendors send such streams as
`application/x-ndjson`, `application/stream+json` and `application/json`.
"""

from typing import ClassVar

from .framing import LineTooLong


class LineParser:
    """Feed it chunks, get lines. Holds at most one line, and of that at most `limit` bytes."""

    FOREIGN_TYPES: ClassVar[frozenset[str]] = frozenset({"text/html"})

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail: list[bytes] = []  # an unfinished line, in pieces: joining at each cut would be quadratic
        self._tail_size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now. Raises `LineTooLong`."""
        lines = chunk.split(b"\n")
        last = lines.pop()
        if lines and self._tail:
            lines[0] = b"".join((*self._tail, lines[0]))
            self._tail.clear()
            self._tail_size = 0
        if last:
            self._tail.append(last)
            self._tail_size += len(last)
        if self._tail_size > self._limit:
            raise LineTooLong
        return self._events(lines)

    def end(self) -> list[bytes]:
        """The connection ended: the last line, where its newline is missing. Raises `LineTooLong`."""
        line = b"".join(self._tail)
        self._tail.clear()
        return self._events([line])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if len(line) > self._limit:
                raise LineTooLong
            payload = line.strip()
            if payload:
                events.append(payload)
        return events
