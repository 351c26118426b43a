"""PostgreSQL down at boot, down in mid-run, frozen: known keys work on, unknown ones get a 503, nobody hangs, and soon
after it is back nothing is missing."""

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from campaigns.stage import Gateway, Simulators, config_for, http, wait_until
from tests.journey.calls import CHAT, at_once, chat_body
from tests.journey.conftest import TBANK
from tests.postgres_server import PostgresServer

from xrouter.core.api_key import mint

ANSWER_S = 6.0
"""The longest that anybody waits for an answer: one transaction's 5 s, and the machine's own pauses."""

RECOVERY_S = 5.0

TAKE_AWAY: dict[str, Callable[[PostgresServer], None]] = {
    "stopped": lambda server: server.stop(),
    "killed": lambda server: server.stop(signal.SIGQUIT),
    "frozen": lambda server: server.freeze(),
}


def give_back(server: PostgresServer, how: str) -> None:
    if how == "frozen":
        server.thaw()
    else:
        server.start()


@pytest.fixture
def make_place(own_postgres: PostgresServer, vendors: Simulators, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Gateways on `own_postgres`, not started; they end with the test."""
    made: list[Gateway] = []

    def make(workers: int = 1) -> Gateway:
        environment = {"XROUTER_DATABASE_URL": own_postgres.url()}
        directory = tmp_path / f"place{len(made)}"
        directory.mkdir()
        made.append(Gateway(directory, config_for(vendors.url), workers=workers, environment=environment))
        return made[-1]

    yield make
    for place in made:
        if place.process is not None and place.process.poll() is None:
            place.kill()


def new_key(place: Gateway, name: str) -> str:
    status, made = http("POST", f"{place.url}/admin/keys", {"name": name}, place.key)
    assert status == 201, made
    key: str = made["key"]
    return key


def chat(place: Gateway, key: str) -> tuple[int, str | None, float]:
    """Status, error code and seconds of one small call."""
    began = time.monotonic()  # noqa: TID251 - how long the answer took
    status, body = http("POST", f"{place.url}{CHAT}", chat_body(TBANK), key)
    return status, body.get("error", {}).get("code"), time.monotonic() - began  # noqa: TID251 - the same


def ready(place: Gateway) -> tuple[int, Any]:
    with suppress(OSError):
        return http("GET", f"{place.url}/health/ready")
    return 0, None


def serving(place: Gateway) -> int:
    """How many workers the supervisor knows to serve."""
    with suppress(OSError), urlopen(f"{place.url}/metrics", timeout=5) as answer:
        found = re.search(rb"^xrouter_workers (\d+)", answer.read(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def booked(place: Gateway) -> set[str]:
    return {row["call_id"] for row in place.attempts() if row["state"] == "succeeded"}


@pytest.mark.parametrize(
    ("how", "workers"), [("stopped", 1), ("stopped", 2), ("killed", 1), ("frozen", 1), ("frozen", 2)]
)
async def test_in_mid_run(
    make_place: Callable[..., Gateway], own_postgres: PostgresServer, how: str, workers: int
) -> None:
    place = make_place(workers)
    await asyncio.to_thread(place.start)
    known, waiting = new_key(place, "known"), new_key(place, "never used before")
    place_with_known = Gateway(place.directory, place.config, port=place.port, key=known)
    wait_until("every worker", lambda: serving(place) == workers, log=place.log)
    warm = [one for _ in range(3) for one in await at_once(place_with_known, 40, chat_body(TBANK))]
    assert {status for status, _ in warm} == {200}

    TAKE_AWAY[how](own_postgres)
    calls = [body["id"] for _, body in warm]
    for _ in range(1 if how == "frozen" else 3):
        for status, body in await at_once(place_with_known, 20, chat_body(TBANK)):
            assert status == 200, body
            calls.append(body["id"])
        for key in (waiting, mint()[1].reveal()):
            status, code, took = await asyncio.to_thread(chat, place, key)
            assert (status, code) == (503, "database_unavailable")
            assert took < ANSWER_S
    began = time.monotonic()  # noqa: TID251 - how long the answer took
    status, body = await asyncio.to_thread(http, "GET", f"{place.url}/admin/attempts", None, place.key)
    assert status == 503, body
    assert time.monotonic() - began < ANSWER_S  # noqa: TID251 - the same
    assert ready(place) == (200, {"status": "ready"}), "who is known is served"

    await asyncio.to_thread(give_back, own_postgres, how)
    began = time.monotonic()  # noqa: TID251 - how long until all is well
    wait_until("a key that is looked up again", lambda: chat(place, waiting)[0] == 200, RECOVERY_S, place.log)
    wait_until("a stranger's 401", lambda: chat(place, mint()[1].reveal())[0] == 401, RECOVERY_S, place.log)
    wait_until("the books", lambda: set(calls) <= booked(place), RECOVERY_S, place.log)
    assert time.monotonic() - began < RECOVERY_S  # noqa: TID251 - the same
    assert len(calls) == len(set(calls))
    assert place.stop() == 0
    assert "Traceback" not in place.tail()


@pytest.mark.parametrize(("how", "workers"), [("stopped", 1), ("stopped", 2), ("frozen", 2)])
def test_at_boot(make_place: Callable[..., Gateway], own_postgres: PostgresServer, how: str, workers: int) -> None:
    place = make_place(workers)
    TAKE_AWAY[how](own_postgres)
    place.launch()
    wait_until("an answer", lambda: ready(place)[0], log=place.log)
    assert ready(place) == (503, {"status": "database_unavailable"})
    assert http("GET", f"{place.url}/health/live")[0] == 200
    for key in (place.key, mint()[1].reveal()):
        status, code, took = chat(place, key)
        assert (status, code) == (503, "database_unavailable")
        assert took < ANSWER_S
    give_back(own_postgres, how)
    wait_until("readiness", lambda: ready(place) == (200, {"status": "ready"}), RECOVERY_S, place.log)
    assert chat(place, place.key)[0] == 200
    assert chat(place, mint()[1].reveal())[0] == 401
    assert place.stop() == 0
    assert "Traceback" not in place.tail()


def test_what_a_dead_gateway_left_in_its_journal_is_booked_when_the_database_comes_after_the_next_start(
    make_place: Callable[..., Gateway], own_postgres: PostgresServer
) -> None:
    place = make_place()
    place.start()
    assert chat(place, place.key)[0] == 200
    wait_until("the first in the books", lambda: len(booked(place)) == 1)
    own_postgres.stop()
    for _ in range(5):
        assert chat(place, place.key)[0] == 200
    place.kill()
    place.launch()
    wait_until("an answer", lambda: ready(place)[0], log=place.log)
    own_postgres.start()
    wait_until("readiness", lambda: ready(place)[0] == 200, RECOVERY_S, place.log)
    wait_until("six in the books", lambda: len(booked(place)) == 6, RECOVERY_S, place.log)


@pytest.mark.parametrize(("how", "workers"), [("stopped", 2), ("frozen", 1)])
def test_it_ends_in_time_and_the_journal_keeps_the_rest(
    make_place: Callable[..., Gateway], own_postgres: PostgresServer, how: str, workers: int
) -> None:
    place = make_place(workers)
    place.start()
    assert chat(place, place.key)[0] == 200
    wait_until("the first in the books", lambda: len(booked(place)) == 1)
    TAKE_AWAY[how](own_postgres)
    while_away = [chat(place, place.key)[0] for _ in range(5)]
    assert set(while_away) <= {200, 503}
    began = time.monotonic()  # noqa: TID251 - how long the end took
    assert place.stop() == 1
    assert time.monotonic() - began < 15  # noqa: TID251 - the same
    assert "Traceback" not in place.tail()
    assert "journal" in place.tail()
    give_back(own_postgres, how)
    place.start()
    expected = 1 + while_away.count(200)
    wait_until("all in the books", lambda: len(booked(place)) == expected, RECOVERY_S, place.log)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_password_that_is_wrong_ends_the_start_in_plain_words(
    make_place: Callable[..., Gateway], own_postgres: PostgresServer, workers: int
) -> None:
    place = make_place(workers)
    place.environment = {"XROUTER_DATABASE_URL": f"postgresql://xrouter:sesame@127.0.0.1:{own_postgres.port}/postgres"}
    place.launch()
    assert place.process is not None
    assert place.process.wait(30) == 2
    assert "password authentication failed" in place.tail()
    assert "sesame" not in place.tail()
    assert "Traceback" not in place.tail()
