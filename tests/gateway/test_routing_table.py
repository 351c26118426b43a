"""Requests and the order that they get: one table for whatever a request, a route and a key may say."""

import dataclasses
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.gateway.fleet import NOW, WALL, asking, deployment, health, route, served

from xrouter.core.call import Caller, Scope
from xrouter.core.errors import GatewayError
from xrouter.core.money import Price, in_order
from xrouter.core.operation import Operation
from xrouter.core.policy import Strategy
from xrouter.gateway import route as router
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health

PARAMETERS = frozenset({"tools", "response_format", "temperature", "max_tokens", "user"})
FLEET = [
    deployment("a/m", (100, 400), region="ru", tags=frozenset({"zdr", "fast"}), parameters=PARAMETERS,
               inputs=frozenset({"text", "image"}), inputs_known=True, context_tokens=32_000),
    deployment("b/m", (50, 800), region="ru", parameters=PARAMETERS - {"tools"}, inputs_known=True,
               context_tokens=8_000),
    deployment("c/m", (10, 20), region="eu", tags=frozenset({"no-data-collection"}), parameters=PARAMETERS | {"seed"}),
    deployment("d/m", None, parameters=frozenset()),
    deployment("e/vectors", (1, 0), serves=frozenset({Operation.EMBEDDINGS})),
    deployment("yandex/yandexgpt-lite:rc", (30, 30), region="ru"),
    deployment("yandex/yandexgpt-lite", (40, 40), region="ru"),
]  # fmt: skip
ABCD = ["a/m", "b/m", "c/m", "d/m"]
ROUTES = {
    "smart": route(models=ABCD),
    "cheap": route(models=ABCD, strategy="cheapest"),
    "russian": route(models=ABCD, regions="ru"),
    "fast": route(models=ABCD, with_tags=["fast"]),
    "speedy": route(models=ABCD, strategy="throughput"),
    "quick": route(models=ABCD, strategy="latency"),
    "idle": route(models=ABCD, strategy="least_busy", weights={"c/m": 10}),
    "ruled": route(
        models=["a/m", "b/m"],
        rules=[
            {"name": "batches", "when": {"tags": "batch"}, "models": ["c/m"]},
            {"when": {"prompt_tokens": {"gt": 100}}, "models": ["c/m", "a/m"], "strategy": "cheapest"},
            {"when": {"any_of": [{"key": "ci"}, {"metadata.plan": "free"}]}, "models": ["d/m"]},
            {"when": {"stream": True, "not": {"tools": True}}, "regions": ["ru"], "strategy": "cheapest"},
            {"when": {"team": {"in": ["t1", "t2"]}}, "with_tags": ["fast"]},
            {"when": {"model": {"like": "ruled*"}, "inputs": "image"}, "models": ["a/m"]},
        ],
    ),
    "canaried": route(models=["a/m", "b/m"], canary={"model": "c/m", "percent": 50}),
    "twice": route(models=["a/m"], canary={"model": "c/m", "percent": 50}),
    "within": route(models=ABCD, regions=["ru", "eu"], rules=[{"when": {"tags": "home"}, "regions": ["ru", "us"]}]),
    "long": route(models=["b/m"], fallbacks={"context_length": ["a/m", "c/m"], "content_policy": ["d/m"]}),
    "a/m": route(models=["a/m", "b/m"]),
}
CATALOG = served(FLEET, ROUTES)
LONG = "слово " * 20_000  # at least 22,000 tokens
HEALTHY = health(CATALOG)
SICK = health(CATALOG, a={"ejected": "failures", "ejected_until": NOW + 5, "last_failure_at": NOW - 1})
ALL_SICK = health(
    CATALOG,
    **{
        name: {"ejected": "failures", "ejected_until": NOW + 5, "last_failure_at": NOW - ago}
        for name, ago in (("a", 1), ("b", 2), ("c", 4), ("d", 3))
    },
)
WELL_AGAIN = health(CATALOG, a={"ejected": "failures", "ejected_until": NOW - 1})
SPEEDS = health(
    CATALOG,
    a={"ttft_s": 3.0, "tokens_per_s": 10.0, "in_flight": 2},
    b={"ttft_s": 1.0, "tokens_per_s": 30.0, "in_flight": 0},
    c={"ttft_s": 2.0, "tokens_per_s": 20.0, "in_flight": 9},
    d={"in_flight": 1},
)
for _ in range(20):
    for _deployment, _ttft, _rate in (("a/m", 3.0, 10.0), ("b/m", 1.0, 30.0), ("c/m", 2.0, 20.0)):
        _vitals = SPEEDS.of(CATALOG.served[_deployment][0])
        _vitals.ttft_samples.add(_ttft)
        _vitals.rate_samples.add(_rate)


def key(**fields: Any) -> Caller:
    return Caller("k", fields.pop("name", "app"), frozenset({Scope.MODELS}), **fields)


def order(call: Any, known: Health = HEALTHY, catalog: Catalog = CATALOG) -> str:
    """The providers in the order of trial, in one word; the code of the error where there is none."""
    try:
        plan = router.plan(call.request, catalog, known, call)
    except GatewayError as error:
        return f"{error.http_status} {error.code}"
    return "".join(one.deployment.provider[0] for one in plan)


TABLE: list[tuple[str, dict[str, Any], str]] = [
    # names, models, variants
    ("c/m", {}, "c"),
    ("smart", {}, "abcd"),
    ("a/m", {}, "ab"),
    ("smart", {"models": ("c/m",)}, "abcd"),
    ("c/m", {"models": ("smart",)}, "cabd"),
    ("d/m", {"models": ("c/m", "b/m")}, "dcb"),
    ("nobody", {}, "404 model_not_found"),
    ("c/m", {"models": ("nobody",)}, "404 model_not_found"),
    ("e/vectors", {}, "400 model_not_supported"),
    ("smart:floor", {}, "cabd"),
    ("smart:nitro", {}, "abcd"),
    ("smart:online", {}, "404 model_not_found"),
    ("yandex/yandexgpt-lite:rc", {}, "y"),
    ("yandex/yandexgpt-lite:floor", {}, "y"),
    ("yandex/yandexgpt-lite:rc:floor", {}, "y"),
    # strategies that need no health
    ("cheap", {}, "cabd"),
    ("cheap", {"max_tokens": 1}, "cbad"),
    ("cheap:nitro", {}, "abcd"),
    # order, only, ignore, fallbacks
    ("smart", {"wishes": {}}, "abcd"),
    ("smart", {"wishes": {"order": ["c", "b"]}}, "cbad"),
    ("smart", {"wishes": {"order": ["C/M"]}}, "cabd"),
    ("smart", {"wishes": {"order": ["openai", "d"]}}, "dabc"),
    ("smart", {"wishes": {"order": ["c", "b"], "allow_fallbacks": False}}, "cb"),
    ("smart", {"wishes": {"order": ["openai"], "allow_fallbacks": False}}, "400 no_route"),
    ("smart", {"wishes": {"allow_fallbacks": False}}, "a"),
    ("smart", {"wishes": {"allow_fallbacks": False}, "models": ("c/m", "yandex/yandexgpt-lite")}, "ay"),
    ("smart", {"wishes": {"only": ["b", "d/m"]}}, "bd"),
    ("smart", {"wishes": {"only": ["openai"]}}, "400 no_route"),
    ("smart", {"wishes": {"ignore": ["a", "c"]}}, "bd"),
    ("smart", {"wishes": {"ignore": ["a", "b", "c", "d"]}}, "400 no_route"),
    ("smart", {"wishes": {"only": ["a", "b"], "ignore": ["a/m"]}}, "b"),
    ("cheap", {"wishes": {"order": ["b"]}}, "bcad"),
    # sort
    ("smart", {"wishes": {"sort": "price"}}, "cabd"),
    ("smart", {"wishes": {"sort": {"by": "price"}}, "models": ("yandex/yandexgpt-lite",)}, "cabdy"),
    ("smart", {"wishes": {"sort": {"by": "price", "partition": "none"}}, "models": ("yandex/yandexgpt-lite",)},
     "cyabd"),
    # prices
    ("smart", {"wishes": {"max_price": {"prompt": 60}}}, "bc"),
    ("smart", {"wishes": {"max_price": {"prompt": "60", "completion": "100"}}}, "c"),
    ("smart", {"wishes": {"max_price": {"completion": 400, "request": 0}}}, "ac"),
    ("smart", {"wishes": {"max_price": {"prompt": 1}}}, "400 no_route"),
    # where, and whose
    ("smart", {"wishes": {"data_region": "ru"}}, "ab"),
    ("smart", {"wishes": {"data_region": ["eu", "us"]}}, "c"),
    ("smart", {"wishes": {"data_region": "us"}}, "400 no_route"),
    ("russian", {}, "ab"),
    ("russian", {"wishes": {"data_region": "eu"}}, "503 no_route"),
    ("russian", {"wishes": {"only": ["c"]}}, "503 no_route"),
    ("russian", {"models": ("c/m",)}, "abc"),
    ("fast", {}, "a"),
    ("smart", {"wishes": {"zdr": True}}, "a"),
    ("smart", {"wishes": {"data_collection": "deny"}}, "c"),
    ("smart", {"wishes": {"data_collection": "allow", "zdr": False}}, "abcd"),
    # what they can do
    ("smart", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "acd"),
    ("b/m", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "400 model_not_supported"),
    ("smart", {"inputs": ["image"]}, "acd"),
    ("smart", {"inputs": ["audio"]}, "cd"),
    ("a/m", {"inputs": ["audio"]}, "400 model_not_supported"),
    ("smart", {"text": LONG}, "acd"),
    ("b/m", {"text": LONG}, "400 context_length_exceeded"),
    ("b/m", {"max_tokens": 7_000}, "b"),
    ("b/m", {"max_tokens": 9_000}, "400 context_length_exceeded"),
    ("long", {"max_tokens": 9_000}, "ac"),
    ("long", {"max_tokens": 90_000}, "c"),
    ("long", {}, "b"),
    ("smart", {"strict": True, "seed": 1}, "cd"),
    ("smart", {"wishes": {"require_parameters": True}, "seed": 1}, "cd"),
    ("a/m", {"strict": True, "seed": 1}, "400 unsupported_parameter"),
    ("smart", {"seed": 1}, "abcd"),
    # rules
    ("ruled", {}, "ab"),
    ("ruled", {"tags": ("batch",)}, "c"),
    ("ruled", {"tags": ("other", "batch"), "text": LONG}, "c"),
    ("ruled", {"text": "word " * 200}, "ca"),
    ("ruled", {"caller": key(name="ci")}, "d"),
    ("ruled", {"metadata": {"plan": "free"}}, "d"),
    ("ruled", {"metadata": {"plan": "paid"}}, "ab"),
    ("ruled", {"stream": True}, "ab"),
    ("ruled", {"stream": True, "max_tokens": 1}, "ba"),
    ("ruled", {"stream": True, "tools": []}, "a"),
    ("ruled", {"caller": key(team_id="t2")}, "a"),
    ("ruled", {"inputs": ["image"]}, "a"),
    ("ruled:floor", {"tags": ("batch",)}, "c"),
    ("within", {}, "abc"),
    ("within", {"tags": ("home",)}, "ab"),
    ("within", {"tags": ("home",), "wishes": {"data_region": "us"}}, "503 no_route"),
    # keys
    ("smart", {"caller": key(models=(("c/*", "d/*"),))}, "cd"),
    ("smart", {"caller": key(models=(("smart",),))}, "abcd"),
    ("smart:floor", {"caller": key(models=(("smart",),))}, "cabd"),
    ("a/m", {"caller": key(models=(("a/*",),))}, "a"),
    ("smart", {"caller": key(models=(("x/*",),))}, "403 model_not_allowed"),
    ("smart", {"caller": key(models=(("c/*",),)), "wishes": {"allow_fallbacks": False}}, "c"),
    ("smart", {"caller": key(models=(("c/*",),)), "wishes": {"only": ["a"]}}, "400 no_route"),
    ("smart", {"caller": key(operations=frozenset({Operation.EMBEDDINGS}))}, "403 operation_not_allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "more", "expected"), TABLE)
def test_what_is_asked_for_decides_the_order(model: str, more: dict[str, Any], expected: str) -> None:
    assert order(asking(model, **more)) == expected


@pytest.mark.parametrize(
    ("model", "more", "known", "expected"),
    [
        ("smart", {}, SICK, "bcd"),
        ("smart", {}, WELL_AGAIN, "abcd"),
        ("c/m", {}, ALL_SICK, "c"),
        ("smart", {}, ALL_SICK, "cdba"),
        ("smart", {"wishes": {"only": ["a", "b"]}}, ALL_SICK, "ba"),
        ("smart", {"wishes": {"only": ["a"]}}, SICK, "a"),
        ("a/m", {"models": ("c/m",)}, SICK, "bc"),
        ("smart", {"caller": key(models=(("a/*",),))}, SICK, "a"),
        ("speedy", {}, SPEEDS, "bcda"),
        ("quick", {}, SPEEDS, "bcda"),
        ("idle", {}, SPEEDS, "bcda"),
        ("smart:nitro", {}, SPEEDS, "bcda"),
        ("smart", {"wishes": {"sort": "throughput"}}, SPEEDS, "bcda"),
        ("smart", {"wishes": {"sort": "latency"}}, SPEEDS, "bcda"),
        ("smart", {"wishes": {"preferred_max_latency": 2.5}}, SPEEDS, "bcda"),
        ("smart", {"wishes": {"preferred_max_latency": {"p90": 1.5}}}, SPEEDS, "bdac"),
        ("smart", {"wishes": {"preferred_min_throughput": 15}}, SPEEDS, "bcda"),
        ("smart", {"wishes": {"preferred_min_throughput": {"p50": 25, "p99": 5}}}, SPEEDS, "bdac"),
        ("smart", {"wishes": {"preferred_min_throughput": 99, "order": ["a"]}}, SPEEDS, "adbc"),
        ("c/m", {"models": ("b/m",), "wishes": {"preferred_max_latency": 1.5}}, SPEEDS, "bc"),
        ("c/m", {"models": ("b/m",), "wishes": {"preferred_max_latency": 0.5}}, SPEEDS, "cb"),
    ],
)
def test_how_they_do_decides_the_order(model: str, more: dict[str, Any], known: Health, expected: str) -> None:
    assert order(asking(model, **more), known) == expected


def test_a_canary_gets_its_share_of_sessions_and_each_session_stays() -> None:
    by_session = {order(asking("canaried", session=f"s{number}", number=number)) for number in range(50)}
    assert by_session == {"cab", "ab"}
    for number in range(50):
        first = order(asking("canaried", session="mine", number=number))
        assert first == order(asking("canaried", session="mine"))
    share = sum(order(asking("canaried", number=number)) == "cab" for number in range(2_000)) / 2_000
    assert 0.46 < share < 0.54, "without a session or a user each call is drawn by itself"


def test_a_canary_that_is_ejected_or_cannot_is_not_asked() -> None:
    sick = health(CATALOG, c={"ejected": "failures", "ejected_until": NOW + 5})
    assert {order(asking("canaried", number=number), sick) for number in range(50)} == {"ab"}
    images = {order(asking("canaried", number=number, inputs=["image"])) for number in range(50)}
    assert images == {"ca", "a"}


def test_a_deployment_is_tried_once_whatever_led_to_it() -> None:
    found = {order(asking("canaried", models=("twice", "c/m"), number=number)) for number in range(100)}
    assert found == {"cab", "abc"}
    assert {order(asking("twice", models=("smart",), number=number)) for number in range(50)} == {"cabd", "abcd"}


@pytest.mark.parametrize("strategy", Strategy)
def test_every_strategy_gives_all_of_them_whatever_is_drawn(strategy: Strategy) -> None:
    catalog = served(FLEET, {"r": route(models=ABCD, strategy=strategy)})
    for known in (HEALTHY, SPEEDS):
        for number in range(100):
            assert sorted(order(asking("r", number=number), known, catalog)) == ["a", "b", "c", "d"]


def test_a_rule_allows_no_region_that_its_route_does_not() -> None:
    policy = msgspec.structs.replace(CATALOG.policies["within"], regions=frozenset({"eu"}))
    catalog = dataclasses.replace(CATALOG, policies={"within": policy}, groups={})
    assert order(asking("within"), catalog=catalog) == "c"
    assert order(asking("within", tags=("home",)), catalog=catalog) == "503 no_route"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"regions": "us"}, "routes.r: allows us, where no deployment is"),
        ({"with_tags": "gpu"}, "routes.r: asks for gpu, which no deployment has"),
        ({"regions": "eu", "with_tags": "zdr"}, "routes.r: asks for zdr, which no deployment has"),
        ({"regions": "ru", "rules": [{"when": {"tags": "x"}, "regions": "eu"}]}, "routes.r: rule 0: allows no region"),
        ({"rules": [{"name": "n", "when": {"tags": "x"}, "models": ["b/m"], "with_tags": "fast"}]},
         "routes.r: n: asks for fast, which no deployment has"),
    ],
)  # fmt: skip
def test_a_route_or_rule_that_nobody_can_meet_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="routes") as caught:
        served(FLEET, {"r": route(models=ABCD, **settings)})
    assert words in str(caught.value)


def test_prices_and_deployments_that_change_are_seen() -> None:
    changing = dict(CATALOG.served)
    catalog = dataclasses.replace(CATALOG, served=changing, groups={})
    assert order(asking("cheap"), catalog=catalog) == "cabd"
    dearer = dataclasses.replace(FLEET[2], price=Price(Decimal(10_000), Decimal(10_000)))
    changing["cheap"] = tuple(dearer if one.id == "c/m" else one for one in changing["cheap"])
    assert order(asking("cheap"), catalog=catalog) == "abcd"
    assert order(asking("cheap:floor"), catalog=catalog) == "abcd"


def test_the_price_in_force_decides() -> None:
    later = Price(Decimal(1), Decimal(1), valid_from=WALL + 10)
    soon = in_order([Price(Decimal(500), Decimal(500), valid_to=WALL + 10), later])
    never = Price(Decimal(1), Decimal(1), valid_from=WALL + 1_000)
    fleet = [deployment("x/m", (9, 9)), dataclasses.replace(deployment("y/m"), price=soon),
             dataclasses.replace(deployment("z/m"), price=never)]  # fmt: skip
    catalog = served(fleet, {"r": route(models=["z/m", "y/m", "x/m"], strategy="cheapest")})
    call = asking("r")
    assert order(call, catalog=catalog) == "xyz"
    call.started_at += 20
    assert order(call, catalog=catalog) == "yxz"


@pytest.mark.parametrize(
    ("model", "wishes", "expected"),
    [
        ("smart", {"data_region": "us"}, 400),
        ("smart", {"zdr": True, "only": ["b"]}, 400),
        ("russian", {"data_region": "us"}, 503),
        ("russian", {"only": ["openai"]}, 400),
        ("russian", {"only": ["c", "d"]}, 503),
        ("russian", {"ignore": ["a", "b"]}, 503),
        ("fast", {"ignore": ["a"]}, 503),
        ("fast", {"ignore": ["a", "b", "c", "d"]}, 400),
    ],
)
def test_whose_demands_they_were_decides_the_status(model: str, wishes: dict[str, Any], expected: int) -> None:
    """400: the client's own alone; 503: the operator's route has a part in it."""
    assert order(asking(model, wishes=wishes)) == f"{expected} no_route"


def test_a_model_with_several_credentials_is_told_once() -> None:
    catalog = served([deployment("a/m", credential=f"a {number}", account=f"a#{number}") for number in range(4)])
    call = asking("a/m", wishes={"ignore": ["a"]})
    with pytest.raises(GatewayError) as caught:
        router.plan(call.request, catalog, health(catalog), call)
    assert len(caught.value.metadata["removed"]) == 1
    assert caught.value.message.endswith("of its route: a/m is named by provider.ignore: a.")


def test_what_took_each_one_out_is_said() -> None:
    with pytest.raises(GatewayError) as caught:
        call = asking("smart", wishes={"data_region": "us", "ignore": ["b"]})
        router.plan(call.request, CATALOG, HEALTHY, call)
    assert caught.value.message == (
        "No deployment of 'smart' meets what is demanded of its route: a/m processes data in ru, and us is demanded; "
        "b/m is named by provider.ignore: b; c/m processes data in eu, and us is demanded; d/m has no region, and "
        "us is demanded."
    )
    removed = caught.value.metadata["removed"]
    assert [(one["model"], one["filter"]) for one in removed] == [
        ("a/m", "region"), ("b/m", "ignore"), ("c/m", "region"), ("d/m", "region"),
    ]  # fmt: skip
