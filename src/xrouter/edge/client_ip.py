"""Whose address is it? Only what trusted proxies appended to X-Forwarded-For is believed."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any


def client_of(scope: Mapping[str, Any], trusted_proxies: int) -> str | None:
    """The client's address of an ASGI request, as `client_ip` finds it; None where the server names no peer.

    For log lines only: nothing may be allowed or limited by it.
    """
    client = scope.get("client")
    return client_ip(scope["headers"], client[0], trusted_proxies) if client else None


def client_ip(headers: Iterable[tuple[bytes, bytes]], peer: str, trusted_proxies: int) -> str:
    """The client's address, counted from the right through `trusted_proxies` proxies.

    Each trusted proxy appends the address that it saw, so with n proxies the client is the n-th entry from
    the right; what stands left of it was written by the client and means nothing. With fewer entries, or one
    that is no address, the answer is `peer`, the address of the connection.
    """
    if trusted_proxies <= 0:
        return peer
    hops: list[str] = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            hops += value.decode("latin-1").split(",")
    if len(hops) < trusted_proxies:
        return peer
    return _address(hops[-trusted_proxies].strip()) or peer


def _address(text: str) -> str | None:
    """An address without port, brackets or IPv4 mapping: `[::1]:80` is `::1`, `1.2.3.4:5` is `1.2.3.4`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
