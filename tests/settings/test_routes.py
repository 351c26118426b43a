"""Routes in the operator's file: what is refused, with which words, and what the page promises of its example."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tests.gateway.fleet import asking

from xrouter import providers
from xrouter.core.conditions import parse
from xrouter.core.policy import USUAL, Strategy
from xrouter.gateway import catalog
from xrouter.gateway import route as router
from xrouter.settings import parse_config
from xrouter.settings.routes import RouteSettings, RoutingSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "routing.md"
MODELS = ["a/m", "b/m"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "wieghted"}, "'wieghted' is no strategy; did you mean 'weighted'?"),
        ({"strategy": "best"}, "strategies: priority, weighted, least_busy"),
        ({"weights": {"a/m": 0}}, "greater than 0"),
        ({"weights": {"a/m": -1}}, "greater than 0"),
        ({"weights": {"a/m": float("nan")}}, "less than or equal to 1000000"),
        ({"weights": {"a/m": float("inf")}}, "less than or equal to 1000000"),
        ({"weights": {"c/m": 1}}, "weights: c/m is not among the models"),
        ({"weights": {"a/m": 2}, "strategy": "cheapest"}, "weights: are read by fastest, least_busy, sticky, weighted"),
        ({"sticky": "session", "strategy": "weighted"}, "sticky: belongs to the strategy 'sticky'"),
        ({"sticky": "moon"}, "'session', 'user' or 'prompt'"),
        ({"models": ["a/m", "a/m"]}, "models: a/m stands twice"),
        ({"canary": {"model": "a/m", "percent": 5}}, "canary: a/m is among the models"),
        ({"canary": {"model": "c/m", "percent": 0}}, "greater than 0"),
        ({"canary": {"model": "c/m", "percent": 100}}, "less than 100"),
        ({"regions": []}, "at least 1 item"),
        ({"regions": "Russia!"}, "match pattern"),
        ({"rules": [{"when": {"tags": "x"}}]}, "changes nothing; give models, strategy, regions or with_tags"),
        ({"rules": [{"when": {}, "strategy": "cheapest"}]}, "must be a mapping of facts"),
        ({"rules": [{"when": {"tag": "x"}, "strategy": "cheapest"}]}, "'tag' is no fact of a request; did you mean"),
        ({"rules": [{"when": {"tags": {"eq": "x"}}, "strategy": "cheapest"}]}, "tags: has no operator 'eq'"),
        ({"rules": [{"when": {"stream": "yes"}, "strategy": "cheapest"}]}, "stream: must be true or false"),
        ({"rules": [{"when": {"prompt_tokens": {"gt": "many"}}, "strategy": "cheapest"}]}, "must be a number"),
        ({"rules": [{"when": {"prompt_tokens": {"gt": 5, "lte": 5}}, "strategy": "cheapest"}]}, "can never hold"),
        ({"rules": [{"when": {"max_tokens": {"lt": 0}}, "strategy": "cheapest"}]}, "can never hold"),
        ({"rules": [{"when": {"key": "a", "not": {"key": "a"}}, "strategy": "cheapest"}]}, "can never hold"),
        ({"rules": [{"when": {"tags": {"all": ["x"], "none": ["x"]}}, "strategy": "cheapest"}]}, "can never hold"),
        ({"rules": [{"when": {"all_of": [{"key": "a"}, {"key": "b"}]}, "strategy": "cheapest"}]}, "can never hold"),
        ({"rules": [{"when": {"operation": "draw"}, "strategy": "cheapest"}]}, "operation: is never 'draw'; it may be"),
        ({"rules": [{"when": {"inputs": "picture"}, "strategy": "cheapest"}]}, "inputs: is never 'picture'"),
        ({"rules": [{"when": {"any_of": []}, "strategy": "cheapest"}]}, "any_of needs a list of conditions"),
        ({"rules": [{"when": {"key": {"in": []}}, "strategy": "cheapest"}]}, "key.in: must be a word or a list"),
        ({"rules": [{"when": {"metadata.": "x"}, "strategy": "cheapest"}]}, "'metadata.' is no fact"),
        (
            {"rules": [{"when": {"tags": "x"}, "strategy": "cheapest"}, {"when": {"tags": "x"}, "models": MODELS}]},
            "rules.1: is never reached: whenever it holds, rules.0 does",
        ),
        (
            {
                "rules": [
                    {"when": {"tags": "x"}, "strategy": "cheapest"},
                    {"when": {"stream": True, "tags": "x"}, "models": MODELS},
                ]
            },
            "rules.1: is never reached",
        ),
    ],
)  # fmt: skip
def test_what_can_have_no_effect_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RouteSettings.model_validate({"models": MODELS, **settings})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({}, Strategy.LEAST_BUSY),
        ({"weights": {"a/m": 2}}, Strategy.WEIGHTED),
        ({"weights": {"a/m": 2}, "strategy": "fastest"}, Strategy.FASTEST),
        ({"sticky": "user"}, Strategy.STICKY),
        ({"strategy": "throughput"}, Strategy.THROUGHPUT),
    ],
)
def test_the_strategy_follows_from_what_is_said(settings: dict[str, Any], strategy: Strategy) -> None:
    usual = RoutingSettings.model_validate({"strategy": "least_busy", "continuation": False})
    policy = RouteSettings.model_validate({"models": MODELS, **settings}).policy(usual)
    assert policy.strategy is strategy
    assert not policy.continues


def test_regions_of_a_route_stay_within_those_of_all() -> None:
    usual = RoutingSettings.model_validate({"regions": ["ru", "eu"]})
    assert RouteSettings.model_validate({"models": MODELS, "regions": ["eu", "us"]}).policy(usual).regions == {"eu"}
    assert RouteSettings.model_validate({"models": MODELS}).policy(usual).regions == {"ru", "eu"}
    assert usual.policy().regions == {"ru", "eu"}


def test_who_writes_nothing_gets_the_order_of_the_file() -> None:
    assert RoutingSettings().policy() == USUAL
    assert parse_config({"providers": {"a": {"kind": "vllm", "models": ["m"]}}}, "x").routing == RoutingSettings()


@pytest.mark.parametrize(
    "when",
    [
        {"prompt_tokens": {"gt": 4, "lt": 6}},
        {"key": {"in": ["a", "b"], "ne": "a"}},
        {"tags": {"any": ["x", "y"], "none": ["x"]}},
        {"any_of": [{"key": "a", "not": {"key": "a"}}, {"stream": True}]},
        {"metadata.plan": "free", "metadata.other": {"like": "a*"}},
    ],
)
def test_what_may_hold_is_taken(when: dict[str, Any]) -> None:
    parse(when)


# ── docs/routing.md ──────────────────────────────────────────────────────────────────────────────────────


def page_blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_example_of_the_page_does_what_the_page_says() -> None:
    data = yaml.safe_load(re.sub(r"\$\{\w+\}", "Y2xpZW50OnNlY3JldA==", page_blocks()[0]))
    config = parse_config(data, PAGE.name)
    deployments = [
        one
        for name, provider in config.providers.items()
        for one in providers.load(provider.kind).deployments(name, provider)
    ]
    known = catalog.build(
        deployments,
        config.aliases,
        policies={name: route.policy(config.routing) for name, route in config.routes.items()},
        usual=config.routing.policy(),
    )

    def order(**more: Any) -> list[str]:
        call = asking(**more)
        return [one.deployment.provider for one in router.plan(call.request, known, call=call)]

    firsts = [order(model="smart", number=number)[0] for number in range(400)]
    assert 270 < firsts.count("gigachat") < 330
    assert set(firsts) == {"gigachat", "yandex"}
    assert order(model="private", tags=("batch",)) == ["own"]
    assert order(model="private", inputs=["image"]) == ["yandex"]
    assert sorted(order(model="private")) == ["own", "yandex"]
    canaried = [order(model="gigachat/GigaChat-2", number=number) for number in range(400)]
    assert 5 < sum(found == ["own", "gigachat"] for found in canaried) < 40
    wishes = {"order": ["yandex"], "data_region": "ru"}
    more = {"model": "smart", "models": ("own/qwen3-32b",)}
    assert order(wishes=wishes, **more) == ["yandex", "gigachat", "own"]
    assert order(wishes={**wishes, "max_price": {"prompt": 700}}, **more) == ["gigachat"]
    assert order(model="smart", text="слово " * 120_000) == ["own"]


def test_the_rules_of_the_page_are_rules() -> None:
    rules = yaml.safe_load(page_blocks()[1])["rules"]
    assert RouteSettings.model_validate({"models": MODELS, "rules": rules}).rules
