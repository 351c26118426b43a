"""The transport: HTTP/1.1 over our own connections.

A library's client (aiohttp's connector and parser, the first implementation) cost twice as much per request and per
piece of a stream; docs/decisions/0014-own-http-client.md has the figures. It also kept us away from what matters here:
nothing is ever sent twice, one `request()` is one connection and one write, and all that happens to it stands in this
package.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Final

from xrouter.transport import BrokenOff, Response
from xrouter.transport.answer import Answer
from xrouter.transport.dial import Dialler
from xrouter.transport.guard import GuardedLookup, Lookup, system_lookup
from xrouter.transport.pool import Pool
from xrouter.transport.route import Proxy, Route
from xrouter.transport.tls import ClientCert, client_tls
from xrouter.transport.wire import Wire

# When the pool is full, for how long a request waits for a connection to come back.
_POOL_WAIT_S: Final = 1.0
_SENDS_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


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
    lookup: Lookup = system_lookup,
) -> "HttpTransport":
    """One provider's client. Call it inside a running event loop, and `close()` it in the same one.

    `provider` names it in messages. `connect_timeout_s` holds for name look-up, TCP, proxy and TLS together.
    `proxy` is `http://[user:password@]host:port`; with one, target names are looked up by the proxy, and only
    https goes through. `trusted_hosts` are hosts that the operator wrote down himself and that need not be
    public, such as `localhost` or `10.0.0.7`. `lookup` replaces the system's resolver; its answers are guarded
    all the same. `client_cert` as in `tls.client_tls`. Raises `ValueError` for a bundle, a client certificate or a
    proxy that cannot be used.
    """
    through = None if proxy is None else Proxy(proxy)
    # With a proxy the only name looked up here is the proxy's own, and the operator vouches for that.
    vouched = trusted_hosts if through is None else frozenset({through.host})
    dialler = Dialler(
        provider=provider,
        connect_timeout_s=connect_timeout_s,
        tls=client_tls(ca_bundle, client_cert=client_cert),
        proxy=through,
        allow_private=allow_private,
        lookup=GuardedLookup(lookup, allow_private, vouched),
    )
    return HttpTransport(
        Pool(
            dialler,
            provider=provider,
            proxied=through is not None,
            allow_private=allow_private,
            trusted_hosts=trusted_hosts,
            max_connections=max_connections,
            wait_s=pool_wait_s,
        )
    )


class HttpTransport:
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

    __slots__ = ("_body", "_headers", "_method", "_on_sending", "_pool", "_route", "_url", "_wire")

    _route: Route
    _wire: Wire

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

    async def __aenter__(self) -> Answer:
        pool = self._pool
        route = self._route = pool.route(self._url)
        self._wire = pool.take_idle(route) or await pool.take(route)
        try:
            answer = self._send(route)
            await answer.begun()
        except BaseException:
            self._wire.cut()
            pool.give_back(route, self._wire)
            raise
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.give_back(self._route, self._wire)

    def _send(self, route: Route) -> Answer:
        """Head and body in one write, and `on_sending` right before it.

        No coroutine: from the moment the pool found the connection alive to the write no other task runs, so
        `on_sending` is followed by the bytes, and a connection the loop knows to be closed is never written to.
        """
        body = self._body or b""
        sends_body = self._body is not None or self._method in _SENDS_BODY
        head = route.head(self._method, self._headers, len(body) if sends_body else None)
        if self._on_sending is not None:
            self._on_sending()
        try:
            return self._wire.ask(head, body, route.name)
        except OSError:
            raise BrokenOff("reset", f"{route.name} reset the connection while the request was sent") from None
