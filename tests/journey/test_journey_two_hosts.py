"""Two hosts on one PostgreSQL, each with a data directory of its own: one set of keys, one set of books."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway, http, wait_until
from tests.journey.calls import CHAT, chat_body
from tests.journey.conftest import TBANK

IN_FORCE_S = 4.0
"""One poll a second, and the pauses of a shared machine."""


@pytest.fixture
def hosts(vendors: Simulators, postgres_url: str, tmp_path: Path) -> Iterator[list[Gateway]]:
    environment = {"XROUTER_DATABASE_URL": postgres_url, "XROUTER_PEPPER": "the-same-pepper-on-every-host-0123456789"}
    with ExitStack() as stack:
        yield [
            stack.enter_context(gateway(tmp_path / name, config_for(vendors.url), environment=environment))
            for name in ("one", "two")
        ]


def _chat(host: Gateway, key: str) -> int:
    return http("POST", f"{host.url}{CHAT}", chat_body(TBANK), key)[0]


def _has(host: Gateway, key_id: str, count: int) -> bool:
    return len(host.attempts(key_id=key_id)) == count


def test_a_key_lives_and_ends_on_both_and_the_books_are_one(hosts: list[Gateway]) -> None:
    one, two = hosts
    made = http("POST", f"{one.url}/admin/keys", {"name": "app"}, one.key)[1]
    for _ in range(3):
        assert [_chat(host, made["key"]) for host in hosts] == [200, 200]
    for host in hosts:
        wait_until("both hosts' calls", partial(_has, host, made["id"], 6), log=host.log)
    assert len({row["owner"] for row in one.attempts()}) == 2
    assert http("DELETE", f"{two.url}/admin/keys/{made['id']}", None, two.key)[0] == 200
    wait_until("401 on both", lambda: [_chat(host, made["key"]) for host in hosts] == [401, 401], IN_FORCE_S)
