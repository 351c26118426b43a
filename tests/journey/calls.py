"""Calls to a gateway over plain HTTP, many at once, each on a connection of its own where that matters."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from campaigns.stage import Gateway, Simulators, wait_until

CHAT = "/v1/chat/completions"


def chat_body(model: str, text: str = "echo: hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


@asynccontextmanager
async def session(
    place: Gateway, *, key: str | None = None, reuse: bool = True
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of `place`; without `reuse` every request comes on a new connection, so any worker may get it."""
    async with aiohttp.ClientSession(
        place.url,
        headers={"Authorization": f"Bearer {key or place.key}"},
        connector=aiohttp.TCPConnector(limit=0, force_close=not reuse),
        timeout=aiohttp.ClientTimeout(total=60),
    ) as client:
        yield client


async def at_once(place: Gateway, count: int, body: dict[str, Any]) -> list[tuple[int, Any]]:
    """Status and body of `count` equal calls made at the same time."""
    async with session(place, reuse=False) as client:

        async def one() -> tuple[int, Any]:
            async with client.post(CHAT, json=body) as answer:
                return answer.status, await answer.json()

        return await asyncio.gather(*(one() for _ in range(count)))


def events(data: bytes) -> list[Any]:
    """The decoded `data:` lines of an event stream; `[DONE]` stays text."""
    payloads = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def chats_seen(vendors: Simulators) -> list[dict[str, Any]]:
    """The chat requests that the vendors saw since the test began."""
    return [row for row in vendors.requests() if row["path"].endswith("/chat/completions")]


async def row_of(place: Gateway, **wanted: str) -> dict[str, Any]:
    """The one row of the books that `wanted` describes, once it is there and not open any more."""

    def settled() -> list[dict[str, Any]]:
        return [row for row in place.attempts(**wanted) if row["state"] != "open"]

    (row,) = await asyncio.to_thread(wait_until, f"the row of {wanted}", settled, 10.0)
    found: dict[str, Any] = row
    return found
