"""How a connection is made: look the name up, connect, pass the proxy, shake hands; and the words for why not."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

import aiohappyeyeballs

from xrouter.transport import CannotConnect
from xrouter.transport.guard import ForbiddenAddress, GuardedLookup, Network, is_inside
from xrouter.transport.route import Proxy, Route
from xrouter.transport.wire import HungUp, Wire

# RFC 8305: how long one address may take before the next is tried beside it.
_NEXT_ADDRESS_S: Final = 0.25


class Dialler:
    """Makes the connections of one provider. `provider` names it in messages."""

    def __init__(
        self,
        *,
        provider: str,
        connect_timeout_s: float,
        tls: ssl.SSLContext,
        proxy: Proxy | None,
        allow_private: Sequence[Network],
        lookup: GuardedLookup,
    ) -> None:
        self._provider = provider
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._proxy = proxy
        self._allow_private = tuple(allow_private)
        self._lookup = lookup
        self._loop = asyncio.get_running_loop()

    async def dial(self, route: Route, lost: Callable[[Wire], None]) -> Wire:
        """A connection that stands. `lost` is called when it ends. Raises `CannotConnect`."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._dial(route, lost)
        except TimeoutError:
            through = "" if self._proxy is None else f" through the proxy {self._proxy.name}"
            raise self._cannot(
                route, "timeout", f"no connection within {self._connect_timeout_s:g} s{through}"
            ) from None

    async def _dial(self, route: Route, lost: Callable[[Wire], None]) -> Wire:
        wire = Wire(self._loop, lost)
        connected = await self._connect(route)
        try:
            await self._loop.create_connection(lambda: wire, sock=connected)
        except BaseException:
            connected.close()
            raise
        try:
            if self._proxy is not None:
                await self._tunnel(wire, route, self._proxy)
            elif route.inside_only:
                self._check_inside(wire, route)
            if route.tls:
                await self._shake_hands(wire, route)
        except BaseException:
            wire.cut()
            raise
        return wire

    def _check_inside(self, wire: Wire, route: Route) -> None:
        if not (wire.peer and is_inside(wire.peer, self._allow_private)):
            raise CannotConnect(
                "forbidden_address",
                f"{self._provider}: http to {route.name} leaves the networks in `allow_private`; use https",
            )

    async def _connect(self, route: Route) -> socket.socket:
        """A connected TCP socket, to the proxy where there is one."""
        proxy = self._proxy
        host, port = (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
        try:
            addresses = await self._lookup.addresses(host)
        except ForbiddenAddress as error:
            raise CannotConnect("forbidden_address", f"{self._provider}: {error}") from None
        except OSError as error:
            if proxy is not None:
                raise self._no_proxy(route, proxy, error) from None
            raise self._cannot(route, "dns", f"the name cannot be looked up ({_os_words(error)})") from None
        try:
            found = await aiohappyeyeballs.start_connection(
                [_address_info(address, port) for address in addresses],
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
                interleave=1,
                loop=self._loop,
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                what = "this process has too many open files; raise its limit (ulimit -n)"
                raise self._cannot(route, "pool", what) from None
            if proxy is not None:
                raise self._no_proxy(route, proxy, error) from None
            if error.errno == errno.ETIMEDOUT:
                raise self._cannot(route, "timeout", f"does not answer ({_os_words(error)})") from None
            raise self._cannot(route, "refused", f"cannot be reached ({_os_words(error)})") from None
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    async def _tunnel(self, wire: Wire, route: Route, proxy: Proxy) -> None:
        try:
            status = await wire.tunnel(proxy.connect_request(route.name))
        except (ValueError, OSError) as error:
            raise self._no_proxy(route, proxy, error) from None
        if not 200 <= status < 300:
            hint = "; check the user and password in `proxy`" if status == 407 else ""
            raise self._cannot(route, "proxy", f"the proxy {proxy.name} answered {status}{hint}")

    async def _shake_hands(self, wire: Wire, route: Route) -> None:
        try:
            await wire.start_tls(self._tls, route.host)
        except ssl.SSLCertVerificationError as error:
            raise self._cannot(route, "tls", _certificate_words(error)) from None
        except ssl.SSLError as error:
            why = error.reason or "no reason given"
            raise self._cannot(route, "tls", f"the TLS handshake failed ({why}); TLS 1.2 or newer is needed") from None
        except HungUp:
            raise self._cannot(route, "tls", "closed the connection during the TLS handshake") from None

    def _no_proxy(self, route: Route, proxy: Proxy, error: Exception) -> CannotConnect:
        return self._cannot(route, "proxy", f"the proxy {proxy.name} cannot be used ({_os_words(error)})")

    def _cannot(self, route: Route, reason: str, what: str) -> CannotConnect:
        return CannotConnect(reason, f"{self._provider}: {route.name}: {what}")  # type: ignore[arg-type]  # our words


def _address_info(address: str, port: int) -> aiohappyeyeballs.AddrInfoType:
    if ip_address(address).version == 6:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


def _certificate_words(error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the certificate, and the mend."""
    what = f"its certificate was refused: {error.verify_message}"
    if error.verify_code in (18, 19, 20, 21):  # X509_V_ERR_*: no path to a trusted root
        return f"{what}. If the vendor has its own certificate authority, put its root (PEM) into `ca_bundle`"
    if error.verify_code == 10:
        return f"{what}. Its owner must renew it; verification cannot be turned off"
    if error.verify_code in (62, 64):
        return f"{what}. Check the host in `base_url`"
    return f"{what}. Verification cannot be turned off; `ca_bundle` adds roots"


def _os_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.partition("\n")[0]
    return str(error).partition("\n")[0] or type(error).__name__
