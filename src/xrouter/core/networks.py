"""Networks in CIDR form: which addresses a key may be used from."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def plain(text: str) -> str:
    """A network in its one form: `10.1.2.3` is `10.1.2.3/32`. Raises ValueError in words, also where bits are set
    behind the mask: that is a typing error more often than not."""
    try:
        if "%" in text:
            raise ValueError("a zone is no part of a network")  # noqa: TRY301 - joins what the library says
        found = ip_network(text.strip())
    except ValueError as error:
        raise ValueError(f"'{text[:50]}' is no network such as 10.0.0.0/8 or 2001:db8::/32: {error}") from None
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None and found.prefixlen >= 96:
        return f"{found.network_address.ipv4_mapped}/{found.prefixlen - 96}"
    return str(found)


@lru_cache(maxsize=10_000)
def allows(networks: tuple[str, ...], address: str) -> bool:
    """Is `address` in one of `networks`? False for a text that is no address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in _networks(networks))


def contains_all(wide: Iterable[str], narrow: Iterable[str]) -> bool:
    """Is each of `narrow` within one of `wide`?"""
    wide = tuple(wide)
    return all(any(_contains(one, network) for one in wide) for network in narrow)


def intersection(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What both allow; None allows all. Exact: of two networks one holds the other, or they have nothing in common."""
    if one is None or other is None:
        return other if one is None else one
    narrower = [a if _contains(b, a) else b for a in one for b in other if _contains(a, b) or _contains(b, a)]
    return tuple(dict.fromkeys(narrower))


def _contains(wide: str, narrow: str) -> bool:
    outer, inner = _network(wide), _network(narrow)
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


@lru_cache(maxsize=10_000)
def _network(text: str) -> Network:
    return ip_network(text)


@lru_cache(maxsize=1_000)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(_network(text) for text in texts)
