"""Databases and attempts for the store tests.

The conformance tests run on SQLite and on PostgreSQL (`tests/services.py`): each test gets its own database.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic  # noqa: TID251 - a deadline for polling
from typing import Any

import pytest
from sqlalchemy import Connection, select

from xrouter.core.call import Attempt, Call, Caller
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment
from xrouter.core.ids import ulid
from xrouter.stores.sql.database import Database, DatabaseUnavailable, open_database
from xrouter.stores.sql.schema import attempts


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, without our tables."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'xrouter.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    await opened.migrate()
    yield opened
    await opened.close()


class Switchable(Database):
    """A database that a test can take away."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner._engine)
        self.away = False
        self.reads = 0

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        self.reads += 1
        if self.away:
            raise DatabaseUnavailable("switched off")
        return await super().read(work)

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        if self.away:
            raise DatabaseUnavailable("switched off")
        return await super().write(work)


@pytest.fixture
def switchable(database: Database) -> Switchable:
    return Switchable(database)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal_root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


AttemptFactory = Callable[..., Attempt]


@pytest.fixture
def make_attempt() -> AttemptFactory:
    deployment = Deployment(id="fake/model", provider="fake", kind="openai_compatible", upstream_model="model")
    caller = Caller("k1", "test", frozenset())

    def make(journal: Any, **changes: Any) -> Attempt:
        call = Call(
            id="chatcmpl-" + ulid(),
            request=ChatRequest(model="fake/model", stream=True, fields={}),
            caller=caller,
            request_id="req-1",
            started_at=1.0,
            started=1.0,
            client_request_id=changes.pop("client_request_id", None),
        )
        attempt = Attempt(
            call=call,
            deployment=deployment,
            model=changes.pop("model", "fake/model"),
            number=1,
            began=1.0,
            started_at=1.5,
            journal_intent=lambda attempt: journal.intend(attempt, attempt.usage or Usage(0, 0), attempt.cost_micro),
        )
        for name, value in changes.items():
            setattr(attempt, name, value)
        return attempt

    return make


@pytest.fixture
def rows_of() -> Callable[[Database], Awaitable[dict[str, Any]]]:
    """Every booked attempt by id; fails when one is there twice."""

    async def rows(database: Database) -> dict[str, Any]:
        found = await database.read(lambda connection: connection.execute(select(attempts)).all())
        by_id = {row.id: row for row in found}
        assert len(by_id) == len(found)
        return by_id

    return rows


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Waits for a condition, 10 s at most."""

    async def wait(condition: Callable[[], Any], within_s: float = 10.0) -> None:
        end = monotonic() + within_s
        while True:
            met = condition()
            if asyncio.iscoroutine(met):
                met = await met
            if met:
                return
            assert monotonic() < end, "did not happen in time"
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def start_together() -> Callable[[list[str], int], list[tuple[str, int]]]:
    """Runs a program several times at once: each waits for a byte on stdin. Gives outputs and exit codes."""

    def start(command: list[str], count: int) -> list[tuple[str, int]]:
        pipe = subprocess.PIPE
        with ExitStack() as running:
            processes = []
            for _ in range(count):
                process = running.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
                running.callback(process.kill)  # before it is waited for
                processes.append(process)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("x")
                process.stdin.flush()
            return [(process.communicate(timeout=60)[0], process.returncode) for process in processes]

    return start
