"""What holds for every request, catalogue, health and seed."""

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.fleet import NOW, asking, deployment, route, served

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.deployment import Deployment
from xrouter.core.errors import GatewayError
from xrouter.core.policy import Strategy
from xrouter.gateway import eligibility
from xrouter.gateway import route as router
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.trace import Trace

NAMES = [f"p{number}/m" for number in range(5)]
REGIONS = st.sampled_from([None, "ru", "eu"])
TAGS = st.frozensets(st.sampled_from(["zdr", "no-data-collection"]))
PARAMETERS = st.sampled_from([frozenset(), frozenset({"tools", "max_tokens"}), frozenset({"max_tokens", "seed"})])
PRICES = st.sampled_from([None, (0, 0), (1, 2), (5, 50), (100, 10)])


@st.composite
def deployments(draw: st.DrawFn) -> list[Deployment]:
    return [
        dataclasses.replace(
            deployment(name, draw(PRICES)),
            region=draw(REGIONS),
            tags=draw(TAGS),
            parameters=draw(PARAMETERS),
            inputs=draw(st.sampled_from([frozenset({"text"}), frozenset({"text", "image"})])),
            inputs_known=draw(st.booleans()),
            context_tokens=draw(st.sampled_from([None, 100, 10_000])),
        )
        for name in NAMES[: draw(st.integers(1, 5))]
    ]


@st.composite
def healths(draw: st.DrawFn, known: list[Deployment]) -> Health:
    found = Health()
    for one in known:
        vitals = found.of(one)
        vitals.in_flight = draw(st.integers(0, 5))
        vitals.ttft_s = draw(st.sampled_from([None, 0.0, 0.1, 3.0]))
        vitals.tokens_per_s = draw(st.sampled_from([None, 0.0, 10.0, 99.0]))
        vitals.ejected = draw(st.sampled_from([None, "failures"]))
        if vitals.ejected is not None:
            vitals.ejected_until = draw(st.sampled_from([NOW - 1, NOW + 1]))
        vitals.last_failure_at = draw(st.sampled_from([float("-inf"), NOW - 100, NOW - 1]))
    return found


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "order": st.lists(st.sampled_from(["p0", "p1/m", "P2", "nobody"]), max_size=3),
        "only": st.lists(st.sampled_from(["p0", "p1/m", "p3", "nobody"]), max_size=3),
        "ignore": st.lists(st.sampled_from(["p0", "p4/m", "nobody"]), max_size=2),
        "allow_fallbacks": st.booleans(),
        "require_parameters": st.booleans(),
        "sort": st.sampled_from(["price", "throughput", "latency", {"by": "price", "partition": "none"}]),
        "max_price": st.fixed_dictionaries({"prompt": st.sampled_from([0, 4, "10"])}),
        "data_region": st.sampled_from(["ru", ["ru", "eu"]]),
        "zdr": st.booleans(),
        "data_collection": st.sampled_from(["allow", "deny"]),
        "preferred_max_latency": st.sampled_from([1, {"p90": 1}]),
    },
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Call, Catalog, Health, int]:
    known = draw(deployments())
    names = [one.id for one in known]
    more: dict[str, Any] = {"regions": draw(st.sampled_from([None, ["ru"], ["ru", "eu"]]))}
    if more["regions"] and not any(one.region in more["regions"] for one in known):
        more["regions"] = None
    strategy = draw(st.sampled_from(Strategy))
    weights = {names[0]: 2.5} if strategy in ("weighted", "fastest", "sticky", "least_busy") else {}
    catalog = served(known, {"r": route(models=names, strategy=strategy, weights=weights, **more)})
    call = asking(
        draw(st.sampled_from(["r", "all", names[0], "r:floor", "all:nitro"])),
        models=tuple(draw(st.lists(st.sampled_from(["r", "all", *names]), max_size=2))),
        wishes=draw(st.none() | WISHES),
        inputs=draw(st.sampled_from([[], ["image"]])),
        session=draw(st.sampled_from([None, "s"])),
        strict=draw(st.booleans()),
        caller=Caller("k", "app", frozenset({Scope.MODELS}), models=draw(st.sampled_from([(), (("p0/*", "r"),)]))),
        **draw(st.sampled_from([{}, {"tools": []}, {"seed": 1}, {"max_tokens": 200}])),
    )
    return call, catalog, draw(healths(known)), draw(st.integers(0, 2**64 - 1))


def planned(call: Call, catalog: Catalog, known: Health, seed: int, trace: Trace | None = None) -> list[str] | str:
    try:
        plan = router.plan(call.request, catalog, known, call, seed=seed, trace=trace)
    except GatewayError as error:
        return error.message
    return [one.deployment.id for one in plan]


@settings(max_examples=600, deadline=None)
@given(situations())
def test_the_same_snapshot_and_seed_give_the_same_plan_and_asking_why_changes_nothing(
    found: tuple[Call, Catalog, Health, int],
) -> None:
    first = planned(*found)
    assert first == planned(*found)
    assert first == planned(*found, Trace())


@settings(max_examples=600, deadline=None)
@given(situations())
def test_everybody_is_in_the_plan_once_or_was_taken_out_with_a_reason(
    found: tuple[Call, Catalog, Health, int],
) -> None:
    call, catalog, known, seed = found
    trace = Trace()
    plan = planned(call, catalog, known, seed, trace)
    removed = {one.candidate.deployment.id for one in trace.removed}
    assert all(one.code in eligibility.CODES and one.words for one in trace.removed)
    asked = {one.id for name in (call.request.model, *call.request.models) for one in catalog.group(name).source}
    if isinstance(plan, str):
        assert removed == asked
        return
    assert len(set(plan)) == len(plan) > 0
    assert set(plan) | removed == asked


@settings(max_examples=600, deadline=None)
@given(situations())
def test_nobody_in_the_plan_is_one_that_a_filter_takes_out(found: tuple[Call, Catalog, Health, int]) -> None:
    """Said once more, and plainly, by whoever wrote this test."""
    call, catalog, known, seed = found
    plan = planned(call, catalog, known, seed)
    if isinstance(plan, str):
        return
    wishes, request = call.preferences, call.request
    by_id = {one.id: one for each in catalog.served.values() for one in each}
    names = (request.model, *request.models)
    demands = [catalog.group(name).policy.regions for name in names]
    for name in plan:
        one = by_id[name]
        provider = one.provider
        if all(regions is not None for regions in demands):
            assert any(one.region in regions for regions in demands if regions is not None)
        if "tools" in request.fields and one.parameters:
            assert "tools" in one.parameters
        if call.strict and "seed" in request.fields and one.parameters:
            assert "seed" in one.parameters
        if "image" in request.inputs and one.inputs_known:
            assert "image" in one.inputs
        if "max_tokens" in request.fields and one.context_tokens is not None:
            assert one.context_tokens >= 200
        if wishes is None:
            continue
        if wishes.only:
            assert {provider, name} & set(wishes.only)
        assert not {provider, name} & set(wishes.ignore)
        if wishes.regions is not None:
            assert one.region in wishes.regions
        if wishes.zdr:
            assert "zdr" in one.tags
        if wishes.max_price is not None:
            assert one.price is not None
            assert wishes.max_price.prompt is not None
            assert one.price.input_rub_per_1m <= float(wishes.max_price.prompt)
    ejected = [name for name in plan if known.ejected(by_id[name], NOW) is not None]
    assert ejected == list(plan[len(plan) - len(ejected) :]), "who is ejected goes last, if at all"
    if len(ejected) < len(plan):
        assert {known.ejected(by_id[name], NOW) for name in ejected} <= {"failures", "probing"}, "the reserve"
