"""SIGTERM in the middle of the work: what can finish finishes, what cannot is told, and nothing is lost."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from campaigns.crash import judge
from campaigns.stage import Gateway, Simulators, config_for, http, wait_until
from tests.journey.calls import CHAT, chat_body, chats_seen, events
from tests.journey.conftest import GIGACHAT, TBANK

SHORT, LONG = 6, 6


@pytest.mark.parametrize("workers", [1, 2])
async def test_streams_under_sigterm(vendors: Simulators, tmp_path: Path, workers: int) -> None:
    place = Gateway(
        tmp_path,
        config_for(vendors.url),
        workers=workers,
        environment={"XROUTER_DRAIN_DELAY_S": "0.6", "XROUTER_DRAIN_MAX_S": "1"},
    )
    await asyncio.to_thread(place.start)
    try:
        await _under_streams(vendors, place)
        await asyncio.to_thread(place.start)  # the books are read from what the first life left behind
        await asyncio.to_thread(_check_books, vendors, place)
        assert await asyncio.to_thread(place.stop) == 0
    finally:
        if place.process is not None and place.process.poll() is None:
            place.kill()


async def _under_streams(vendors: Simulators, place: Gateway) -> None:
    assert place.process is not None
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"Authorization": f"Bearer {place.key}"}
    async with aiohttp.ClientSession(place.url, headers=headers, connector=connector) as client:

        async def stream(model: str, text: str) -> list[Any]:
            async with client.post(CHAT, json=chat_body(model, text, stream=True)) as answer:
                assert answer.status == 200
                return events(await answer.read())

        vendors.control("settings", pace_ms=30, first_ms=0)
        short = [asyncio.create_task(stream(TBANK, "say 6 words")) for _ in range(SHORT)]
        long = [asyncio.create_task(stream(m, "say 4000 words")) for m in (TBANK, GIGACHAT) for _ in range(LONG // 2)]
        whole = asyncio.create_task(_whole(client))
        await asyncio.to_thread(wait_until, "all to begin", lambda: _begun(vendors) == SHORT + LONG, 10.0)
        place.process.send_signal(signal.SIGTERM)
        unready = await asyncio.to_thread(wait_until, "503 while draining", lambda: _unready(place), 5.0)
        assert unready == {"status": "draining"}

        for found in await asyncio.gather(*short):
            assert found[-1] == "[DONE]"
            assert [c["choices"][0]["finish_reason"] for c in found[:-1]][-1] == "stop"
        for found in await asyncio.gather(*long):
            assert "[DONE]" not in found
            assert found[-1]["error"]["code"] == "server_shutdown"
            assert found[0]["choices"]
        status, error = await whole
        assert status == 503
        assert error["error"]["code"] == "server_shutdown"
    assert await asyncio.to_thread(place.process.wait, 20) == 0


async def _whole(client: aiohttp.ClientSession) -> tuple[int, Any]:
    async with client.post(CHAT, json=chat_body(f"{TBANK}+slow-headers")) as answer:
        return answer.status, await answer.json()


def _begun(vendors: Simulators) -> int:
    return sum(row["chunks"] > 0 for row in chats_seen(vendors))


def _unready(place: Gateway) -> Any:
    try:
        status, body = http("GET", f"{place.url}/health/ready")
    except OSError:
        return None
    return body if status == 503 else None


def _check_books(vendors: Simulators, place: Gateway) -> None:
    seen = [row["attempt_id"] for row in chats_seen(vendors)]
    assert len(seen) == SHORT + LONG + 1
    rows = place.attempts()
    assert judge(seen, rows) == []
    ended = sorted((row["state"], row["error"]) for row in rows if row["state"] != "succeeded")
    assert ended == [("cancelled", "server_shutdown")] * (LONG + 1)
    assert all(row["usage"]["completion_tokens"] > 0 for row in rows if row["streamed"])
