"""What an operator writes under `price`, and the built-in catalogue."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from xrouter import providers
from xrouter.configuration import prices
from xrouter.configuration.prices import catalogue, parse_catalogue
from xrouter.core.money import Price, moscow_midnight
from xrouter.settings import ConfigError, parse_config

NOW = moscow_midnight(date(2026, 11, 21))


def price_of(
    price: Any,
    name: str = "m",
    kind: str = "openai_compatible",
    account: Mapping[str, Any] = MappingProxyType({}),
    **model: Any,
) -> Price | None:
    filled = {
        "kind": kind,
        "api_key": "aTpz",
        "base_url": "https://a.example/v1",
        "models": [{"name": name, "price": price} | model],
        **account,
    }
    config = parse_config({"providers": {"a": filled}}, "x.yaml")
    (found,) = providers.load(kind).deployments("a", config.providers["a"])
    return found.price


def test_per_thousand_is_a_thousand_times_per_million() -> None:
    found = price_of({"input_rub_per_1k": "0.2", "output_rub_per_1k": 0.5, "tool_rub_per_1k": "0.13"})
    assert found == Price(Decimal(200), Decimal(500), tool_rub_per_1m=Decimal(130))


def test_tax_is_added_to_prices_without_it() -> None:
    found = price_of({"input_rub_per_1m": 100, "output_rub_per_1m": "0.1", "vat": "excluded"})
    assert found == Price(Decimal(122), Decimal("0.122"))
    found = price_of({"input_rub_per_1m": 100, "output_rub_per_1m": 10, "vat": "excluded", "vat_percent": 20})
    assert found == Price(Decimal(120), Decimal(12), vat_percent=Decimal(20))
    assert price_of({"input_rub_per_1m": 100, "output_rub_per_1m": 10}) == Price(Decimal(100), Decimal(10))


def test_dates_are_days_of_moscow_and_the_last_one_still_counts() -> None:
    found = price_of(
        [
            {"input_rub_per_1m": 2, "output_rub_per_1m": 2, "valid_from": "2026-02-01"},
            {"input_rub_per_1m": 1, "output_rub_per_1m": 1, "valid_to": "2026-01-31"},
        ]
    )
    assert found is not None
    change = moscow_midnight(date(2026, 2, 1))
    before, after = found.at(change - 0.001), found.at(change)
    assert before is not None
    assert after is not None
    assert (before.input_rub_per_1m, after.input_rub_per_1m) == (1, 2)


def test_unpriced_is_said_and_wins_over_the_catalogue() -> None:
    assert price_of("unpriced", "GigaChat-2", "gigachat") is None
    assert price_of(None, "GigaChat-2", "gigachat") is not None
    assert price_of(None, "unheard-of", "gigachat") is None


def test_embeddings_need_no_price_of_output_and_pictures_none_of_tokens() -> None:
    vectors = price_of({"input_rub_per_1m": 14}, serves=["embeddings"])
    assert vectors == Price(Decimal(14), Decimal(0))
    pictures = price_of({"image_rub": "2.2"}, serves=["images"])
    assert pictures is not None
    assert pictures.micro(images=3) == 6_600_000


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"input_rub_per_1m": 1}, r"providers.a.models.0.price: m chats, so it needs output_rub_per_1m"),
        ({"output_rub_per_1m": 1}, "needs input_rub_per_1m"),
        ({"input_rub_per_1m": 1, "input_rub_per_1k": 1, "output_rub_per_1m": 1}, "input is given per 1k and per 1m"),
        ({"input_rub_per_1m": -1, "output_rub_per_1m": 1}, "must be 0 or more"),
        ({"input_rub_per_1m": "1e99", "output_rub_per_1m": 1}, "must be 1000000000 or less"),
        ({"input_rub_per_1m": 1, "output_rub_per_1m": 1, "currency": "USD"}, "RUB"),
        ({"input_rub_per_1m": 1, "output_rub_per_1m": 1, "vat": "maybe"}, "included"),
        ({"input_rub_per_1m": 1, "outptu_rub_per_1m": 1}, "did you mean 'output_rub_per_1m'"),
        (
            {"input_rub_per_1m": 1, "output_rub_per_1m": 1, "valid_from": "2026-02-02", "valid_to": "2026-02-01"},
            "valid_to is before valid_from",
        ),
        (
            [{"input_rub_per_1m": 1, "output_rub_per_1m": 1}, {"input_rub_per_1m": 2, "output_rub_per_1m": 1}],
            "two prices hold at once",
        ),
        ("free", "must be a price, a list of prices with their dates, or `unpriced`"),
        ([], "for no price write `unpriced`"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        price_of(wrong)


def test_the_catalogue_knows_what_the_vendors_publish() -> None:
    giga = catalogue("gigachat")
    now = {name: found.at(NOW) for name, found in giga.items()}
    assert {name: int(found.input_rub_per_1m) for name, found in now.items() if found is not None} == {
        "GigaChat": 65,
        "GigaChat-2": 65,
        "GigaChat-Pro": 500,
        "GigaChat-2-Pro": 500,
        "GigaChat-Max": 650,
        "GigaChat-2-Max": 650,
        "Embeddings": 14,
    }
    lite = giga["GigaChat-2"].at(NOW)
    assert lite is not None
    assert lite.micro(input_tokens=10**6, batch=True) == 32_500_000
    assert giga["GigaChat-2"].at(moscow_midnight(date(2026, 1, 31))) is None  # nobody recorded the older prices
    yandex = {name: found.at(NOW) for name, found in catalogue("yandexgpt").items()}
    assert {name: found.micro(input_tokens=1000) for name, found in yandex.items() if found is not None} == {
        "aliceai-llm": 500_000,
        "yandexgpt/rc": 800_000,
        "yandexgpt/latest": 1_200_000,
        "yandexgpt-lite/latest": 200_000,
        "yandexgpt-lite/rc": 200_000,
        "qwen3-235b-a22b-fp8/latest": 500_000,
        "gpt-oss-120b/latest": 300_000,
        "gpt-oss-20b/latest": 100_000,
        "gemma-3-27b-it/latest": 400_000,
    }
    alice = yandex["aliceai-llm"]
    assert alice is not None
    assert alice.micro(output_tokens=1000) == 1_200_000
    assert alice.micro(input_tokens=1000, cached_tokens=1000) == 500_000
    assert alice.micro(input_tokens=1000, tool_tokens=1000) == 130_000
    assert catalogue("nobody") == {}


def test_every_table_of_the_catalogue_is_a_kind() -> None:
    text = (Path(prices.__file__).with_name("prices.toml")).read_text(encoding="utf-8")
    assert set(parse_catalogue(text)) <= set(providers.kinds())
    assert all(parse_catalogue(text).values())


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("yandexgpt", "yandexgpt/latest"),
        ("yandexgpt:rc", "yandexgpt/rc"),
        ("gpt://b1gfolder/gpt-oss-20b/latest", "gpt-oss-20b/latest"),
        ("aliceai-llm", "aliceai-llm"),
    ],
)
def test_a_price_is_found_under_every_name_of_a_model(name: str, listed: str) -> None:
    assert price_of(None, name, "yandexgpt", account={"options": {"folder": "b1g"}}) == catalogue("yandexgpt")[listed]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a", "is not TOML"),
        ("[a]\nm = { input_rub_per_1m = -1, output_rub_per_1m = 1 }", r"\[a\] m: price.0.input_rub_per_1m"),
        ("[a]\nm = { inptu = 1 }", r"\[a\] m: price.0.inptu"),
    ],
)
def test_a_mistake_in_the_catalogue_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"prices.toml: {says}"):
        parse_catalogue(text)
