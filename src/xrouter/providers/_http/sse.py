"""Server-sent events from bytes that arrive in any cut.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, with two
leniencies that vendors need: an event cut off by the end of the stream is still handed out (several omit the
last blank line; a payload that is really cut is no JSON and fails later), and `event:`, `id:` and `retry:` are ignored:
what vendors name so, their payloads say, too.
"""

from typing import ClassVar

from .framing import LineTooLong

_BOM = b"\xef\xbb\xbf"


class EventParser:
    """Feed it chunks, get payloads. Holds at most one event, and of that at most `limit` bytes."""

    FOREIGN_TYPES: ClassVar[frozenset[str]] = frozenset({"application/json", "text/html"})

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tail: list[bytes] = []  # an unfinished line, in pieces: joining at each cut would be quadratic
        self._tail_size = 0
        self._data: list[bytes] = []  # the `data:` values of the unfinished event
        self._data_size = 0
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads of the events that are complete now. Raises `LineTooLong`."""
        if (
            chunk.count(b"\n") == 2  # one whole event and nothing else, as one write of a vendor nearly always is
            and chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and not (self._tail or self._data or self._after_cr or b"\r" in chunk)
            and len(chunk) <= self._limit
        ):
            self._at_start = False
            return [chunk[6:-2]]
        if self._after_cr or b"\r" in chunk:
            chunk = self._only_lf(chunk)
        lines = chunk.split(b"\n")
        last = lines.pop()
        if lines:
            if self._tail:
                lines[0] = b"".join((*self._tail, lines[0]))
                self._tail.clear()
                self._tail_size = 0
            events = self._read(lines)
        else:
            events = []
        if last:
            self._tail.append(last)
            self._tail_size += len(last)
        if self._tail_size + self._data_size > self._limit:
            raise LineTooLong
        return events

    def end(self) -> list[bytes]:
        """The connection ended: the last event, where its blank line is missing."""
        line = b"".join(self._tail)
        self._tail.clear()
        return self._read([line, b""])

    def _only_lf(self, chunk: bytes) -> bytes:
        """CRLF and CR become LF; an LF that follows a CR of the chunk before belongs to it."""
        if not chunk:
            return chunk
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
            if not chunk:
                return chunk
        self._after_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, lines: list[bytes]) -> list[bytes]:
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)
        events = []
        for line in lines:
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    if len(data) > self._limit:
                        raise LineTooLong
                    events.append(data)
                    self._data.clear()
                    self._data_size = 0
            elif line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(value)
                self._data_size += len(value)
        return events
