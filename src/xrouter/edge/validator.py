"""The first thing a request meets: is it one well-formed HTTP request, meant for us, within its limits?

Two servers that read the same bytes differently are what request smuggling, cache poisoning and access
bypass are made of (RFC 9112 section 11). So whatever could be read in two ways is refused, and the connection
is closed after it: nothing of a refused request is ever read as the next one.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from itertools import chain
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from xrouter.core.errors import (
    GatewayError,
    HeadersTooLarge,
    Invalid,
    MethodNotAllowed,
    UnsupportedMedia,
    UrlTooLong,
)
from xrouter.edge.body import Here, Receive, too_large, too_slow
from xrouter.edge.headers import CLOSE, Header, secured

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[Scope, GatewayError], tuple[int, list[Header], bytes]]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

TARGET = "xrouter.target"
"""Key in `scope["extensions"]`: `{"bytes": the request target as it came}`, where it was not a plain path.
Servers drop its scheme, host and fragment before ASGI sees them; `supervisor.protocol` keeps them here."""

LINGER_BYTES = 4 * 1024 * 1024
"""How much of an unread body is still taken after its answer, so that the answer arrives: a socket that is
closed over unread bytes sends a reset, and the client may never see why it was refused."""

# Headers that decide who is asking, where the message ends or what it means: they come once.
_SINGLE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"content-type",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"expect",
        b"upgrade",
        b"idempotency-key",
    }
)
# Headers that no `Connection` header may strip and no name with `_` may imitate (CGI-style software reads both
# as one).
_GUARDED = _SINGLE | {b"connection", b"cookie", b"forwarded", b"x-real-ip", b"x-request-id", b"x-client-request-id"}
_GUARDED_PREFIXES = (b"x-forwarded-", b"x-xrouter-")

_CONTROLS = bytes(set(range(0x20)) - {0x09}) + b"\x7f"
_HOST = re.compile(rb"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{1,5}))?")
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MODEL_PATHS = (b"/v1/models/", b"/api/v1/models/")
_KNOWN_HOSTS = 64
_KNOWN_PLACES = 256
_KNOWN_PATH_BYTES = 256
# Headers that change what is asked of the server; `_check_meaning` looks at them.
_MEANT = frozenset({b"upgrade", b"expect", b"content-encoding"})


class Edge:
    """ASGI application around `app`.

    `allowed_hosts`: names without port; `*.example.com` stands for every name below; empty allows any
    well-formed name. `max_*` are bytes, `max_header_count` fields, `body_timeout_s` the time for the whole body.
    `refuse` turns an error into status, headers and body; the security headers are added here. `linger_s` is how
    long an unread body may still arrive after its answer, see `LINGER_BYTES`.

    The application gets a `receive` that keeps the body's limits of size and time (it raises `TooLarge` and
    `RequestTimeout`), and a `send` that adds the security headers and closes the connection when the
    application answers before it has read the body. A `GatewayError` that the application lets through is
    answered here.
    """

    def __init__(
        self,
        app: App,
        *,
        allowed_hosts: Sequence[str],
        max_header_bytes: int,
        max_header_count: int = 100,
        max_url_bytes: int = 8192,
        max_body_bytes: int,
        body_timeout_s: float,
        refuse: Refuse,
        linger_s: float = 2.0,
    ) -> None:
        self._app = app
        self._exact_hosts = frozenset(_bracketed(host.lower()) for host in allowed_hosts if not host.startswith("*."))
        self._host_suffixes = tuple(host[1:].lower() for host in allowed_hosts if host.startswith("*."))
        self._good_hosts: set[bytes] = set()
        self._good_places: set[tuple[bytes, str]] = set()
        self._max_header_bytes = max_header_bytes
        self._max_header_count = max_header_count
        self._max_url_bytes = max_url_bytes
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._refuse = refuse
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1002})
                return
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._linger_s)
        try:
            fields = self._check_form(scope)
            length = _body_length(fields, scope["http_version"])
            exchange.expect_body(length, self._max_body_bytes, self._body_timeout_s)
            self._check_meaning(scope, fields)
        except GatewayError as error:
            await exchange.answer(*self._refuse(scope, error), close=True)
            return
        try:
            await self._app(scope, exchange.receive if exchange.unread else receive, exchange.send)
        except GatewayError as error:
            if exchange.started:
                raise
            await exchange.answer(*self._refuse(scope, error), close=exchange.unread)

    def _check_form(self, scope: Scope) -> dict[bytes, bytes]:
        """Sizes, and headers that have one reading. Returns the headers by name."""
        version = scope["http_version"]
        if version != "1.1" and version != "1.0":
            raise Invalid("Only HTTP/1.1 and HTTP/1.0 are spoken here.", code="invalid_http_version")
        headers = scope["headers"]
        self._check_sizes(scope, headers)
        fields: dict[bytes, bytes] = dict(headers)
        if len(fields) != len(headers):
            fields = _merged(headers)
        if b"_" in b"".join(fields):
            _check_underscores(fields)
        if b"connection" in fields:
            _check_connection(fields[b"connection"])
        return fields

    def _check_meaning(self, scope: Scope, fields: dict[bytes, bytes]) -> None:
        """Is it for this server, in a form that this server serves?"""
        host = fields.get(b"host", b"").strip(b" \t")
        if host not in self._good_hosts:
            self._check_host(host)
        place = (scope["raw_path"], scope["method"])
        if place not in self._good_places:
            self._check_place(*place)
        if "extensions" in scope and TARGET in scope["extensions"]:
            _check_target(scope["extensions"][TARGET]["bytes"], host, scope["scheme"])
        if _MEANT.isdisjoint(fields):
            return
        if b"upgrade" in fields:
            raise Invalid(
                "No upgrade is offered here: speak plain HTTP/1.1 (in Java: HttpClient.Version.HTTP_1_1).",
                code="upgrade_not_supported",
            )
        if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise Invalid("Expect knows only 100-continue.", code="invalid_expect")
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMedia("Send the body without Content-Encoding.", code="unsupported_encoding")

    def _check_place(self, path: bytes, method: str) -> None:
        """Accepts a path and a method, and remembers them."""
        _check_path(path, method)
        if method not in METHODS:
            raise MethodNotAllowed(f"The method {method} is not known here.", allow=METHODS)
        if len(path) <= _KNOWN_PATH_BYTES:
            if len(self._good_places) >= _KNOWN_PLACES:
                self._good_places.clear()
            self._good_places.add((path, method))

    def _check_sizes(self, scope: Scope, headers: Sequence[Header]) -> None:
        if len(headers) > self._max_header_count:
            raise HeadersTooLarge(f"The request has more than {self._max_header_count} headers.")
        text = b"".join(chain.from_iterable(headers))
        if len(text) + 4 * len(headers) > self._max_header_bytes:
            raise HeadersTooLarge(f"The headers are larger than {self._max_header_bytes} bytes.")
        if len(text.translate(None, _CONTROLS)) != len(text):
            raise Invalid("A header holds a control character.", code="invalid_header")
        query = scope["query_string"]
        if len(scope["raw_path"]) + len(query) >= self._max_url_bytes:
            raise UrlTooLong(f"The URL is longer than {self._max_url_bytes} bytes.")
        if not query.isascii():
            raise Invalid("The URL holds bytes that are not ASCII; percent-encode them.", code="invalid_url")

    def _check_host(self, value: bytes) -> None:
        """Accepts a Host header and remembers it."""
        found = _HOST.fullmatch(value)
        if found is None or (found[2] is not None and int(found[2]) > 65535):
            raise Invalid("The request needs exactly one well-formed Host header.", code="invalid_host")
        name = found[1].decode().lower()
        listed = name in self._exact_hosts or name.endswith(self._host_suffixes)
        if (self._exact_hosts or self._host_suffixes) and not listed:
            raise Invalid("This host name is not served here; see XROUTER_ALLOWED_HOSTS.", code="invalid_host")
        if len(self._good_hosts) >= _KNOWN_HOSTS:
            self._good_hosts.clear()
        self._good_hosts.add(value)


class _Exchange:
    """One request and its answer: keeps the body's limits, completes the answer's headers."""

    __slots__ = (
        "_deadline",
        "_limit",
        "_linger_s",
        "_receive",
        "_scope",
        "_send",
        "_size",
        "_timeout_s",
        "started",
        "unread",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, linger_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._linger_s = linger_s
        self.started = False
        self.unread = False

    def expect_body(self, length: int | None, limit: int, timeout_s: float) -> None:
        """Raises `TooLarge` at the header already; the connection then lingers for what the client sends."""
        self.unread = length != 0
        if self.unread:
            if length is not None and length > limit:
                raise too_large(limit)
            self._size = 0
            self._limit = limit
            self._timeout_s = timeout_s
            self._deadline = asyncio.get_running_loop().time() + timeout_s

    async def receive(self) -> Any:
        if not self.unread:
            return await self._receive()
        waiting = self._receive()
        message = waiting.message if isinstance(waiting, Here) else await self._in_time(waiting)
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise too_large(self._limit)
        if not message.get("more_body", False):
            self.unread = False
        return message

    async def _in_time(self, waiting: Awaitable[Any]) -> Any:
        """What `asyncio.timeout_at` would do, for a quarter of its time."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "a coroutine runs in a task"
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        timer = loop.call_at(self._deadline, expire)
        try:
            return await waiting
        except asyncio.CancelledError:
            if late and task.uncancel() == 0:
                raise too_slow(self._timeout_s) from None
            raise
        finally:
            timer.cancel()

    def send(self, message: Message) -> Awaitable[None]:
        # Not a coroutine function: pieces of a stream pass without another frame around them.
        if self.started:
            if self.unread and not message.get("more_body", False):
                return self._end(message)
            return self._send(message)
        self.started = True
        headers = secured(message.get("headers", ()), self._scope["scheme"])
        if self.unread:
            headers.append(CLOSE)
        return self._send({**message, "headers": headers})

    async def answer(self, status: int, headers: list[Header], body: bytes, *, close: bool) -> None:
        """The whole answer at once."""
        if all(name != b"content-length" for name, _ in headers):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        if close and not self.unread:
            headers = [*headers, CLOSE]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _end(self, message: Message) -> None:
        """The last piece of an answer to a request whose body is not read: see `LINGER_BYTES`."""
        await self._send({**message, "more_body": True})
        taken = 0
        try:
            async with asyncio.timeout(self._linger_s):
                while self.unread and taken < LINGER_BYTES:
                    piece = await self._receive()
                    taken += len(piece.get("body", b""))
                    self.unread = piece.get("more_body", False)
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b""})


def _bracketed(host: str) -> str:
    """An IPv6 address as it stands in a Host header."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _merged(headers: Sequence[Header]) -> dict[bytes, bytes]:
    """Headers that came in several lines as the list that they are (RFC 9110 section 5.3)."""
    merged: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in merged:
            merged[name] = value
        elif name in _SINGLE:
            raise Invalid(f"The header {name.decode()} came more than once.", code="duplicate_header")
        else:
            merged[name] += b", " + value
    return merged


def _check_underscores(names: Iterable[bytes]) -> None:
    for name in names:
        dashed = name.replace(b"_", b"-")
        if dashed != name and (dashed in _GUARDED or dashed.startswith(_GUARDED_PREFIXES)):
            raise Invalid("A header name with `_` imitates one with `-`.", code="invalid_header")


def _check_connection(value: bytes) -> None:
    for option in value.lower().split(b","):
        name = option.strip(b" \t")
        if (name in _GUARDED and name != b"upgrade") or name.startswith(_GUARDED_PREFIXES):
            raise Invalid("Connection names a header that every hop must keep.", code="invalid_header")


def _check_path(path: bytes, method: str) -> None:
    """A path has one reading only: no dot segments, no empty ones, no encoded separators."""
    if path == b"*" and method == "OPTIONS":
        return
    if (
        not path.startswith(b"/")
        or b"//" in path
        or b".." in path
        or b"/./" in path
        or path.endswith(b"/.")
        or b"\\" in path
        or not path.isascii()
    ):
        raise Invalid("The path of the URL is not in its plain form.", code="invalid_url")
    if b"%" in path:
        _check_percent(path)
    elif b";" in path and path.startswith(b"/admin"):
        raise Invalid("The path of the URL holds parameters (`;`).", code="invalid_url")


def _check_percent(path: bytes) -> None:
    """Percent-encoding may not change how the path is cut. A model's id may hold a `/` in either form."""
    decoded = unquote_to_bytes(path)
    slashes = decoded.count(b"/") != path.count(b"/")
    if (
        _BAD_PERCENT.search(path)
        or b"%" in decoded  # encoded twice
        or b"//" in decoded
        or b".." in decoded
        or b"/./" in decoded
        or decoded.endswith(b"/.")
        or b"\\" in decoded
        or len(decoded.translate(None, _CONTROLS)) != len(decoded)
        or (slashes and not path.startswith(_MODEL_PATHS))
        or (b";" in decoded and decoded.startswith(b"/admin"))
    ):
        raise Invalid("The path of the URL is not in its plain form.", code="invalid_url")
    try:
        decoded.decode()
    except UnicodeDecodeError:
        raise Invalid("The path of the URL is not UTF-8.", code="invalid_url") from None


def _check_target(target: bytes, host: bytes, scheme: str) -> None:
    """The absolute form names the same host as the Host header (RFC 9112 section 3.2.2), without user or
    fragment."""
    try:
        url = urlsplit(target)
        same = url.scheme == scheme.encode() and _without_port(url.netloc, scheme) == _without_port(host, scheme)
    except ValueError:
        same = False
    if target != b"*" and (not same or b"#" in target):
        raise Invalid("The request target names another place than the Host header.", code="invalid_url")


def _without_port(authority: bytes, scheme: str) -> bytes:
    return authority.lower().removesuffix(b":443" if scheme == "https" else b":80")


def _body_length(fields: dict[bytes, bytes], version: str) -> int | None:
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise Invalid("Content-Length and Transfer-Encoding came together.", code="invalid_framing")
        if coding.strip(b" \t") != b"chunked" or version == "1.0":
            raise Invalid("Transfer-Encoding must be `chunked`, in HTTP/1.1.", code="invalid_framing")
        return None
    if length is None:
        return 0
    digits = length.strip(b" \t")
    if not digits.isdigit() or len(digits) > 18:
        raise Invalid("Content-Length must be a plain decimal number.", code="invalid_framing")
    return int(digits)
