"""One running set of simulators for each test, and plain ways to talk to it."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from xrouter.simulators import server

SEED = 7


def key(client: str = "demo", secret: str = "secret") -> str:
    """An authorization key as GigaChat gives it out."""
    return base64.b64encode(f"{client}:{secret}".encode()).decode()


@dataclass
class Vendors:
    """The simulators' address and a session to them."""

    port: int
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and JSON (or bytes) of one POST."""
        async with self.session.post(self.url + path, json=body, headers=headers) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(raw) if is_json and raw else raw

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, headers=headers) as response:
            return response.status, await response.json()

    async def settings(self, **values: Any) -> None:
        status, answer = await self.post("/control/settings", values)
        assert status == 200, answer

    async def state(self) -> dict[str, Any]:
        return (await self.get("/control/state"))[1]

    async def rows(self, after: int = 0) -> list[dict[str, Any]]:
        return (await self.get(f"/control/requests?after={after}"))[1]["data"]

    async def token(self, client: str = "demo", scope: str = "GIGACHAT_API_B2B") -> str:
        status, answer = await self.login(client, scope)
        assert status == 200, answer
        return str(answer["access_token"])

    async def login(self, client: str = "demo", scope: str = "GIGACHAT_API_B2B", **headers: str) -> tuple[int, Any]:
        given = {"Authorization": f"Basic {key(client)}", "RqUID": str(uuid.uuid4()), **headers}
        url = f"{self.url}/gigachat/api/v2/oauth"
        async with self.session.post(url, data={"scope": scope}, headers=given) as response:
            return response.status, await response.json()


@pytest.fixture
async def vendors() -> AsyncIterator[Vendors]:
    async with server.running(server.build(SEED)) as port, aiohttp.ClientSession() as session:
        yield Vendors(port, session)


async def until(condition: Callable[[], Awaitable[bool]], deadline_s: float = 10.0) -> None:
    """Wait until `condition` holds; fail after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
def credentials() -> Callable[..., str]:
    return key
