"""What routing and health cost a call: `python benchmarks/routing.py [TURNS]`, microseconds of processor time (the best
of the turns), for one deployment and for twenty, under every strategy and with a request's own wishes.

The plan, what is noted of it, and what is kept of the health of the deployment that answers, from beginning to end."""

import json
import sys
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.call import Attempt, Call, Caller, Phase, Scope, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price
from xrouter.core.policy import Policy, Strategy
from xrouter.core.preferences import Preferences
from xrouter.gateway import catalog, decide, route
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.output_guess import OutputGuess

TURN = 2_000
MOST_US = {1: 5.0, 20: 40.0}
"""What may not be exceeded without wishes."""


def served(count: int, strategy: Strategy) -> tuple[Catalog, Health]:
    deployments = [
        Deployment(
            id=f"p{number}/m",
            provider=f"p{number}",
            kind="openai",
            upstream_model="m",
            price=Price(Decimal(10 + number), Decimal(20 + number)),
            parameters=frozenset({"tools", "response_format", "max_tokens"}),
            context_tokens=128_000,
        )
        for number in range(count)
    ]
    known = catalog.build(
        deployments, {}, policies={"all": Policy(strategy=strategy, models=tuple(one.id for one in deployments))}
    )
    health = Health()
    for number, deployment in enumerate(deployments):
        vitals = health.of(deployment)
        vitals.ttft_s, vitals.tokens_per_s, vitals.in_flight = 0.5 + number / 10, 50.0 - number, number % 3
    return known, health


def asked(preferences: Preferences | None) -> list[Call]:
    fields = {"messages": [{"role": "user", "content": "hello " * 50}], "max_tokens": 100, "user": "anna"}
    request = ChatRequest(
        model="all", stream=True, fields={name: Raw(json.dumps(value).encode()) for name, value in fields.items()}
    )
    caller = Caller("k", "app", frozenset({Scope.MODELS}))
    return [Call(request, caller, "req_1", started_at=1.8e9, started=1e3, preferences=preferences) for _ in range(TURN)]


def answered(call: Call, known: Catalog) -> Attempt:
    """An attempt of the call that went well."""
    deployment = known.served["all"][0]
    attempt = Attempt(call, deployment, "all", 1, began=call.started, started_at=call.started_at, journal_intent=print)
    attempt.phase, attempt.state, attempt.usage = Phase.SHOWN, State.SUCCEEDED, Usage(100, 200)
    attempt.first_content_at, attempt.ended_at = call.started_at + 0.4, call.started_at + 4.4
    attempt.ended = call.started + 4.4
    return attempt


def measure(count: int, strategy: Strategy, turns: int, wishes: Preferences | None = None) -> tuple[float, float]:
    """Microseconds for the plan and its note, and for the health."""
    known, health = served(count, strategy)
    gateway: Any = SimpleNamespace(catalog=known, health=health, output_guess=OutputGuess())
    calls = asked(wishes)
    attempts = [answered(call, known) for call in calls]
    plan, note, best = route.plan, decide.note, [float("inf"), float("inf")]
    for _ in range(turns):
        began = time.process_time()
        for call in calls:
            note(call, plan(call.request, known, health, call), gateway)
        planned = time.process_time()
        for attempt in attempts:
            health.began(attempt)
            health.shown(attempt, 1000.4)
            health.ended(attempt, None)
        best = [min(best[0], planned - began), min(best[1], time.process_time() - planned)]
    return best[0] / TURN * 1e6, best[1] / TURN * 1e6


def main() -> int:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    over = 0
    wishes = msgspec.convert({"order": ["p3", "p5"], "ignore": ["p7"], "max_price": {"prompt": 25}}, Preferences)
    lanes = [(count, strategy, None) for count in (1, 20) for strategy in Strategy]
    for count, strategy, wished in [*lanes, (20, Strategy.PRIORITY, wishes)]:
        planned, kept = measure(count, strategy, turns, wished)
        over += wished is None and planned + kept > MOST_US[count]
        name = "with wishes" if wished else strategy
        print(f"{count:3} deployments, {name:15} {planned:5.1f} + {kept:.1f} = {planned + kept:5.1f} us")
    print(f"{over} above {MOST_US}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
