"""The URLs of the database and of Redis, read before anybody connects: what can be seen to be wrong is said in words,
at once, and without the URL itself, which may hold a password. Pure."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+asyncpg")
SQLITE: Final = ("sqlite", "sqlite+pysqlite", "sqlite+aiosqlite")  # one and the same: Python's own
_REDIS: Final = ("redis", "rediss")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MOST_PORT: Final = 65_535
_ENCODE: Final = "a password's `/`, `@`, `:`, `?` and `#` are written percent-encoded: %2F, %40, %3A, %3F, %23"

_POSTGRESQL_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_POSTGRESQL_OPTIONS: Final = frozenset(
    (
        "host", "port", "user", "password", "database", "dbname", "service", "sslmode", "sslpassword", "sslnegotiation",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
        "application_name", "options", "search_path", "statement_timeout", "lock_timeout",
        "idle_in_transaction_session_timeout", *_POSTGRESQL_FILES,
    )
)  # fmt: skip
"""What asyncpg reads of libpq's options, and the settings of a session; it hands all others on to the server, which
then refuses the connection."""

_REDIS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_REDIS_OPTIONS: Final = frozenset(
    (
        "db", "username", "password", "client_name", "protocol", "health_check_interval", "max_connections",
        "socket_timeout", "socket_connect_timeout", "socket_keepalive", "ssl_cert_reqs", "ssl_check_hostname",
        "ssl_ca_path", "ssl_password", "ssl_min_version", "ssl_ciphers", *_REDIS_FILES,
    )
)  # fmt: skip


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
        _check_options(url, frozenset())
        return
    if scheme not in POSTGRESQL:
        raise ValueError(f"begins with {_shown(scheme)}, which we do not speak; it must be postgresql or sqlite")
    parts = _split(url)
    _check_encoded(parts)
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
    _check_options(url, _POSTGRESQL_OPTIONS)


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
        _check_encoded(parts)
        _check_host(parts.netloc.rpartition("@")[2])
        _check_number(unquote(parts.path).strip("/"))
    _check_number(dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)).get("db", ""))
    _check_options(url, _REDIS_OPTIONS)


def files_of(url: str) -> list[tuple[str, str]]:
    """The options of a URL that name a file, with the path that each names."""
    files = _POSTGRESQL_FILES if url.partition("://")[0] in POSTGRESQL else _REDIS_FILES
    return [(name, path) for name, path in parse_qsl(url.partition("?")[2]) if name in files]


def _check_options(url: str, known: Collection[str]) -> None:
    """A mistyped option would do nothing, or end in a refusal that nobody understands."""
    query = url.partition("?")[2]
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name in known:
            continue
        # What stands before an `@` may be a password's rest, and is not repeated.
        shown = f" {name!r}" if "@" not in query and re.fullmatch(r"[a-z_]{1,40}", name) else ""
        near = get_close_matches(name, sorted(known), 1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known)) or 'none'}"
        raise ValueError(f"has an option{shown} that does not exist{hint} ({_ENCODE})")


def _check_encoded(parts: SplitResult) -> None:
    if parts.fragment or "@" in parts.path:
        raise ValueError(f"has a `#`, or an `@` behind its host; {_ENCODE}")


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
        raise ValueError(f"has a port that is no number from 1 to {_MOST_PORT} ({_ENCODE})")


def _check_number(text: str) -> None:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("names a database that is no number; redis://host:6379/0 takes the first")


def _shown(scheme: str) -> str:
    """The scheme, where it is one: a URL without any may begin with a password."""
    return repr(scheme) if scheme.replace("+", "").isalnum() and len(scheme) <= 20 else "something else"
