"""PostgreSQL through asyncpg: how to connect, how long to wait, and what its refusals mean.

The URL goes to asyncpg as it is, so it may say what libpq's may: several hosts with `target_session_attrs`, `sslmode`
with `sslrootcert` (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING).
"""

from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from xrouter.core.service_url import check_database_url, files_of

CONNECT_S: Final = 2.0
"""How long a server may take to let us in. One that does not answer must not hold up the next try."""

STATEMENT_S: Final = 5.0
"""How long one statement may take, migrations and moves excepted."""

CONNECTIONS: Final = 8
"""The most that one process has at once. Further transactions wait for one as long as they may take."""

_NO_RIGHT: Final = "42501"
_READ_ONLY: Final = "25006"


BEGIN_WRITING: Final = "SET LOCAL idle_in_transaction_session_timeout = '30s'"
"""The first statement of a transaction that writes: a process that freezes in the middle of it must not keep its locks
for ever."""


class Refused(Exception):
    """The server answered, and does not let us in: wrong password, no such database, TLS wanted. Waiting does not
    help, a change of the configuration does."""


class Unreachable(Exception):
    """The server cannot take this connection now: it starts, stops, recovers, or has too many."""


def open_engine(url: str, *, unhurried: bool = False) -> Engine:
    """An engine for `url`; nothing is connected yet. `unhurried` is for work whose statements may take any time: one
    connection for each transaction, and no limit to a statement.

    Connecting raises `Refused`, `Unreachable` or OSError. Raises ValueError for a text that is no URL.
    """
    try:
        check_database_url(url)
    except ValueError as error:
        raise ValueError(f"XROUTER_DATABASE_URL {error}") from None
    parts = urlsplit(url)
    for name, path in files_of(url):
        if not Path(path).is_file():
            raise ValueError(f"XROUTER_DATABASE_URL: there is no file {path}, which {name} names")
    dsn = "postgresql" + url[len(parts.scheme) :]

    async def connect(**options: Any) -> Any:
        driver = engine.dialect.loaded_dbapi.asyncpg
        try:
            return await driver.connect(dsn, **options)
        except TimeoutError:
            raise Unreachable(f"The database did not let us in within {CONNECT_S:g} s.") from None
        except ValueError as error:  # asyncpg's ClientConfigurationError is one
            raise Refused(str(error)) from error
        except (driver.PostgresError, driver.InterfaceError, driver.InternalClientError) as error:
            raise (Refused if _is_refusal(getattr(error, "sqlstate", None)) else Unreachable)(str(error)) from error

    engine = create_engine(
        "postgresql+asyncpg://",
        connect_args={
            "async_creator_fn": connect,
            "timeout": CONNECT_S,
            "command_timeout": None if unhurried else STATEMENT_S,
            # Statements without a name live in their transaction alone: a pooler between us may then give each
            # transaction another server connection (PgBouncer, Odyssey).
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": _no_name,
            "server_settings": {"application_name": "xrouter"},  # one that poolers know, too
        },
        **({"poolclass": NullPool} if unhurried else _POOL),
    )
    return engine


_POOL: Final[dict[str, Any]] = {
    "pool_size": CONNECTIONS // 2,
    "max_overflow": CONNECTIONS // 2,
    "pool_timeout": STATEMENT_S,
    "pool_pre_ping": True,
}


def _no_name() -> str:
    return ""


def _is_refusal(sqlstate: str | None) -> bool:
    """Class 28: who we are is not believed; 3D: no such database; 42 and 22: no right, or a parameter in our URL that
    nobody knows. https://www.postgresql.org/docs/current/errcodes-appendix.html"""
    return sqlstate is not None and sqlstate[:2] in ("28", "3D", "42", "22")


def is_refusal(error: BaseException) -> bool:
    """True where waiting does not help: the server answers, and says that we may not."""
    if isinstance(error, DBAPIError):
        return getattr(error.orig, "sqlstate", None) == _NO_RIGHT
    return isinstance(error, Refused | SSLCertVerificationError)


def is_standby(error: BaseException) -> bool:
    """True where a server that took writes before is not the one that takes them now."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _READ_ONLY
