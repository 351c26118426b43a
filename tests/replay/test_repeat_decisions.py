"""What was decided is decided again: the same order, out of what was noted and the same configuration."""

import random
from typing import Any

import msgspec
from tests.gateway.fleet import NOW, asking, deployment, health, served
from tests.replay import worlds

from xrouter.core.decision import Decision, unpack
from xrouter.core.errors import GatewayError
from xrouter.gateway import decide, route
from xrouter.gateway.health import Health
from xrouter.replay import repeat

DECISIONS = 100_000


def test_a_hundred_thousand_decisions_repeat_identically() -> None:
    """Whatever the catalogue, the route, the vitals, the request, the key and the seed."""
    chance = random.Random(20261121)
    made = several = explained = refused = 0
    while made < DECISIONS:
        known, health = worlds.world(chance), Health()
        gateway = worlds.gateway(known, health)
        asked = [worlds.call(known, chance, number) for number in range(20)]
        for round_number in range(10):
            worlds.disturb(health, known, chance, NOW)
            for number, template in enumerate(asked):
                call = template
                call.id, call.decision, call.sticks = f"chatcmpl-{made}-{round_number}-{number}", None, None
                try:
                    plan = route.plan(call.request, known, health, call, guess=gateway.output_guess)
                except GatewayError:
                    refused += 1
                    continue
                decide.note(call, plan, gateway)
                if call.decision is None:
                    continue
                made += 1
                keys = tuple([one.deployment.key for one in plan])
                decision = unpack(call.decision)
                assert repeat.noted(decision) == keys
                assert repeat.order(decision, known) == keys, decision
                several += len(plan) > 1
                if made % 100 == 0:
                    explained += 1
                    told = repeat.explanation(decision, known)
                    placed = sorted((one.place, one.deployment) for one in told.candidates if one.place is not None)
                    assert [name for _, name in placed] == [one.deployment.id for one in plan]
                    assert all(one.place is not None or one.removed is not None for one in told.candidates)
    assert made >= DECISIONS
    assert several > made / 2, "most of them had an order to be found"
    assert explained >= 1_000
    assert refused > 1_000, "many requests were refused: those leave no decision"


def decided(seed: int) -> tuple[Decision, Any, Any]:
    """The first decision in the world of that seed."""
    chance = random.Random(seed)
    while True:
        known, health = worlds.world(chance), Health()
        worlds.disturb(health, known, chance, NOW)
        call = worlds.call(known, chance, 1)
        try:
            plan = route.plan(call.request, known, health, call)
        except GatewayError:
            continue
        decide.note(call, plan, worlds.gateway(known, health))
        if call.decision is not None and len(plan) > 1:
            return unpack(call.decision), known, call


def test_nothing_that_a_client_says_is_noted() -> None:
    for seed in range(300):
        _, _, call = decided(seed)
        for words in (b"secret", b"ivan", b"maria", b"pseudonym"):
            assert words not in call.decision
        if not any("session" in str(policy.rules) for policy in _.policies.values()):
            assert b"s1" not in call.decision


def test_another_seed_may_give_another_order() -> None:
    """Else the test above would prove nothing of chance."""
    different = 0
    for seed in range(2_000):
        decision, known, _ = decided(seed)
        other = msgspec.structs.replace(decision, seed=decision.seed ^ 0xDEADBEEF)
        different += repeat.order(other, known) != repeat.order(decision, known)
    assert different > 5


def test_one_deployment_leaves_no_decision_unless_it_is_explained() -> None:
    known = served([deployment("a/m")])
    call = asking("a/m")
    plan = route.plan(call.request, known, health(known), call)
    decide.note(call, plan, worlds.gateway(known, health(known)))
    assert (call.decision, call.explanation) == (None, None)
    call.explained = True
    decide.note(call, plan, worlds.gateway(known, health(known)))
    assert call.decision is not None
    assert call.explanation is not None
    assert [one.deployment for one in call.explanation.candidates] == ["a/m"]
