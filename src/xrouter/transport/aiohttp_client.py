"""The transport over aiohttp's connector and parser, without its session.

The session costs half of a request (62 us with it, 33 us without, measured) for cookies, redirects, netrc,
middlewares and timers that an upstream call must not have. It also repeats requests by itself: after a disconnect
it sends GET, PUT and DELETE a second time, unseen (a POST it does not repeat). Here nothing is ever sent twice:
one `request()` is one connection and one write, and all that happens to it stands in this file.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from aiohttp import ClientConnectionError, ClientConnectionResetError, ClientError, ClientOSError, StreamReader
from aiohttp.abc import AbstractResolver
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import istr

from xrouter.transport import BrokenOff, Response
from xrouter.transport.pool import Pool
from xrouter.transport.route import Proxy, Route
from xrouter.transport.tls import ClientCert, client_tls
from xrouter.transport.wire import Wire

# When the pool is full, for how long a request waits for a connection to come back.
_POOL_WAIT_S: Final = 1.0
# Reading stops when twice this much body lies unread (one more `recv`, up to 256 KiB, may already be in hand).
_READ_AHEAD_BYTES: Final = 32 * 1024
# The status line's reason; one header with its name; how many headers.
_MAX_LINE_BYTES: Final = 8 * 1024
_MAX_HEADERS: Final = 128
# 1xx answers before the real one (RFC 9110 section 15.2).
_MAX_INTERIM: Final = 8

# Up to this size, copying a body behind its head is cheaper than handing over two pieces.
_ONE_PIECE_BYTES: Final = 16 * 1024

_SENDS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_BREAKS: Final = (ClientError, HttpProcessingError, OSError)
_CONTENT_ENCODING: Final = istr("Content-Encoding")
_CONTENT_LENGTH: Final = istr("Content-Length")


def open_transport(
    *,
    provider: str,
    connect_timeout_s: float,
    ca_bundle: Path | None,
    client_cert: ClientCert | None = None,
    proxy: str | None,
    allow_private: Sequence[IPv4Network | IPv6Network],
    trusted_hosts: frozenset[str] = frozenset(),
    max_connections: int = 2048,
    pool_wait_s: float = _POOL_WAIT_S,
    lookup: AbstractResolver | None = None,
) -> "AiohttpTransport":
    """One provider's client. Call it inside a running event loop, and `close()` it in the same one.

    `provider` names it in messages. `connect_timeout_s` holds for name look-up, TCP, proxy and TLS together.
    `proxy` is `http://[user:password@]host:port`; with one, target names are looked up by the proxy, and only
    https goes through. `trusted_hosts` are hosts that the operator wrote down himself and that need not be
    public, such as `localhost` or `10.0.0.7`. `lookup` replaces the system's resolver; its answers are guarded
    all the same. `client_cert` as in `tls.client_tls`. Raises `ValueError` for a bundle, a client certificate or a
    proxy that cannot be used.
    """
    return AiohttpTransport(
        Pool(
            provider=provider,
            connect_timeout_s=connect_timeout_s,
            tls=client_tls(ca_bundle, client_cert=client_cert),
            proxy=None if proxy is None else Proxy(proxy),
            allow_private=allow_private,
            trusted_hosts=trusted_hosts,
            max_connections=max_connections,
            wait_s=pool_wait_s,
            lookup=lookup,
        )
    )


class AiohttpTransport:
    """A `Transport` over a `Pool`."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        on_sending: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Response]:
        """As `Transport.request` says. Host and Content-Length are written here; compressed answers are neither
        asked for nor accepted. What `on_sending` raises goes to the caller, and nothing is sent."""
        return _Exchange(self._pool, method, url, headers, body, on_sending)

    async def close(self) -> None:
        """Cut every connection. Requests that still run end with `BrokenOff`."""
        await self._pool.close()


class _Exchange:
    """One request and its answer on one connection."""

    __slots__ = ("_body", "_connection", "_headers", "_method", "_on_sending", "_pool", "_response", "_url", "_wire")

    def __init__(
        self,
        pool: Pool,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        on_sending: Callable[[], None] | None,
    ) -> None:
        self._pool = pool
        self._method = method
        self._url = url
        self._headers = headers
        self._body = body
        self._on_sending = on_sending

    async def __aenter__(self) -> "_Response":
        route = self._pool.route(self._url)
        self._connection, self._wire = await self._pool.take(route)
        try:
            self._send(route)
            self._response = await self._receive(route)
        except BaseException:
            self._pool.give_back(self._connection, self._wire, reusable=False)
            raise
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transport = self._wire.transport
        reusable = self._response.is_complete() and transport is not None and transport.get_write_buffer_size() == 0
        self._pool.give_back(self._connection, self._wire, reusable=reusable)

    def _send(self, route: Route) -> None:
        """Head and body in one write, and `on_sending` right before it.

        No coroutine: from the moment the pool found the connection alive to the write no other task runs, so
        `on_sending` is followed by the bytes, and a connection the loop knows to be closed is never written to.
        """
        wire, body = self._wire, self._body
        wire.set_response_params(
            skip_payload=self._method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ_AHEAD_BYTES,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
        )
        if body is not None or self._method in _SENDS_BODY:
            head = route.head(self._method, self._headers, len(body or b""))
        else:
            head = route.head(self._method, self._headers, None)
        if self._on_sending is not None:
            self._on_sending()
        transport = wire.transport
        try:
            if transport is None or transport.is_closing():
                raise ClientConnectionResetError
            if body is None or len(body) <= _ONE_PIECE_BYTES:
                transport.write(head + (body or b""))
            else:
                transport.writelines((head, body))
        except _BREAKS as error:
            raise _broken(error, wire, route, "while the request was sent") from None

    async def _receive(self, route: Route) -> "_Response":
        wire = self._wire
        try:
            for _ in range(_MAX_INTERIM + 1):
                message, payload = await wire.read()
                if message.code >= 200:
                    break
                if message.code == 101:
                    raise BrokenOff("protocol", f"{route.name} switched protocols unasked")
            else:
                raise BrokenOff("protocol", f"{route.name} sent more than {_MAX_INTERIM} interim answers")
        except _BREAKS as error:
            raise _broken(error, wire, route, "before the status line") from None
        encoding = message.headers.get(_CONTENT_ENCODING)
        if encoding is not None and encoding.lower() != "identity":
            raise BrokenOff("protocol", f"{route.name} sent a compressed answer that was not asked for")
        return _Response(message, payload, wire, route)


class _Response:
    """A `Response`. `headers` is aiohttp's own mapping, which finds names in any case."""

    __slots__ = ("_framed", "_payload", "_route", "_wire", "headers", "status")

    def __init__(self, message: RawResponseMessage, payload: StreamReader, wire: Wire, route: Route) -> None:
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self._framed = message.chunked or _CONTENT_LENGTH in message.headers
        self._payload = payload
        self._wire = wire
        self._route = route

    def chunks(self) -> AsyncIterator[bytes]:
        return _Chunks(self._payload.readany, self)

    async def read(self, limit: int) -> bytes:
        declared = self.headers.get(_CONTENT_LENGTH)
        if declared is not None and int(declared) > limit:
            raise self._too_large(limit)
        payload = self._payload
        try:
            body = await payload.readany()
            if not payload.at_eof():  # most answers come in one piece and are not copied again
                pieces = bytearray(body)
                while len(pieces) <= limit and (piece := await payload.readany()):
                    pieces += piece
                body = bytes(pieces)
        except _BREAKS as error:
            raise self.broken(error) from None
        if len(body) > limit:
            raise self._too_large(limit)
        self.check_end()
        return body

    def is_complete(self) -> bool:
        """Did the whole body arrive (read or not)?"""
        return self._payload.is_eof()

    def broken(self, error: Exception) -> BrokenOff:
        return _broken(error, self._wire, self._route, "in the middle of the body")

    def check_end(self) -> None:
        """A body without length or chunks ends with the connection, and a reset looks like its end."""
        error = self._wire.exception()
        if isinstance(error, ClientOSError) and not self._framed:
            raise self.broken(error)

    def _too_large(self, limit: int) -> BrokenOff:
        return BrokenOff("too_large", f"{self._route.name} sent a body of more than {limit} bytes")


class _Chunks:
    """The body as it arrives; one per event, so it does as little as it can."""

    __slots__ = ("_readany", "_response")

    def __init__(self, readany: Callable[[], Coroutine[Any, Any, bytes]], response: _Response) -> None:
        self._readany = readany
        self._response = response

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._readany()
        except _BREAKS as error:
            raise self._response.broken(error) from None
        if data:
            return data
        self._response.check_end()
        raise StopAsyncIteration


def _broken(error: Exception, wire: Wire, route: Route, when: str) -> BrokenOff:
    """What became of the exchange, judged by what became of the connection.

    Raised `from None`: aiohttp's own texts quote what the upstream sent, and tracebacks end up in logs.
    """
    if isinstance(error, HttpProcessingError):
        what = error.message.partition("\n")[0].rstrip(":")  # the lines after it quote the upstream
        return BrokenOff("protocol", f"{route.name} broke HTTP/1.1 {when}: {what}")
    if type(error) is ClientConnectionError:
        return BrokenOff("eof", f"the connection to {route.name} was closed on our side {when}")
    if isinstance(error, OSError) or isinstance(wire.exception(), OSError):
        return BrokenOff("reset", f"{route.name} reset the connection {when}")
    return BrokenOff("eof", f"{route.name} closed the connection {when}")
