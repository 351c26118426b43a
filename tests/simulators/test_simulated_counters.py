"""What the simulators count is what was done to them."""

import asyncio
import json
import socket
import struct
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from xrouter.core.clock import ManualClock
from xrouter.simulators.counters import Counters, Row
from xrouter.simulators.desk import Desk

MODEL = "t-lite-it-2.1"
CHAT = "/openai/v1/chat/completions"


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


async def test_a_row_tells_the_whole_story(vendors: Any) -> None:
    status, answer = await vendors.post(CHAT, ask("echo: 12345678"), **{"x-request-id": "attempt-1"})
    assert status == 200
    (row,) = await vendors.rows()
    assert row["n"] == 1
    assert (row["form"], row["method"], row["path"]) == ("openai", "POST", CHAT)
    assert (row["attempt_id"], row["model"], row["fault"]) == ("attempt-1", MODEL, "")
    assert (row["status"], row["chunks"], row["gone_ms"]) == (200, 2, None)
    assert row["bytes"] == len(json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode())
    assert row["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert row["completion_tokens"] == answer["usage"]["completion_tokens"] == 2
    assert row["end_ms"] >= 0


async def test_a_stream_cut_short_counts_what_went_out(vendors: Any) -> None:
    status, _ = await vendors.post(CHAT, {**ask("say 30 words", stream=True), "model": f"{MODEL}+clean-end-5"})
    assert status == 200
    (row,) = await vendors.rows()
    assert (row["model"], row["fault"], row["chunks"], row["completion_tokens"]) == (MODEL, "clean-end-5", 5, 5)


async def test_every_path_is_counted_even_unknown_ones(vendors: Any) -> None:
    token = await vendors.token()
    async with vendors.session.get(f"{vendors.url}/openai/v1/nothing") as response:
        assert response.status == 404
    async with vendors.session.get(
        f"{vendors.url}/gigachat/v1/models", headers={"Authorization": f"Bearer {token}"}
    ) as response:
        assert response.status == 200
    rows = await vendors.rows()
    assert [(row["path"], row["status"]) for row in rows] == [
        ("/gigachat/api/v2/oauth", 200),
        ("/openai/v1/nothing", 404),
        ("/gigachat/v1/models", 200),
    ]
    assert [row["credential"] for row in rows] == ["demo", "", "demo"]
    totals = (await vendors.state())["totals"]
    assert (totals["requests"], totals["logins"]) == (3, 1)
    assert totals["by_form"] == {"gigachat": 2, "openai": 1}


async def test_a_request_is_counted_before_its_body(vendors: Any, eventually: Any) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", vendors.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: sim\r\nx-request-id: early\r\nContent-Length: 100\r\n\r\n".encode())

    async def seen() -> bool:
        return [row["attempt_id"] for row in await vendors.rows()] == ["early"]

    await eventually(seen)
    assert (await vendors.rows())[0]["end_ms"] is None
    writer.close()

    async def gone() -> bool:
        return (await vendors.rows())[0]["gone_ms"] is not None

    await eventually(gone)


@pytest.mark.parametrize("linger", [False, True], ids=["fin", "rst"])
async def test_a_client_that_is_killed_after_sending_was_seen(vendors: Any, eventually: Any, linger: bool) -> None:
    raw = json.dumps(ask("hi", stream=True)).encode()
    kills = 100
    for number in range(kills):
        client = socket.create_connection(("127.0.0.1", vendors.port))
        head = f"POST {CHAT} HTTP/1.1\r\nHost: sim\r\nx-request-id: a{number}\r\nContent-Length: {len(raw)}\r\n\r\n"
        client.sendall(head.encode() + raw)
        if linger:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # A reset throws away what the server has not read yet: let it read first.
            await eventually(lambda wanted=number + 1: has_rows(vendors, wanted))
        client.close()

    await eventually(lambda: has_rows(vendors, kills))
    assert sorted(row["attempt_id"] for row in await vendors.rows()) == sorted(f"a{number}" for number in range(kills))

    async def quiet() -> bool:
        ended = [row["end_ms"] is not None for row in await vendors.rows()]
        return all(ended) and (await vendors.state())["in_flight"]["now"] == 0

    await eventually(quiet)
    state = await vendors.state()
    assert sum(state["totals"]["by_status"].values()) == state["totals"]["requests"] == kills


async def test_a_client_that_leaves_before_its_handler_starts_has_left(
    vendors: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = Desk.arrived

    def arrived_and_gone(desk: Desk, request: web.BaseRequest, form: str) -> Row:
        assert request.transport is not None
        request.transport.abort()  # the loop hears of it before the handler's first step
        return arrived(desk, request, form)

    monkeypatch.setattr(Desk, "arrived", arrived_and_gone)
    with pytest.raises(aiohttp.ClientError):
        await vendors.post(CHAT, ask("hi"))

    async def ended() -> bool:
        return [row["gone_ms"] is not None and row["end_ms"] is not None for row in await vendors.rows()] == [True]

    await eventually(ended, 2.0)
    state = await vendors.state()
    assert (state["totals"]["gone"], state["in_flight"]["now"]) == (1, 0)


async def has_rows(vendors: Any, count: int) -> bool:
    return len(await vendors.rows()) == count


@pytest.mark.parametrize("fault", ["stall-2", "ping-stall-2", "slow-first", "slow-headers", "slow-100"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_noticed(vendors: Any, eventually: Any, fault: str, stream: bool) -> None:
    request = asyncio.ensure_future(
        vendors.post(CHAT, {**ask("say 300 words", stream=stream), "model": f"{MODEL}+{fault}"})
    )

    async def under_way() -> bool:
        rows = await vendors.rows()
        return len(rows) == 1 and rows[0]["fault"] == fault

    await eventually(under_way)
    assert (await vendors.state())["in_flight"]["now"] == 1
    request.cancel()

    async def gone() -> bool:
        return (await vendors.rows())[0]["gone_ms"] is not None

    await eventually(gone)
    state = await vendors.state()
    assert (state["in_flight"]["now"], state["totals"]["gone"]) == (0, 1)


async def test_most_at_once(vendors: Any, eventually: Any) -> None:
    requests = [
        asyncio.ensure_future(vendors.post(CHAT, {**ask("hi"), "model": f"{MODEL}+slow-headers"})) for _ in range(7)
    ]

    async def all_in() -> bool:
        return (await vendors.state())["in_flight"]["now"] == 7

    await eventually(all_in)
    for request in requests:
        request.cancel()

    async def all_out() -> bool:
        return (await vendors.state())["in_flight"] == {"now": 0, "most": 7}

    await eventually(all_out)


async def test_reset_forgets_and_numbers_go_on(vendors: Any) -> None:
    await vendors.settings(pace_ms=1)
    await vendors.post("/control/faults", {"model": "*", "fault": "empty"})
    await vendors.post(CHAT, ask("hi"))
    assert (await vendors.post("/control/reset", {}))[0] == 200
    state = await vendors.state()
    assert (state["totals"]["requests"], state["faults"], state["settings"]["pace_ms"]) == (0, [], 0.0)
    assert await vendors.rows() == []
    await vendors.post(CHAT, ask("hi"))
    assert [row["n"] for row in await vendors.rows()] == [2]


async def test_rows_come_in_pages(vendors: Any) -> None:
    for number in range(5):
        await vendors.post(CHAT, ask("hi"), **{"x-request-id": str(number)})
    seen, after = [], 0
    while True:
        _, page = await vendors.get(f"/control/requests?after={after}&limit=2")
        if not page["data"]:
            break
        seen += [row["attempt_id"] for row in page["data"]]
        after = page["next"]
        assert page["lost"] == 0
    assert seen == ["0", "1", "2", "3", "4"]
    assert (await vendors.get("/control/requests?after=-1"))[0] == 400
    assert (await vendors.get("/control/requests?limit=x"))[0] == 400


def test_the_ring_keeps_the_newest_and_says_what_it_lost() -> None:
    counters = Counters(ManualClock(), rows=10)
    for number in range(1, 26):
        counters.arrive("openai", "POST", "/", str(number))
    assert [row.n for row in counters.after(0, 100)] == list(range(16, 26))
    assert [row.n for row in counters.after(20, 3)] == [21, 22, 23]
    assert counters.lost_after(0) == 15
    assert counters.lost_after(20) == 0
    assert counters.totals.requests == 25
    counters.reset()
    assert counters.after(0, 100) == []
    counters.arrive("openai", "POST", "/", "new")
    assert [row.n for row in counters.after(0, 100)] == [26]
    assert counters.lost_after(25) == 0


async def test_the_same_question_gets_the_same_answer(vendors: Any) -> None:
    token = await vendors.token()
    for path, model in ((CHAT, MODEL), ("/gigachat/v1/chat/completions", "GigaChat-2")):
        answers = []
        for more in ({}, {}, {"temperature": 0.5}, {"max_tokens": 10_000}):
            body = {**ask("Как дела?", **more), "model": model}
            _, answer = await vendors.post(path, body, Authorization=f"Bearer {token}")
            answers.append(answer["choices"])
        assert answers[0] == answers[1] == answers[2] == answers[3]
        _, other = await vendors.post(path, {**ask("Как ты?"), "model": model}, Authorization=f"Bearer {token}")
        assert other["choices"] != answers[0]
