"""The control plane over the product's own stores, on a real socket; the books are in memory."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import aiohttp
import msgspec
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Connection, delete, insert

from xrouter.admin.pressure import DoorState, Pressure
from xrouter.admin.routes import build
from xrouter.configuration.standing import Standing
from xrouter.core.accounts import ANYWHERE
from xrouter.core.call import Caller, Scope, State
from xrouter.core.clock import ManualClock
from xrouter.core.decision import Explanation
from xrouter.core.records import AttemptFilter, AttemptRecord, Page
from xrouter.core.secret import Secret
from xrouter.gateway import authenticate
from xrouter.stores.sql.accounts import SqlAccounts
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.idempotency import SqlIdempotentWrites
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.plans import SqlPlans
from xrouter.stores.sql.schema import accounts, api_keys, idempotent_writes, plans

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CALLERS = {
    "root": Caller("kroot", "root", frozenset({Scope.ADMIN})),
    "alice": Caller("kalice", "alice", frozenset({Scope.MODELS})),
    "bob": Caller("kbob", "bob", frozenset({Scope.MODELS})),
}


def _page(items: list[Any], cursor: str | None, limit: int) -> Page[Any]:
    start = 0 if cursor is None else int(base64.b64decode(cursor, validate=True))
    following = start + limit
    more = following < len(items)
    return Page(tuple(items[start:following]), base64.b64encode(str(following).encode()).decode() if more else None)


class Attempts:
    def __init__(self, keys: SqlKeys) -> None:
        self.keys = keys
        self.records: list[AttemptRecord] = []

    async def of_call(self, call_id: str) -> tuple[AttemptRecord, ...]:
        return tuple(record for record in self.records if record.call_id == call_id)

    async def page(self, wanted: AttemptFilter, cursor: str | None, limit: int) -> Page[AttemptRecord]:
        equal = {
            field.name: getattr(wanted, field.name)
            for field in fields(wanted)
            if field.name not in ("since", "until", "within") and getattr(wanted, field.name) is not None
        }
        found = [
            record
            for record in reversed(self.records)
            if all(getattr(record, name) == value for name, value in equal.items())
            and (wanted.since is None or record.started_at >= wanted.since)
            and (wanted.until is None or record.started_at < wanted.until)
            and (wanted.within == ANYWHERE or await self.keys.get(record.key_id, wanted.within) is not None)
        ]
        return _page(found, cursor, limit)

    async def spent_micro(self, key_id: str, since: tuple[float, ...]) -> tuple[int, ...]:
        own = [record for record in self.records if record.key_id == key_id]
        return tuple(sum(one.cost_micro for one in own if one.started_at >= point) for point in since)

    async def spent_by_each(
        self, key_ids: Sequence[str], since: tuple[float, ...]
    ) -> dict[str, tuple[tuple[int, ...], float]]:
        return {
            key_id: (await self.spent_micro(key_id, since), max(one.started_at for one in own))
            for key_id in key_ids
            if (own := [record for record in self.records if record.key_id == key_id])
        }


def attempt(number: int = 1, **changes: Any) -> AttemptRecord:
    record = AttemptRecord(
        id=f"01ATTEMPT{number}",
        call_id="chatcmpl-1",
        request_id="req_1",
        client_request_id=None,
        key_id="kalice",
        number=number,
        model="tbank/t-pro",
        deployment="tbank/t-pro",
        provider="tbank",
        upstream_model="t-pro",
        dialect="openai",
        streamed=True,
        owner="worker-1",
        state=State.SUCCEEDED,
        phase="shown",
        started_at=NOW + 0.25,
        first_content_at=NOW + 0.5,
        ended_at=NOW + 2.0,
        upstream_status=200,
        input_tokens=7,
        output_tokens=5,
        cached_tokens=2,
        reasoning_tokens=1,
        cost_micro=1_300,
        finish_reason="stop",
    )
    return msgspec.structs.replace(record, **changes)


class Plane:
    """The control plane on a socket, its stores, and an HTTP client with a key."""

    def __init__(self, url: str, stores: "Stores", session: aiohttp.ClientSession) -> None:
        self.url, self.stores, self._session = url, stores, session
        self.keys, self.accounts, self.plans, self.attempts = (
            stores.keys,
            stores.accounts,
            stores.plans,
            stores.attempts,
        )

    async def ask(
        self, method: str, path: str, *, key: str | None = "root", data: bytes | None = None, **options: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, decoded JSON (floats as text, so that decimals stay exact) and headers."""
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        headers |= options.pop("headers", {})
        async with self._session.request(method, self.url + path, headers=headers, data=data, **options) as response:
            body = await response.read()
            return response.status, _decoded(body), response.headers


def _decoded(body: bytes) -> Any:
    return json.loads(body, parse_float=str) if body else None


STANDING = Standing({"providers": {}}, "0123456789abcdef", 1_700_000_000.0, ("x.yaml:3: a: is wrong",), 1_700_000_060.0)


class Stores:
    """The product's own stores on a database of this test's own; attempts are in memory."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(NOW)
        pepper = Secret("pepper" * 8)
        self.keys = SqlKeys(database, pepper, self.clock, 1.0)
        self.accounts = SqlAccounts(database, self.clock, self.keys.learn)
        self.plans = SqlPlans(database, self.clock, self.keys.learn)
        self.writes = SqlIdempotentWrites(database, pepper, self.clock)
        self.attempts: Any = Attempts(self.keys)

    async def explain(self, packed: bytes) -> Explanation:
        return Explanation("0123456789abcdef", packed.hex(), {}, ())

    async def reset(self) -> None:
        """Nothing but the keys of `CALLERS`."""
        self.attempts.records.clear()
        await self.database.write(_empty)

    async def authenticate(self, headers: Mapping[str, str], scope: object) -> Caller:
        credential = headers.get("authorization", "").removeprefix("Bearer ")
        if credential in CALLERS:
            return CALLERS[credential]
        return await authenticate.check(credential or None, Scope.MODELS, self.keys, self.clock, lambda: "127.0.0.1")

    def build(self) -> FastAPI:
        return build(
            keys=self.keys, accounts=self.accounts, plans=self.plans, attempts=self.attempts, writes=self.writes,
            explain=self.explain, standing=lambda: STANDING, deployments=list, authenticate=self.authenticate,
            clock=self.clock, pressure=calm,
        )  # fmt: skip


def calm() -> Pressure:
    """Nobody calls."""
    return Pressure(door=DoorState(inside=0, waiting=0, lagging=False), credentials=[], hedges=[], shadows=[])


def _empty(connection: Connection) -> None:
    for table in (accounts, plans, idempotent_writes, api_keys):
        connection.execute(delete(table))
    for number, caller in enumerate(CALLERS.values()):
        connection.execute(
            insert(api_keys).values(
                id=caller.key_id, digest=bytes([number]) * 32, name=caller.name, scopes=" ".join(caller.scopes),
                last4="last", created_at=0.0, created_by="test", disabled=False, version=0,
            )
        )  # fmt: skip


@asynccontextmanager
async def control_plane(database_url: str) -> AsyncIterator[Plane]:
    database = open_database(database_url)
    await database.migrate()
    stores = Stores(database)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            stores.build(), http="httptools", ws="none", lifespan="off", log_level="critical", server_header=False
        )
    )
    running = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        async with aiohttp.ClientSession() as session:
            yield Plane(f"http://127.0.0.1:{listener.getsockname()[1]}", stores, session)
    finally:
        server.should_exit = True
        await running
        listener.close()
        await database.close()
