"""GigaChat's account rules under load: one login for everybody, and never more calls at once than the scope has."""

from campaigns.stage import Gateway, Simulators, http
from tests.journey.calls import at_once, chat_body, chats_seen
from tests.journey.conftest import GIGACHAT


def logins(vendors: Simulators) -> int:
    count: int = vendors.state()["totals"]["logins"]
    return count


async def test_a_hundred_calls_with_an_expired_token_make_one_login(vendors: Simulators, place: Gateway) -> None:
    http("POST", f"{place.url}/v1/chat/completions", chat_body(GIGACHAT), place.key)
    before = logins(vendors)
    vendors.control("expire-tokens")

    answers = await at_once(place, 100, chat_body(GIGACHAT, "echo: served"))

    assert [status for status, _ in answers] == [200] * 100
    assert {body["choices"][0]["message"]["content"] for _, body in answers} == {"served"}
    assert logins(vendors) - before == 1


async def test_a_hundred_first_calls_make_one_login(vendors: Simulators, place: Gateway) -> None:
    before = logins(vendors)
    answers = await at_once(place, 100, chat_body("fresh/GigaChat-2"))
    assert [status for status, _ in answers] == [200] * 100
    assert logins(vendors) - before == 1


async def one_after_another(vendors: Simulators, place: Gateway, client: str) -> None:
    vendors.control("settings", pace_ms=2)  # so that calls would overlap if they could
    answers = await at_once(place, 20, chat_body("pers/GigaChat-2", "say 6 words"))

    assert [status for status, _ in answers] == [200] * 20
    assert vendors.state()["credentials"][client]["most"] == 1
    seen = [row for row in chats_seen(vendors) if row["credential"] == client]
    assert [row["status"] for row in seen] == [200] * 20, "nothing was refused and tried again"


async def test_the_single_slot_serves_twenty_calls_in_turn(vendors: Simulators, place: Gateway) -> None:
    await one_after_another(vendors, place, "pers-one")


async def test_the_single_slot_is_shared_by_the_workers(vendors: Simulators, pair: Gateway) -> None:
    await one_after_another(vendors, pair, "pers-two")
