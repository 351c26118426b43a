"""One answer as it comes in: llhttp's callbacks become a status, headers and a body that is read on demand.

llhttp (through httptools, the parser that uvicorn uses) judges the grammar and the framing; what is bounded here, it
would take without end: heads, header counts, interim answers, trailers. Each answer has a parser of its own, so nothing
that one exchange leaves behind can reach the next.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import httptools

from xrouter.transport import BrokenOff

# Reading stops when this much body lies unread (one more `recv`, up to 256 KiB, may already be in hand).
READ_AHEAD_BYTES: Final = 64 * 1024
# The status line's reason; one header with its name; how many headers and trailers; all of a head.
_MAX_LINE_BYTES: Final = 8 * 1024
_MAX_HEADERS: Final = 128
_MAX_HEAD_BYTES: Final = 128 * 1024
# 1xx answers before the real one (RFC 9110 section 15.2).
_MAX_INTERIM: Final = 8

_ENCODED: Final = frozenset({b"content-encoding", b"transfer-encoding"})
_BODILESS: Final = frozenset({204, 304})


class _Refused(Exception):
    """Raised out of a parser callback; the words complete "<name> ..."."""


class Headers(Mapping[str, str]):
    """Header fields under lower-case names, decoded when they are asked for: most never are."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.encode("latin-1")].decode("latin-1")

    def get(self, name: str, default: Any = None) -> Any:  # the one of `Mapping` raises and catches a KeyError
        found = self._fields.get(name.encode("latin-1"))
        return default if found is None else found.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class Answer:
    """A `Response`, and the protocol of the parser that fills it.

    `name` (host:port) is for messages. `pause` and `resume` steer the socket: the body is held back at the sender when
    nobody reads it. `complete` says that all of it has arrived, `clean` that nothing came behind it.
    """

    __slots__ = (
        "_bodies", "_broken", "_fields", "_framed", "_head", "_head_bytes", "_interim", "_keeps_alive",
        "_loop", "_name", "_parser", "_pause", "_paused", "_resume", "_unread", "_waiter", "clean", "complete",
        "headers", "status",
    )  # fmt: skip

    status: int

    def __init__(
        self, loop: AbstractEventLoop, name: str, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._name = name
        self._pause = pause
        self._resume = resume
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._fields: dict[bytes, bytes] = {}
        self.headers: Mapping[str, str] = Headers(self._fields)
        self._bodies: list[bytes] = []
        self._unread = 0
        self._head: Future[None] | None = None
        self._head_bytes = 0
        self._interim = 0
        self._framed = False
        self._keeps_alive = False
        self._paused = False
        self._waiter: Future[bytes] | None = None
        self._broken: BrokenOff | None = None
        self.status = 0
        self.complete = False
        self.clean = True

    # ── what the connection does ──

    def feed(self, data: bytes) -> None:
        """More bytes of the connection. What they break is told to whoever waits."""
        if self.complete or self._broken is not None or self._parser is None:
            self.clean = False
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(error)
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.fail("protocol", f"sent a head of more than {_MAX_HEAD_BYTES} bytes")
        elif self._waiter is not None:
            self._wake(self._waiter)
        elif self._unread > READ_AHEAD_BYTES and not self._paused:
            self._paused = True
            self._pause()

    def ended(self, *, politely: bool) -> None:
        """The peer has closed its side. A body without length or chunks ends like that, when it did so `politely`."""
        if self.complete or self._broken is not None:
            return
        if politely and self.status and not self._framed:
            self.complete = True
            self.clean = False  # a connection that has ended serves no more
            if self._waiter is not None:
                self._wake(self._waiter)
        else:
            self.fail("eof", "closed the connection")

    def fail(self, reason: str, what: str) -> None:
        """Nothing more will come. `what` completes "<name> ..."."""
        if self.complete or self._broken is not None:
            return
        when = "in the middle of the body" if self.status else "before the status line"
        self._broken = BrokenOff(reason, f"{self._name} {what} {when}")  # type: ignore[arg-type]  # our own words
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        if self._waiter is not None:
            self._wake(self._waiter)

    def release(self) -> None:
        """The exchange is over. The parser holds our callbacks and we hold it: left alone, that ring would wait for
        the garbage collector, and with it all that hangs on the request."""
        self._parser = None

    # ── what the exchange does ──

    async def begun(self) -> None:
        """Wait for the status line and the headers. Raises `BrokenOff`."""
        if not self.status and self._broken is None:
            self._head = self._loop.create_future()
            await self._head
        if not self.status and self._broken is not None:
            raise self._broken
        if _ENCODED.isdisjoint(self._fields):
            return
        encoding = self._fields.get(b"content-encoding", b"identity").lower()
        transfer = self._fields.get(b"transfer-encoding", b"chunked").lower()
        if encoding != b"identity" or transfer != b"chunked":
            raise BrokenOff("protocol", f"{self._name} sent a compressed answer that was not asked for")

    def chunks(self) -> "_Chunks":
        """See `Response.chunks`."""
        return _Chunks(self)

    async def read(self, limit: int) -> bytes:
        """See `Response.read`."""
        declared = self._fields.get(b"content-length")
        if declared is not None and int(declared) > limit:
            raise self._too_large(limit)
        size, pieces = 0, []
        while self._bodies or not self.complete:
            try:
                piece = self._take() if self._bodies else await self._more()
            except StopAsyncIteration:
                break
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise self._too_large(limit)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def reusable(self) -> bool:
        """May the connection serve another request, as far as this one is concerned?"""
        return self.complete and self.clean and self._keeps_alive

    # ── the parser's callbacks ──

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Refused("sent an answer that nobody asked for")

    def on_status(self, reason: bytes) -> None:
        if len(reason) > _MAX_LINE_BYTES:
            raise _Refused(f"sent a status line of more than {_MAX_LINE_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) > _MAX_LINE_BYTES:
            raise _Refused(f"sent a header of more than {_MAX_LINE_BYTES} bytes")
        if self.status:  # a trailer field (RFC 9110 section 6.5): nothing of it is used
            self._head_bytes += 1
            if self._head_bytes > _MAX_HEAD_BYTES:
                raise _Refused("sent trailers without end")
            return
        self._fields[name.lower()] = value.rstrip(b" \t")
        if len(self._fields) > _MAX_HEADERS:
            raise _Refused(f"sent more than {_MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        assert self._parser is not None, "it is calling"
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise _Refused("switched protocols unasked")
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise _Refused(f"sent more than {_MAX_INTERIM} interim answers")
            self._fields.clear()
            return
        fields = self._fields
        self._framed = b"content-length" in fields or b"transfer-encoding" in fields or status in _BODILESS
        self.status = status
        if self._head is not None and not self._head.done():
            self._head.set_result(None)

    def on_body(self, data: bytes) -> None:
        self._bodies.append(data)
        self._unread += len(data)

    def on_message_complete(self) -> None:
        if self.status and self._parser is not None:
            self.complete = True
            self._keeps_alive = self._parser.should_keep_alive()  # the parser forgets it at once

    # ── inside ──

    def _refuse(self, error: httptools.HttpParserError) -> None:
        """The parser's own texts quote nothing of the peer's, and ours do not either."""
        own = error.__context__
        if self.complete:  # what came behind the end takes nothing back
            self.clean = False
        elif isinstance(own, _Refused):
            self.fail("protocol", str(own))
        else:
            self.fail("protocol", f"broke HTTP/1.1 ({error})")

    def _take(self) -> bytes:
        """All of the body that lies here, and the socket may go on."""
        bodies = self._bodies
        data = bodies[0] if len(bodies) == 1 else b"".join(bodies)
        bodies.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self._resume()
        return data

    def _wake(self, waiter: "Future[bytes]") -> None:
        if self._bodies:
            self._waiter = None
            if not waiter.done():  # else its task was cancelled
                waiter.set_result(self._take())
        elif self.complete or self._broken is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_exception(self._broken or StopAsyncIteration())
                waiter.exception()  # marks it as seen, should the task that waits be cancelled now

    def _more(self) -> "Future[bytes]":
        """The next piece of body. Raises `StopAsyncIteration` at its end, and `BrokenOff`."""
        waiter: Future[bytes] = self._loop.create_future()
        self._waiter = waiter
        if self._bodies or self.complete or self._broken is not None:
            self._wake(waiter)
        return waiter

    def _too_large(self, limit: int) -> BrokenOff:
        return BrokenOff("too_large", f"{self._name} sent a body of more than {limit} bytes")


class _Chunks:
    """The body as it arrives; one step per event of a stream, so it does as little as it can: each step is a future."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> "_Chunks":
        return self

    def __anext__(self) -> "Future[bytes]":
        return self._answer._more()
