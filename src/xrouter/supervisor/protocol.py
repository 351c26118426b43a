"""uvicorn's HTTP/1.1 protocol, with what has to be decided before ASGI sees a request.

The parser (httptools 0.9 with llhttp) refuses most malformed requests by itself: bare LF, folded headers,
control characters, Content-Length beside Transfer-Encoding, several Content-Lengths. What it or uvicorn 0.54
let through without a trace in the ASGI scope is handled here; all that leaves a trace is `edge.Edge`'s work.

- one header of any size is buffered whole: cut at `max_head_bytes`
- a client may take any time for its request line and headers, or send none at all: `head_timeout_s`
- a client that stops reading holds its stream for ever: `write_timeout_s`
- trailer fields are appended to the headers: an `Authorization` there would count; they are dropped
- scheme, host and fragment of the request target are dropped: kept in the scope for `Edge`
- values keep their trailing spaces: stripped (RFC 9110 section 5.5)
- a malformed pipelined request is answered in the middle of the answer before it: only closed
- refusals are plain text: made JSON in the shape of every other error
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from xrouter.core.ids import ulid
from xrouter.edge.headers import CLOSE, secured
from xrouter.edge.validator import TARGET
from xrouter.supervisor.cycle import Cycle

_BLANKS = (b" ", b"\t")


class GuardedProtocol(HttpToolsProtocol):
    """One client connection. Made through `guarded()`."""

    max_head_bytes: ClassVar[int]
    head_timeout_s: ClassVar[float]
    write_timeout_s: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_open = False
        self._head_fresh = False
        self._head_bytes = 0
        self._in_trailer = False
        self._refused = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._disarm_head_timer()
        self._disarm_write_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_open:
            self._head_continues(len(data))
        elif self._answering():
            if self._head_timer is not None:
                self._disarm_head_timer()
        elif self._head_timer is None:  # empty lines, or the rest of a body that was answered early
            self._arm_head_timer()

    def _head_continues(self, size: int) -> None:
        """A read ended inside a head. The read in which it began is not counted: it is bounded by the socket
        buffer and may belong to the request before."""
        if self._refused:
            return
        if self._head_fresh:
            self._head_fresh = False
        else:
            self._head_bytes += size
            if self._head_bytes > self.max_head_bytes:
                self._refuse(431, "headers_too_large", f"The headers are larger than {self.max_head_bytes} bytes.")
                return
        if self._head_timer is None:
            self._arm_head_timer()

    # ── parser callbacks ──

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_open = self._head_fresh = True
        self._head_bytes = 0
        self._in_trailer = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_trailer:
            return
        if value[-1:] in _BLANKS:
            value = value.rstrip(b" \t")
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._in_trailer = True
        if not self.url.startswith(b"/") or b"#" in self.url:
            self.scope["extensions"] = {TARGET: {"bytes": self.url}}
        super().on_headers_complete()
        # uvicorn names the class of its cycles in the middle of that method; its task has not begun to run yet.
        self.cycle.__class__ = Cycle

    # ── timers ──

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_timed_out)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self._answering():  # reading may be paused: not the client's fault
            self._arm_head_timer()
        elif self._head_open:
            self._refuse(408, "request_timeout", f"The headers did not arrive within {self.head_timeout_s:g} seconds.")
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._disarm_write_timer()

    def _disarm_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # ── refusals ──

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid_http", "The request is not well-formed HTTP/1.1.")

    def on_response_complete(self) -> None:
        if self._refused:
            self.transport.close()
        super().on_response_complete()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Say why, and close. An answer under way is left to end first, because its request was good: nothing
        is mixed into it, and nothing after it is read or answered."""
        if self._refused:
            return
        self._refused = True
        self._disarm_head_timer()
        if self._answering():
            if self.pipeline or not self.cycle.more_body:
                self.flow.pause_reading()
                return
            # The body of this very request broke off in nonsense; closing tells its application.
            if self.cycle.response_started:
                self.transport.close()
                return
        request_id = f"req_{ulid()}".encode()
        body = (
            b'{"error":{"message":"%b","type":"invalid_request_error","param":null,"code":"%b",'
            b'"metadata":{"request_id":"%b"}}}' % (message.encode(), code.encode(), request_id)
        )
        length = b"%d" % len(body)
        headers = secured(
            [(b"content-type", b"application/json"), (b"content-length", length), (b"x-request-id", request_id), CLOSE],
            self.scheme or "http",
        )
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self.transport.close()


def guarded(
    *, max_head_bytes: int, head_timeout_s: float = 10.0, write_timeout_s: float = 30.0
) -> type[GuardedProtocol]:
    """The protocol class for `uvicorn.Config(http=...)`. Sizes in bytes, times in seconds."""
    limits = {"max_head_bytes": max_head_bytes, "head_timeout_s": head_timeout_s, "write_timeout_s": write_timeout_s}
    return type("LimitedProtocol", (GuardedProtocol,), limits)
