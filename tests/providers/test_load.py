"""Kinds by name, and the deployments they make of an account."""

from decimal import Decimal
from typing import Any

import pytest
from tests.providers.scripted import Reply, ScriptedTransport

from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.money import Price
from xrouter.core.ports import ChatProvider
from xrouter.providers import kinds, load
from xrouter.settings import ConfigError, ProviderSettings


def deployments(kind: str, **settings: Any) -> tuple[Deployment, ...]:
    filled = {"kind": kind, "base_url": "http://h/v1", "api_key": "k" * 40, "models": ["m"], **settings}
    return load(kind).deployments("acme", ProviderSettings.model_validate(filled))


def test_known_kinds() -> None:
    assert {"gigachat", "openai_compatible", "openai", "tbank", "vllm"} <= set(kinds())
    with pytest.raises(ValueError, match=r"unknown provider kind 'gigacat'; known kinds: .*gigachat"):
        load("gigacat")
    with pytest.raises(ValueError, match="unknown"):
        load("_http")


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_keeps_the_port(kind: str) -> None:
    settings = ProviderSettings.model_validate(
        {"kind": kind, "base_url": "http://h/v1", "api_key": "k", "models": ["m"]}
    )
    provider = load(kind).connect("acme", settings, ScriptedTransport(lambda _: Reply()), ManualClock())
    assert isinstance(provider, ChatProvider)
    (one,) = load(kind).deployments("acme", settings)
    assert (one.id, one.provider, one.kind, one.upstream_model) == ("acme/m", "acme", kind, "m")


def test_prices_come_from_the_file_else_from_the_kind() -> None:
    models = [
        "GigaChat-2-Pro",
        {"name": "GigaChat-2", "price": {"input_rub_per_1m": 1, "output_rub_per_1m": "2.5"}},
        "new",
    ]
    known, own, unknown = deployments("gigachat", models=models)
    assert known.price == Price(Decimal(500), Decimal(500))
    assert own.price == Price(Decimal(1), Decimal("2.5"))
    assert unknown.price is None
    (pro,) = deployments("cloudru", models=["t-tech/T-pro-it-2.1"])
    assert (pro.id, pro.price) == ("acme/t-tech/T-pro-it-2.1", Price(Decimal(35), Decimal(70)))


@pytest.mark.parametrize(
    ("scope", "set_", "limit"),
    [(None, None, 1), ("GIGACHAT_API_PERS", None, 1), ("GIGACHAT_API_B2B", None, 10), ("GIGACHAT_API_CORP", None, 10),
     ("GIGACHAT_API_PERS", 3, 3), ("GIGACHAT_API_CORP", 0, 0)],
)  # fmt: skip
def test_concurrency_of_gigachat_follows_the_scope(scope: str | None, set_: int | None, limit: int) -> None:
    assert deployments("gigachat", scope=scope, max_concurrency=set_)[0].max_concurrency == limit


def test_two_accounts_with_one_key_share_its_slots_and_the_name_hides_the_key() -> None:
    one, other = deployments("gigachat", models=["a"])[0], deployments("gigachat", models=["b"])[0]
    foreign = deployments("gigachat", api_key="z" * 40)[0]
    assert one.credential == other.credential != foreign.credential
    assert "kkkk" not in one.credential
    assert deployments("tbank", api_key=None)[0].credential == "acme"


def test_timeouts_of_a_model_win() -> None:
    one, other = deployments("vllm", timeouts={"first_s": 5}, models=["a", {"name": "b", "timeouts": {"first_s": 7}}])
    assert one.timeouts == Timeouts(first_s=5.0)
    assert other.timeouts == Timeouts(first_s=7.0)


@pytest.mark.parametrize(
    ("kind", "settings", "place"),
    [
        ("tbank", {"base_url": None}, "providers.acme.base_url"),
        ("openai", {"api_key": None}, "providers.acme.api_key"),
        ("gigachat", {"api_key": None}, "providers.acme.api_key"),
        ("gigachat", {"scope": "GIGACHAT_API_ALL"}, "providers.acme.scope"),
    ],
)
def test_a_wrong_configuration_names_its_place(kind: str, settings: dict[str, Any], place: str) -> None:
    filled = ProviderSettings.model_validate(
        {"kind": kind, "base_url": "http://h/v1", "api_key": "k", "models": ["m"], **settings}
    )
    with pytest.raises(ConfigError, match=place):
        load(kind).connect("acme", filled, ScriptedTransport(lambda _: Reply()), ManualClock())
