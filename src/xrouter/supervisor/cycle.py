"""One request and its answer inside uvicorn, with a shorter way for what nearly every request does.

Reading: a body that is there already (it came with its head) is handed over without a wait. Writing: uvicorn runs
two regular expressions over each header and looks at its name five times; with the dozen headers of an answer that
is about 10 us more. Here the head is built and checked in one piece, and leaves with the body in one write; a piece of
a stream is framed and written without a coroutine around it. Everything else is left to uvicorn.
"""

import re
from collections.abc import Awaitable, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from xrouter.core.closing import NOTHING
from xrouter.edge.body import Here

_NAME = re.compile(rb"[a-z0-9-]+")
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\r\n")) + b"\x7f"
_MOST_NAMES = 256
_plain_names: set[bytes] = set()  # those that were seen and found to be plain; an application has a few dozen


def _are_plain(names: AbstractSet[bytes]) -> bool:
    """Lower-case names without anything that does not belong into one."""
    if any(_NAME.fullmatch(name) is None for name in names):
        return False
    if len(_plain_names) + len(names) <= _MOST_NAMES:
        _plain_names.update(names)
    return True


_SEEN_BY_UVICORN = frozenset({b"connection", b"transfer-encoding"})


class Cycle(RequestResponseCycle):
    """uvicorn's, which still ends all answers, and writes the heads that are not plain: those that steer the
    connection, that come in mixed case or with something that does not belong into a header."""

    def receive(self) -> Awaitable[Any]:  # type: ignore[override]
        if (
            self.more_body
            or not self.message_event.is_set()
            or self.waiting_for_100_continue
            or self.disconnected
            or self.response_complete
        ):
            return super().receive()
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return Here({"type": "http.request", "body": body, "more_body": False})

    _held = b""

    def send(self, message: MutableMapping[str, Any]) -> Awaitable[None]:  # type: ignore[override]
        # Not a coroutine function: pieces of a stream pass without another frame around them.
        if self.flow.write_paused or self.disconnected or self.response_complete:
            return super().send(message)  # type: ignore[arg-type]
        if not self.response_started:
            return NOTHING if self._take_head(message) else super().send(message)  # type: ignore[arg-type]
        if self._held:
            message = self._with_head(message)
        elif self.chunked_encoding and message.get("more_body") and self.scope["method"] != "HEAD":
            if body := message["body"]:
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            return NOTHING
        return super().send(message)  # type: ignore[arg-type]

    def _with_head(self, message: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The body with the head before it: one write and one packet for what is nearly always sent together."""
        held, self._held = self._held, b""
        self.expected_content_length += len(held)
        return {**message, "body": held + message.get("body", b"")}

    def _take_head(self, message: MutableMapping[str, Any]) -> bool:
        """True when the head is checked and waits for its body."""
        headers = [*self.default_headers, *message.get("headers", ())]
        fields = dict(headers)
        length = fields.get(b"content-length")
        if not self.keep_alive or length is None or not _SEEN_BY_UVICORN.isdisjoint(fields):
            return False
        if self.scope["method"] == "HEAD":  # uvicorn drops the body, and the head that would wait for it
            return False
        if len(fields) != len(headers):
            return False
        if not (fields.keys() <= _plain_names or _are_plain(fields.keys())):
            return False
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        count = len(headers)
        if lines.count(b"\n") != count or lines.count(b"\r") != count or lines.translate(None, _CONTROLS) != lines:
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        self.expected_content_length = int(length)
        self.chunked_encoding = False
        self._held = b"%b%b\r\n" % (STATUS_LINE[message["status"]], lines)
        return True
