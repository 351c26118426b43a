"""The configuration of `xrouter demo`, and what `xrouter simulate` prints, against the simulators themselves."""

import re

import pytest
from campaigns.stage import Simulators, gateway, http
from tests.journey.calls import CHAT, chat_body

from xrouter.cli import demo, simulate
from xrouter.core.operation import Operation
from xrouter.providers import load
from xrouter.settings import parse_config


def test_every_model_of_the_demo_that_chats_answers_and_every_vendor_has_one(
    vendors: Simulators, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = demo._config(vendors.url)
    config = parse_config(data, "demo.yaml")
    found = [one for name, given in config.providers.items() for one in load(given.kind).deployments(name, given)]
    chatting = [one for one in found if Operation.CHAT in one.serves]
    assert {one.provider for one in chatting} == {"gigachat", "tbank", "yandex", "mts", "anthropic"}
    with gateway(tmp_path_factory.mktemp("demo"), data) as place:
        for one in chatting:
            status, answer = http("POST", f"{place.url}{CHAT}", chat_body(one.id), place.key)
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "hi"), one.id


def test_where_each_simulated_vendor_lives_is_printed() -> None:
    told = "\n".join(simulate.places("http://x"))
    config = parse_config(demo._config("http://x"), "demo.yaml")
    for name, provider in config.providers.items():
        for url in (provider.base_url, provider.auth_url):
            assert url is None or re.search(rf"(base|auth)_url {re.escape(url)}( |$)", told, re.MULTILINE), name
