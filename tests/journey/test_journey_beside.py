"""What is asked beside a call: a second deployment for the first token, and a shadow that nobody waits for."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway
from tests.journey.calls import CHAT, chat_body, chats_seen, events, row_of, session
from tests.journey.conftest import ENVIRONMENT, TBANK, account

SLOW_S = 1.5
CALLS = 60
EVERY = 15  # one of so many is slow to begin
BUDGET_PERCENT = 10.0


@pytest.fixture(scope="module")
def beside(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for(vendors.url)
    config["providers"]["shade"] = account(vendors.url, "shade")
    both = [TBANK, "gigachat/GigaChat-2"]
    config["aliases"]["plain"] = both
    shadow = {"model": "shade/GigaChat-2", "percent": 100, "max_rub_per_day": 100}
    config["routes"] = {
        "hedged": {"models": both, "hedge": {"after": 0.15, "budget_percent": BUDGET_PERCENT}},
        TBANK: {"shadow": shadow},
        "poor": {"models": both, "shadow": shadow | {"max_rub_per_day": "0.000001"}},
    }
    environment = ENVIRONMENT | {"XROUTER_FLUSH_INTERVAL_S": "0.05"}
    with gateway(tmp_path_factory.mktemp("beside"), config, environment=environment) as running:
        yield running


async def first_content_s(client: Any, model: str) -> tuple[float, str]:
    began = time.monotonic()  # noqa: TID251 - what a client would measure
    async with client.post(CHAT, json=chat_body(model, "say 3 words", stream=True)) as answer:
        assert answer.status == 200, await answer.text()
        await answer.content.readline()
        took = time.monotonic() - began  # noqa: TID251 - the same
        told = events(b"data: {}\n" + await answer.read())
        assert told[-1] == "[DONE]"
        return took, answer.headers["x-generation-id"]


async def test_the_slowest_first_tokens_become_quick_within_the_budget(vendors: Simulators, beside: Gateway) -> None:
    vendors.control("settings", first_token_s=SLOW_S)
    slowest: dict[str, float] = {}
    async with session(beside) as client:
        for model in ("plain", "hedged"):
            took = []
            for number in range(CALLS):
                if number % EVERY == EVERY - 1:
                    vendors.control("faults", model="t-pro-it-2.1", fault="slow-first", times=1)
                took.append((await first_content_s(client, model))[0])
            slowest[model] = sorted(took)[int(len(took) * 0.99)]
    assert slowest["plain"] >= SLOW_S
    assert slowest["hedged"] <= 0.4 * slowest["plain"]
    more = len(chats_seen(vendors)) - 2 * CALLS
    assert CALLS // EVERY <= more <= CALLS * BUDGET_PERCENT / 100


async def test_both_attempts_are_in_the_books_and_the_client_pays_for_one(vendors: Simulators, beside: Gateway) -> None:
    vendors.control("settings", first_token_s=30)
    async with session(beside) as client:
        for _ in range(20):  # fills the budget
            await first_content_s(client, "hedged")
        vendors.control("faults", model="t-pro-it-2.1", fault="slow-first", times=1)
        took, call_id = await first_content_s(client, "hedged")
        assert took < 10
        lost = await row_of(beside, call_id=call_id, deployment=TBANK)
        won = await row_of(beside, call_id=call_id, deployment="gigachat/GigaChat-2")
        assert (lost["state"], lost["error"], lost["on_operator"]) == ("cancelled", "hedge_lost", True)
        assert (won["state"], won["error"], won["on_operator"]) == ("succeeded", None, False)
        assert float(lost["cost_rub"]) > 0
        async with client.get(f"/api/v1/generation?id={call_id}") as answer:
            told = (await answer.json())["data"]
        assert float(told["total_cost"]) == float(won["cost_rub"])
        assert len(told["provider_responses"]) == 2
        async with client.get("/admin/pressure") as answer:
            pressure = await answer.json()
    (hedge,) = pressure["hedges"]
    assert hedge["route"] == "hedged"
    assert hedge["made"] >= hedge["won"] >= 1
    cut = [row for row in vendors.requests() if row["attempt_id"] == lost["id"]]
    assert [row["gone_ms"] is not None for row in cut] == [True], "cut off, and not read to its end"


def shadow_rows(place: Gateway, key_id: str) -> list[dict[str, Any]]:
    return [row for row in place.attempts(key_id=key_id) if row["state"] != "open"]


async def test_a_shadow_gets_a_copy_and_its_cost_is_the_operators(vendors: Simulators, beside: Gateway) -> None:
    async def ready() -> bool:
        async with session(beside) as client, client.get("/admin/pressure") as answer:
            return bool((await answer.json())["shadows"])

    assert await ready()
    async with session(beside) as client:
        async with asyncio.timeout(30):  # nothing is copied before the first look into the books
            while not shadow_rows(beside, f"shadow:{TBANK}"):
                async with client.post(CHAT, json=chat_body(TBANK, "echo: seen")) as answer:
                    body = await answer.json()
                    assert body["choices"][0]["message"]["content"] == "seen"
                    assert answer.headers["x-xrouter-attempts"] == "1"
                await asyncio.sleep(0.05)
        row = shadow_rows(beside, f"shadow:{TBANK}")[0]
        assert (row["deployment"], row["state"], row["on_operator"]) == ("shade/GigaChat-2", "succeeded", True)
        assert row["call_id"].startswith("shadow-")
        assert float(row["cost_rub"]) > 0

        counted = f'xrouter_shadow_copies_total{{route="{TBANK}",what="made"}}'
        async with asyncio.timeout(10):  # the metrics come four times a second
            while True:
                async with client.get("/metrics") as answer:
                    if counted in await answer.text():
                        break
                await asyncio.sleep(0.05)


async def test_a_shadow_that_fails_is_nobodys_business(vendors: Simulators, beside: Gateway) -> None:
    vendors.control("faults", model="GigaChat-2", fault="slow-headers", times=3)
    async with session(beside) as client:
        for _ in range(3):
            async with client.post(CHAT, json=chat_body(TBANK, "echo: fine")) as answer:
                assert answer.status == 200
                assert (await answer.json())["choices"][0]["message"]["content"] == "fine"
    async with session(beside) as client, client.get("/admin/pressure") as answer:
        shadows = {one["route"]: one for one in (await answer.json())["shadows"]}
    assert shadows[TBANK]["running"] <= 16


async def test_a_day_that_has_no_money_left_copies_nothing(vendors: Simulators, beside: Gateway) -> None:
    async with session(beside) as client:
        async with asyncio.timeout(30):
            while True:
                async with client.post(CHAT, json=chat_body("poor", "echo: hi")) as answer:
                    assert answer.status == 200
                async with client.get("/admin/pressure") as answer:
                    shadow = {one["route"]: one for one in (await answer.json())["shadows"]}["poor"]
                if shadow["skipped"] >= 3:
                    break
    assert shadow["copies"] == 0
    assert not [row for row in vendors.requests() if row["credential"] == "shade" and "chat" in row["path"]]
