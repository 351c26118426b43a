"""Keys and books in memory, and the control plane over them on a real socket."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import Any

import aiohttp
import msgspec
import uvicorn

from xrouter.admin.routes import build
from xrouter.core.api_key import mint
from xrouter.core.call import Caller, Scope, State
from xrouter.core.clock import ManualClock
from xrouter.core.errors import Unauthenticated
from xrouter.core.records import AttemptFilter, AttemptRecord, KeyRecord, NewKey, Page

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CALLERS = {
    "root": Caller("kroot", "root", frozenset({Scope.ADMIN})),
    "alice": Caller("kalice", "alice", frozenset({Scope.MODELS})),
    "bob": Caller("kbob", "bob", frozenset({Scope.MODELS})),
}


async def authenticate(headers: Mapping[str, str]) -> Caller:
    caller = CALLERS.get(headers.get("authorization", "").removeprefix("Bearer "))
    if caller is None:
        raise Unauthenticated("The API key is not valid.")
    return caller


def _page(items: list[Any], cursor: str | None, limit: int) -> Page[Any]:
    start = 0 if cursor is None else int(base64.b64decode(cursor, validate=True))
    following = start + limit
    more = following < len(items)
    return Page(tuple(items[start:following]), base64.b64encode(str(following).encode()).decode() if more else None)


class Keys:
    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}

    async def create(
        self, *, name: str, scopes: frozenset[Scope], created_by: str, expires_at: float | None = None
    ) -> NewKey:
        key_id, text = mint()
        record = KeyRecord(key_id, name, scopes, text.reveal()[-4:], NOW, created_by, expires_at)
        self.records[key_id] = record
        return NewKey(record, text)

    async def get(self, key_id: str) -> KeyRecord | None:
        return self.records.get(key_id)

    async def page(self, cursor: str | None, limit: int) -> Page[KeyRecord]:
        return _page(list(reversed(self.records.values())), cursor, limit)

    async def disable(self, key_id: str) -> KeyRecord | None:
        if key_id not in self.records:
            return None
        self.records[key_id] = replace(self.records[key_id], disabled=True)
        return self.records[key_id]


class Attempts:
    def __init__(self) -> None:
        self.records: list[AttemptRecord] = []

    async def of_call(self, call_id: str) -> tuple[AttemptRecord, ...]:
        return tuple(record for record in self.records if record.call_id == call_id)

    async def page(self, wanted: AttemptFilter, cursor: str | None, limit: int) -> Page[AttemptRecord]:
        equal = {
            field.name: getattr(wanted, field.name)
            for field in fields(wanted)
            if field.name not in ("since", "until") and getattr(wanted, field.name) is not None
        }
        found = [
            record
            for record in reversed(self.records)
            if all(getattr(record, name) == value for name, value in equal.items())
            and (wanted.since is None or record.started_at >= wanted.since)
            and (wanted.until is None or record.started_at < wanted.until)
        ]
        return _page(found, cursor, limit)

    async def spent_micro(self, key_id: str, since: tuple[float, ...]) -> tuple[int, ...]:
        own = [record for record in self.records if record.key_id == key_id]
        return tuple(sum(one.cost_micro for one in own if one.started_at >= point) for point in since)


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

    def __init__(self, url: str, keys: Keys, attempts: Attempts, session: aiohttp.ClientSession) -> None:
        self.url, self.keys, self.attempts, self._session = url, keys, attempts, session

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


@asynccontextmanager
async def control_plane() -> AsyncIterator[Plane]:
    keys, attempts = Keys(), Attempts()
    app = build(keys=keys, attempts=attempts, authenticate=authenticate, clock=ManualClock(NOW))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_level="critical", server_header=False)
    )
    running = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        async with aiohttp.ClientSession() as session:
            yield Plane(f"http://127.0.0.1:{listener.getsockname()[1]}", keys, attempts, session)
    finally:
        server.should_exit = True
        await running
        listener.close()
