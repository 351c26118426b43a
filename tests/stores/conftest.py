"""Attempts and journals for the store tests; their databases come from `tests/databases.py`."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic  # noqa: TID251 - a deadline for polling
from typing import Any

import pytest
from sqlalchemy import select

from xrouter.core.call import Attempt, Call, Caller
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment
from xrouter.core.ids import ulid
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.schema import attempts


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
