"""The connections of one provider: how many, to where, which of them may serve again, and why one cannot be had."""

import errno
from asyncio import Future, get_running_loop, timeout
from collections import deque
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from ssl import SSLCertVerificationError, SSLContext
from typing import Final

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientHttpProxyError,
    ClientTimeout,
    ThreadedResolver,
)
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError

from xrouter.transport import CannotConnect
from xrouter.transport.guard import ForbiddenAddress, GuardedResolver, check_url, is_inside, is_trusted
from xrouter.transport.route import Proxy, Route
from xrouter.transport.wire import Connector, Wire, cut

# Idle connections are kept for less time than any server known to us keeps them: uvicorn (and so vLLM) closes
# after 5 s, nginx after 75 s. Were ours the longer time, a request could leave at the very moment the server
# closes, and a POST that breaks off there may have done its work: it could not be repeated.
_KEEPALIVE_S: Final = 4.0
_MAX_ROUTES: Final = 256


class Pool:
    """Hands out connections. Every `take()` that returns is followed by one `give_back()`."""

    def __init__(
        self,
        *,
        provider: str,
        connect_timeout_s: float,
        tls: SSLContext,
        proxy: Proxy | None,
        allow_private: Sequence[IPv4Network | IPv6Network],
        trusted_hosts: frozenset[str],
        max_connections: int,
        wait_s: float,
        lookup: AbstractResolver | None,
    ) -> None:
        self._provider = provider
        self._proxy = proxy
        self._allow_private = tuple(allow_private)
        self._trusted_hosts = trusted_hosts
        self._max_connections = max_connections
        self._wait_s = wait_s
        self._connect_timeout_s = connect_timeout_s
        self._timeout = ClientTimeout(total=None, connect=connect_timeout_s)
        self._loop = get_running_loop()
        self._free = max_connections
        self._waiting: deque[Future[None]] = deque()
        self._routes: dict[str, Route] = {}
        # With a proxy the only name looked up here is the proxy's own, and the operator vouches for that.
        vouched = trusted_hosts if proxy is None else frozenset({proxy.host})
        resolver = GuardedResolver(lookup or ThreadedResolver(), self._allow_private, vouched)
        self._connector = Connector(tls=tls, resolver=resolver, keepalive_s=_KEEPALIVE_S)

    def route(self, url: str) -> Route:
        """Where the URL leads. Raises `CannotConnect` when it may not be dialled."""
        route = self._routes.get(url)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:  # they come from the configuration; this only bounds a mistake
                self._routes.clear()
            route = self._routes[url] = self._make_route(url)
        return route

    def _make_route(self, url: str) -> Route:
        try:
            parsed = check_url(url, allow_private=self._allow_private, trusted_hosts=self._trusted_hosts)
        except ForbiddenAddress as error:
            raise CannotConnect("forbidden_address", f"{self._provider}: {error}") from None
        plain = parsed.scheme == "http"
        if plain and self._proxy is not None:
            raise CannotConnect(
                "forbidden_address",
                f"{self._provider}: http to {parsed.raw_host} would pass the proxy in clear; use https",
            )
        inside_only = plain and not is_trusted(parsed.raw_host or "", self._trusted_hosts)
        return Route(parsed, self._loop, self._proxy, inside_only=inside_only)

    async def take(self, route: Route) -> tuple[Connection, Wire]:
        """A connection with nothing of this request on it yet. Raises `CannotConnect`."""
        if self._connector.closed:
            raise CannotConnect("pool", f"{self._provider}: the client is shut down")
        await self._take_slot()
        try:
            return await self._connect(route)
        except BaseException:
            self._release_slot()
            raise

    def give_back(self, connection: Connection, wire: Wire, *, reusable: bool) -> None:
        """The exchange is over. A connection that is not reusable is cut."""
        self._release_slot()
        if reusable:
            wire.used = True
            connection.release()
        else:
            cut(connection, wire)

    async def close(self) -> None:
        """Cut every connection, also those in use."""
        await self._connector.close()

    async def _take_slot(self) -> None:
        # aiohttp's own limit cannot be told from a slow connect, so slots are counted here. asyncio.Semaphore does
        # the same, but makes a coroutine and two generators also when nobody waits, which is nearly always.
        if self._free:
            self._free -= 1
            return
        turn: Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release_slot()  # it was ours already when we gave up
            if not isinstance(error, TimeoutError):
                raise
            raise CannotConnect(
                "pool", f"{self._provider}: all {self._max_connections} connections were in use for {self._wait_s:g} s"
            ) from None

    def _release_slot(self) -> None:
        """To whoever has waited longest, else to the free ones."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its owner has given up
                turn.set_result(None)
                return
        self._free += 1

    async def _connect(self, route: Route) -> tuple[Connection, Wire]:
        while True:
            try:
                connection = await self._connector.connect(route, [], self._timeout)
            except ForbiddenAddress as error:
                raise CannotConnect("forbidden_address", f"{self._provider}: {error}") from None
            except (TimeoutError, ClientError, HttpProcessingError, OSError) as error:
                raise self._explain(route, error) from None  # its text may quote headers
            wire = connection.protocol
            assert isinstance(wire, Wire)
            if wire.used and wire.is_stale():
                cut(connection, wire)  # the peer has left; nothing was written: take another one
                continue
            if route.inside_only and not self._leads_inside(wire):
                cut(connection, wire)
                raise CannotConnect(
                    "forbidden_address",
                    f"{self._provider}: http to {route.name} leaves the networks in `allow_private`; use https",
                )
            return connection, wire

    def _leads_inside(self, wire: Wire) -> bool:
        peer = wire.transport.get_extra_info("peername") if wire.transport else None
        return peer is not None and is_inside(peer[0], self._allow_private)

    def _explain(self, route: Route, error: Exception) -> CannotConnect:
        """The reason and the words for why there is no connection."""
        to = f"{self._provider}: {route.name}"
        if isinstance(error, ClientConnectorCertificateError):
            return CannotConnect("tls", f"{to}: {_certificate_words(error.certificate_error)}")
        if isinstance(error, ClientConnectorSSLError):
            why = getattr(error.os_error, "reason", None) or "no reason given"
            return CannotConnect("tls", f"{to}: the TLS handshake failed ({why}); TLS 1.2 or newer is needed")
        if isinstance(error, TimeoutError) and not isinstance(error, ClientConnectorError):
            through = "" if self._proxy is None else f" through the proxy {self._proxy.name}"
            return CannotConnect("timeout", f"{to}: no connection within {self._connect_timeout_s:g} s{through}")
        if self._proxy is not None and type(error) is not ClientConnectorError:
            # The plain class is raised only once the tunnel stands; all its kin come from the proxy itself.
            return CannotConnect("proxy", f"{to}: the proxy {self._proxy.name} {_proxy_words(error)}")
        if isinstance(error, ClientConnectorDNSError):
            return CannotConnect("dns", f"{to}: the name cannot be looked up ({_os_words(error)})")
        number = error.os_error.errno if isinstance(error, ClientConnectorError) else None
        if number == errno.ETIMEDOUT:
            return CannotConnect("timeout", f"{to}: does not answer ({_os_words(error)})")
        if number in (errno.EMFILE, errno.ENFILE):
            return CannotConnect("pool", f"{to}: this process has too many open files; raise its limit (ulimit -n)")
        if number != errno.ECONNREFUSED and route.is_ssl() and _was_closed(error):
            return CannotConnect("tls", f"{to}: closed the connection during the TLS handshake")
        return CannotConnect("refused", f"{to}: cannot be reached ({_os_words(error)})")


def _certificate_words(error: Exception) -> str:
    """What is wrong with the certificate, and the mend."""
    message = error.verify_message if isinstance(error, SSLCertVerificationError) else "it cannot be verified"
    code = error.verify_code if isinstance(error, SSLCertVerificationError) else 0
    what = f"its certificate was refused: {message}"
    if code in (18, 19, 20, 21):  # X509_V_ERR_*: no path to a trusted root
        return f"{what}. If the vendor has its own certificate authority, put its root (PEM) into `ca_bundle`"
    if code == 10:
        return f"{what}. Its owner must renew it; verification cannot be turned off"
    if code in (62, 64):
        return f"{what}. Check the host in `base_url`"
    return f"{what}. Verification cannot be turned off; `ca_bundle` adds roots"


def _proxy_words(error: Exception) -> str:
    if isinstance(error, ClientHttpProxyError):
        hint = "; check the user and password in `proxy`" if error.status == 407 else ""
        return f"answered {error.status}{hint}"
    return f"cannot be used ({_os_words(error)})"


def _os_words(error: Exception) -> str:
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause).partition("\n")[0] or type(cause).__name__


def _was_closed(error: Exception) -> bool:
    return isinstance(error, ClientConnectorError) and (
        isinstance(error.os_error, ConnectionError) or error.os_error.errno is None
    )
