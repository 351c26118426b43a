"""Headers that stand on every answer."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

SECURITY: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""For answers of an API: never cached, never framed, never run."""

SECURITY_TLS: tuple[Header, ...] = (*SECURITY, (b"strict-transport-security", b"max-age=31536000"))
"""The same where the connection is TLS; without TLS a browser ignores the last one (RFC 6797 section 8.1)."""

CLOSE: Header = (b"connection", b"close")


_NAMES = frozenset(name for name, _ in SECURITY_TLS)


def secured(headers: Iterable[Header], scheme: str) -> list[Header]:
    """`headers` with the security headers that it does not set itself. Names must be lower-case."""
    found = list(headers)
    extra = SECURITY_TLS if scheme == "https" else SECURITY
    present = dict(found)
    if _NAMES.isdisjoint(present):
        found += extra
    else:
        found += [header for header in extra if header[0] not in present]
    return found
