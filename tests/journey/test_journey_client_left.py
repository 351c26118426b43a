"""A client that leaves takes the vendor's work with it, and the books say so."""

import asyncio
import re
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
from campaigns.stage import Gateway, Simulators, wait_until
from tests.journey.calls import CHAT, chat_body, chats_seen, row_of, session

PROMISED_MS = 200
ALLOWED_MS = 2_000
"""A shared machine may stall; what was measured is printed."""


async def begun(vendors: Simulators, chunks: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        return next((row for row in chats_seen(vendors) if row["chunks"] >= chunks), None)

    found: dict[str, Any] = await asyncio.to_thread(wait_until, "the vendor's beginning", look, 10.0)
    return found


async def gone(vendors: Simulators, number: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        return next((row for row in chats_seen(vendors) if row["n"] == number and row["gone_ms"] is not None), None)

    found: dict[str, Any] = await asyncio.to_thread(wait_until, "the vendor's notice", look, 10.0)
    return found


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_vendor_is_cut_off_when_the_client_leaves(
    vendors: Simulators, place: Gateway, model: str, stream: bool
) -> None:
    vendors.control("settings", pace_ms=20)
    theirs = f"left-{uuid4()}"
    body = chat_body(model, "say 5000 words", stream=stream)
    async with session(place) as client:
        call = asyncio.create_task(_ask(client, body, theirs))
        seen = await begun(vendors, 5 if stream else 0)
        left_ms = vendors.state()["uptime_ms"]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        found = await gone(vendors, seen["n"])
        after_ms = found["at_ms"] + found["gone_ms"] - left_ms

    how = "stream" if stream else "whole"
    print(f"{model} {how}: cut {after_ms:.0f} ms after the client left, promised {PROMISED_MS}")  # noqa: T201
    assert after_ms < ALLOWED_MS
    row = await row_of(place, client_request_id=theirs)
    assert row["id"] == found["attempt_id"]
    assert row["state"] == "cancelled"
    assert row["estimated"] is True
    assert row["usage"]["prompt_tokens"] > 0
    assert row["cost_rub"] > 0
    if stream:
        assert row["usage"]["completion_tokens"] > 0


def _under_way(place: Gateway) -> int:
    with urlopen(f"{place.url}/metrics", timeout=10) as answer:
        found = re.search(rb"^xrouter_in_flight (\S+)$", answer.read(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def _ask(client: Any, body: dict[str, Any], theirs: str) -> None:
    async with client.post(CHAT, json=body, headers={"x-request-id": theirs}) as answer:
        await answer.read()


async def test_a_client_that_leaves_in_the_queue_leaves_no_trace(vendors: Simulators, place: Gateway) -> None:
    """Its turn never came, so no vendor was asked and there is nothing to bill; the others are served."""
    vendors.control("settings", pace_ms=20)
    theirs = f"queued-{uuid4()}"
    async with session(place) as client:
        first = asyncio.create_task(_ask(client, chat_body("pers/GigaChat-2", "say 20 words"), f"first-{theirs}"))
        await begun(vendors, 0)
        waiting = asyncio.create_task(_ask(client, chat_body("pers/GigaChat-2"), theirs))
        last = asyncio.create_task(_ask(client, chat_body("pers/GigaChat-2"), f"last-{theirs}"))
        await asyncio.to_thread(wait_until, "three calls under way", lambda: _under_way(place) == 3, 10.0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.gather(first, last)
    await row_of(place, client_request_id=f"last-{theirs}")
    assert place.attempts(client_request_id=theirs) == []
    assert len(chats_seen(vendors)) == 2
