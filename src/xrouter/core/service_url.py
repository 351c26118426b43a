"""The URLs of the database and of Redis, read before anybody connects: what can be seen to be wrong is said in words,
at once, and without the URL itself, which may hold a password. Pure."""

from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+asyncpg")
SQLITE: Final = ("sqlite", "sqlite+pysqlite", "sqlite+aiosqlite")  # one and the same: Python's own
_REDIS: Final = ("redis", "rediss")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MOST_PORT: Final = 65_535


def check_database_url(url: str) -> None:
    """Raises ValueError, in words, for what is no URL of a database that we speak to."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise ValueError("is no URL; write postgresql://user:password@host/database or sqlite:////var/lib/xrouter/x.db")
    if scheme in SQLITE:
        path = rest.partition("?")[0]
        if path.strip("/") in ("", ":memory:"):
            raise ValueError("must name a file: several connections and processes share it; sqlite:////path does")
        if not path.startswith("/"):
            raise ValueError("has a host, and SQLite is a file; write sqlite:////path with four slashes")
        return
    if scheme not in POSTGRESQL:
        raise ValueError(f"begins with {_shown(scheme)}, which we do not speak; it must be postgresql or sqlite")
    parts = _split(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    hosts = parts.netloc.rpartition("@")[2] or query.get("host", "")
    if not hosts:
        raise ValueError("names no host; postgresql://user:password@host/database does")
    for one in hosts.split(","):
        _check_host(one if parts.netloc.rpartition("@")[2] else one.partition(":")[0] or one)
    for port in query.get("port", "").split(","):
        _check_port(port)
    mode = query.get("sslmode")
    if mode is not None and mode not in _SSL_MODES:
        raise ValueError(f"has an sslmode that does not exist; there are {', '.join(_SSL_MODES)}")


def check_redis_url(url: str) -> None:
    """Raises ValueError, in words, for what is no URL of a Redis."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise ValueError("is no URL; write redis://:password@host:6379/0")
    if scheme == "unix":
        if not rest.rpartition("@")[2].partition("?")[0].startswith("/"):
            raise ValueError("names no socket; unix:///run/redis/redis.sock does")
    elif scheme not in _REDIS:
        raise ValueError(f"begins with {_shown(scheme)}, which is not Redis; it must be redis, rediss or unix")
    else:
        parts = _split(url)
        _check_host(parts.netloc.rpartition("@")[2])
        _check_number(unquote(parts.path).strip("/"))
    _check_number(dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)).get("db", ""))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # its words repeat the URL
        raise ValueError("has a host in brackets that is no IPv6 address") from None


def _check_host(text: str) -> None:
    """`host`, `host:port` or `[IPv6]:port`."""
    if text.startswith("/") or text.lower().startswith("%2f"):
        return  # the directory of a Unix socket
    host, bracket, port = text.rpartition("]") if text.startswith("[") else (text.partition(":")[0], "", "")
    port = port.removeprefix(":") if bracket else text.partition(":")[2]
    if not host.strip("["):
        raise ValueError("names no host")
    if any(char in host for char in " \t\\<>\"'`{}|^"):
        raise ValueError("has a host that is none; a password with special characters must be percent-encoded")
    _check_port(port)


def _check_port(text: str) -> None:
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_PORT):
        raise ValueError(
            f"has a port that is no number from 1 to {_MOST_PORT} "
            "(if a password holds `/`, `@`, `:` or `#`, write it percent-encoded)"
        )


def _check_number(text: str) -> None:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("names a database that is no number; redis://host:6379/0 takes the first")


def _shown(scheme: str) -> str:
    """The scheme, where it is one: a URL without any may begin with a password."""
    return repr(scheme) if scheme.replace("+", "").isalnum() and len(scheme) <= 20 else "something else"
