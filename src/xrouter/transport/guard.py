"""The address guard: keeps what dials out away from our own network (server-side request forgery, CWE-918).

It stands in two places. `check_url` judges what is written: scheme, port, user, literal addresses. The resolver
judges what a name means, at every look-up, and hands exactly the judged addresses to the connector, so that a
name cannot mean something else a moment later (DNS rebinding).
"""

import re
import socket
from asyncio import Task, create_task, get_running_loop, shield
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from yarl import URL

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL_BYTES: Final = 2048


class ForbiddenAddress(ValueError):
    """This URL or address may not be dialled. The message says why and what the operator may do."""


# IANA special-purpose registries (RFC 6890 and its updates), with the names an operator knows them by. A table of
# our own, because the `ipaddress` module's idea of "private" changes between Python versions.
_REFUSED_V4: Final[tuple[tuple[IPv4Network, str], ...]] = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("127.0.0.0/8", "loopback"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("169.254.0.0/16", "link-local, where clouds serve their metadata"),
        ("100.64.0.0/10", "shared by carriers (CGNAT)"),
        ("168.63.129.16/32", "the host under an Azure machine"),
        ("0.0.0.0/8", "this host"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("198.18.0.0/15", "for benchmarks"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_REFUSED_V6: Final[tuple[tuple[IPv6Network, str], ...]] = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("::1/128", "loopback"),
        ("::/128", "this host"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("64:ff9b:1::/48", "a local NAT64 prefix"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
    )
)
# Prefixes that carry an IPv4 address, and how many bits stand to the right of it. The two forms that nobody routes
# (IPv4-compatible ::/96, IPv4-translated ::ffff:0:0:0/96) are simply reserved.
_CARRIERS: Final[tuple[tuple[IPv6Network, int], ...]] = tuple(
    (IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped (RFC 4291)
        ("64:ff9b::/96", 0),  # NAT64 (RFC 6052)
        ("2002::/16", 80),  # 6to4 (RFC 3056)
    )
)


def why_forbidden(address: Address, allow_private: Iterable[Network] = ()) -> str | None:
    """What is wrong with dialling this address, in a few words; None when it is a public one or allowed.

    A form that carries an IPv4 address is judged by that address.
    """
    inner = _carried(address)
    for network in allow_private:
        if address in network or (inner is not None and inner in network):
            return None
    if inner is not None:
        return why_forbidden(inner)
    if isinstance(address, IPv4Address):
        return next((name for network, name in _REFUSED_V4 if address in network), None)
    named = next((name for network, name in _REFUSED_V6 if address in network), None)
    return named if named is not None or address in _GLOBAL_V6 else "reserved"


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv6Address):
        for network, shift in _CARRIERS:
            if address in network:
                return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return None


_WRITTEN = re.compile(r"(https?)://([^/?#]*)[^#]*\Z", re.IGNORECASE)
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z", re.IGNORECASE)


def check_url(url: str, *, allow_private: Sequence[Network] = (), trusted_hosts: Iterable[str] = ()) -> URL:
    """The URL as the connector will understand it. Raises `ForbiddenAddress` for one that may not be dialled.

    Allowed: https to a name. Addresses written as numbers and `localhost` only when listed in `trusted_hosts`
    (or, for an address, inside `allow_private`). http to those, and to names while `allow_private` is given;
    whether such a name really leads inside is checked when it is dialled.
    """
    if len(url.encode("utf-8", "surrogatepass")) > MAX_URL_BYTES:
        raise ForbiddenAddress(f"the URL is longer than {MAX_URL_BYTES} bytes")
    written = _WRITTEN.match(url)
    if written is None or any(char <= " " or char == "\x7f" or char == "\\" for char in url):
        raise ForbiddenAddress("the URL must read https://host[:port]/path, without spaces, backslashes or fragment")
    if "@" in written[2]:
        raise ForbiddenAddress("the URL must not hold a user name or password; credentials have their own settings")
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        raise ForbiddenAddress("the URL's host or port is malformed") from None
    if not host or not port or port > 65535:
        raise ForbiddenAddress("the URL needs a host and a port between 1 and 65535")
    trusted = is_trusted(host, trusted_hosts)
    if not trusted:
        _check_host(host, allow_private)
    if parsed.scheme == "http" and not trusted and not allow_private:
        raise ForbiddenAddress(
            f"http to {host} would send credentials in clear; use https, or list its network "
            "in `allow_private` if it is your own"
        )
    return parsed


def _check_host(host: str, allow_private: Sequence[Network]) -> None:
    name = _plain(host)
    if "%" in name or name.endswith(".") or not name:
        raise ForbiddenAddress(f"{host} is not a host name")
    # "Ends in a number" (WHATWG URL): resolvers read 127.1, 0x7f000001 and 2130706433 as addresses.
    if ":" in name or _NUMBER.match(name.rpartition(".")[2]):
        try:
            address = ip_address(name)
        except ValueError:
            raise ForbiddenAddress(f"{host} is an address in a form that is not allowed; write it in full") from None
        if not _inside(address, allow_private):
            raise ForbiddenAddress(f"{host} is a bare address; use a host name, or list the network in `allow_private`")
    elif name == "localhost" or name.endswith(".localhost"):
        raise ForbiddenAddress(f"{host} is this machine itself")


def _inside(address: Address, networks: Iterable[Network]) -> bool:
    inner = _carried(address)
    return any(address in network or (inner is not None and inner in network) for network in networks)


def is_inside(address: str, networks: Iterable[Network]) -> bool:
    """Does this numeric address lie in one of the networks (itself, or the IPv4 address it carries)?"""
    return _inside(ip_address(address), networks)


def is_trusted(host: str, trusted_hosts: Iterable[str]) -> bool:
    """Is this host one that the operator wrote down in so many words?"""
    name = _plain(host)
    return any(name == _plain(trusted) for trusted in trusted_hosts)


def _plain(host: str) -> str:
    return host.strip("[]").lower().removesuffix(".")


Lookup: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""A name's numeric addresses, in the order in which they should be tried. Raises `OSError` when there is no answer."""


async def system_lookup(host: str) -> list[str]:
    """The system's resolver, in a thread of the event loop's."""
    found = await get_running_loop().getaddrinfo(
        host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG, proto=socket.IPPROTO_TCP
    )
    return [str(address[0]) for *_, address in found]


# For so long an answer holds: a burst of connections asks once. Shorter than any vendor's failover by name.
_HOLD_S: Final = 10.0
_MAX_NAMES: Final = 256


class GuardedLookup:
    """Looks names up through `lookup` and refuses the whole answer when any address in it is forbidden.

    All, not only the bad ones: an answer that mixes public and private addresses is an attack or a mistake. What is
    being asked is asked once, for everybody who waits for it.
    """

    def __init__(self, lookup: Lookup, allow_private: Sequence[Network], trusted_hosts: frozenset[str]) -> None:
        self._lookup = lookup
        self._allow_private = tuple(allow_private)
        self._trusted_hosts = trusted_hosts
        self._asked: dict[str, tuple[float, Task[list[str]]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """The addresses to dial. A numeric host is its own address (`check_url` has judged it).

        Raises `ForbiddenAddress`, or `OSError` when there is no answer.
        """
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        now = get_running_loop().time()
        until, asking = self._asked.get(host, (0.0, None))
        if asking is None or now >= until or (asking.done() and (asking.cancelled() or asking.exception())):
            if len(self._asked) >= _MAX_NAMES:
                self._asked.clear()
            asking = create_task(self._resolve(host))
            self._asked[host] = (now + _HOLD_S, asking)
        return await shield(asking)

    async def _resolve(self, host: str) -> list[str]:
        found = await self._lookup(host)
        if not found:
            raise OSError(None, "the name has no address")
        if not is_trusted(host, self._trusted_hosts):
            for address in found:
                reason = why_forbidden(ip_address(address), self._allow_private)
                if reason is not None:
                    raise ForbiddenAddress(
                        f"{host} leads to {address}, which is {reason}; "
                        "if it is your own, list its network in `allow_private`"
                    )
        return found
