"""Several credentials of one provider before simulators that keep each account's limit."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from campaigns.stage import Gateway, Simulators, config_for, gateway, wait_until
from tests.journey.calls import CHAT, at_once, chat_body, session
from tests.journey.conftest import ENVIRONMENT, basic

MODEL = "many/GigaChat-2"
REFUSED = "cmVmdXNlZDp3cm9uZw=="  # the simulated login refuses the password `wrong`


@pytest.fixture(scope="module")
def many(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for(vendors.url)
    base: dict[str, Any] = {name: value for name, value in config["providers"]["gigachat"].items() if name != "api_key"}
    pers = {"scope": "GIGACHAT_API_PERS"}
    config["providers"] |= {
        "many": base | {"credentials": [pers | {"api_key": basic(f"many-{number}")} for number in range(3)]},
        "half": base
        | {"credentials": [{"api_key": REFUSED}, {"name": "good", "api_key": basic("half")}], "models": ["GigaChat-2"]},
        "alone": base | {"api_key": basic("alone"), "max_concurrency": 0, "scope": "GIGACHAT_API_PERS"},
        "eager": base
        | {
            "credentials": [
                {"api_key": basic("eager-1"), "max_concurrency": 0},
                {"api_key": basic("eager-2"), "max_concurrency": 0},
            ],
            "scope": "GIGACHAT_API_PERS",
        },
    }
    with gateway(tmp_path_factory.mktemp("many"), config, environment=ENVIRONMENT) as running:
        yield running


def chats(vendors: Simulators) -> Counter[str]:
    return Counter(row["credential"] for row in vendors.requests() if row["path"].endswith("/chat/completions"))


async def test_calls_are_spread_and_each_account_keeps_its_limit(vendors: Simulators, many: Gateway) -> None:
    answers = await at_once(many, 30, chat_body(MODEL, "say 3 words"))
    assert {status for status, _ in answers} == {200}
    seen = chats(vendors)
    assert sum(seen.values()) == 30
    assert set(seen) == {"many-0", "many-1", "many-2"}
    assert min(seen.values()) >= 5
    assert {name: crowd["most"] for name, crowd in vendors.state()["credentials"].items() if name in seen} == {
        "many-0": 1,
        "many-1": 1,
        "many-2": 1,
    }


async def test_a_credential_that_is_refused_gives_way_to_another_at_once(vendors: Simulators, many: Gateway) -> None:
    async with session(many) as client:
        for _ in range(4):
            async with client.post(CHAT, json=chat_body("half/GigaChat-2")) as answer:
                body = await answer.json()
                assert answer.status == 200, body
                assert answer.headers["x-xrouter-provider"] == "half"
                assert "good" not in answer.headers["x-xrouter-provider"]
        async with client.get("/admin/deployments") as answer:
            rows = [one for one in (await answer.json())["data"] if one["provider"] == "half"]
        async with client.get("/metrics") as answer:
            metrics = await answer.text()
    assert chats(vendors) == {"half": 4}
    assert {one["account"]: one["ejected"] for one in rows} == {"half#1": "auth_failed", "half#good": None}
    assert 'xrouter_ejections_total{account="half#1",deployment="half/GigaChat-2",reason="auth_failed"} 1.0' in metrics

    def logged() -> bool:
        return any("deployment ejected" in line and "half#1" in line for line in many.log.read_text().splitlines())

    await asyncio.to_thread(wait_until, "the log names the account", logged, 10.0, many.log)


async def test_a_429_of_one_account_is_the_next_ones_call(vendors: Simulators, many: Gateway) -> None:
    """Nobody has told the limit of these accounts: the vendor's 429 does, and calls go on at the other one."""
    vendors.control("settings", limits={"GIGACHAT_API_PERS": 2}, pace_ms=5)
    for _ in range(3):
        answers = await at_once(many, 4, chat_body("eager/GigaChat-2", "say 10 words"))
        assert {status for status, _ in answers} == {200}
    assert {row["status"] for row in vendors.requests()} <= {200, 429}


async def test_a_limit_that_nobody_told_is_learnt_from_the_vendors_refusals(vendors: Simulators, many: Gateway) -> None:
    vendors.control("settings", limits={"GIGACHAT_API_PERS": 3}, pace_ms=2)
    async with session(many) as client:

        async def one() -> int:
            async with client.post(CHAT, json=chat_body("alone/GigaChat-2", "say 5 words")) as answer:
                await answer.read()
                return answer.status

        refused: list[int] = []
        for _ in range(10):
            before = len(vendors.requests())
            await asyncio.gather(*(one() for _ in range(12)))
            refused.append(sum(row["status"] == 429 for row in vendors.requests()[before:]))
        async with client.get("/admin/pressure") as answer:
            told = {found["account"]: found for found in (await answer.json())["credentials"]}["alone"]
    assert told["shrinks"] >= 1
    assert 1 <= told["window"] <= 5
    assert refused[0] > max(refused[-3:]), refused


async def test_a_key_is_taken_away_and_another_comes_while_it_runs(
    vendors: Simulators, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = config_for(vendors.url)
    base = {name: value for name, value in config["providers"]["gigachat"].items() if name != "api_key"}

    def with_keys(*clients: str) -> dict[str, Any]:
        named = [{"name": client, "api_key": basic(client)} for client in clients]
        return config | {"providers": {"many": base | {"credentials": named}}, "aliases": {}}

    directory = tmp_path_factory.mktemp("reload")
    with gateway(
        directory, with_keys("first", "second"), environment=ENVIRONMENT | {"XROUTER_RELOAD_S": "0.05"}
    ) as running:
        await at_once(running, 4, chat_body(MODEL))
        assert set(chats(vendors)) == {"first", "second"}
        (directory / "xrouter.yaml").write_text(yaml.safe_dump(with_keys("second", "third")))
        async with session(running) as client:
            for _ in range(600):
                vendors.control("reset")
                for _ in range(2):
                    async with client.post(CHAT, json=chat_body(MODEL)) as answer:
                        assert answer.status == 200, await answer.text()
                if set(chats(vendors)) == {"second", "third"}:
                    break
                await asyncio.sleep(0.02)
        assert set(chats(vendors)) == {"second", "third"}
