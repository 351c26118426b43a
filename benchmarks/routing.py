"""What a plan costs a call: `python benchmarks/routing.py [TURNS]`, microseconds of processor time (the best of the
turns) and function calls, for one deployment and for twenty, under every strategy and with a request's own wishes."""

import cProfile
import json
import pstats
import sys
import time
from decimal import Decimal

import msgspec
from msgspec import Raw

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.chat import ChatRequest
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price
from xrouter.core.policy import Policy, Strategy
from xrouter.core.preferences import Preferences
from xrouter.gateway import catalog, route
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health

TURN = 2_000
MOST_US = {1: 5.0, 20: 40.0}
"""What may not be exceeded by a plan without wishes."""


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


def measure(count: int, strategy: Strategy, turns: int, wishes: Preferences | None = None) -> tuple[float, int]:
    known, health = served(count, strategy)
    calls = asked(wishes)
    plan, best = route.plan, float("inf")
    for _ in range(turns):
        began = time.process_time()
        for call in calls:
            plan(call.request, known, health, call)
        best = min(best, time.process_time() - began)
    with cProfile.Profile() as profile:
        plan(calls[0].request, known, health, calls[0])
    return best / TURN * 1e6, pstats.Stats(profile).total_calls - 1  # type: ignore[attr-defined]


def main() -> int:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    over = 0
    for count in (1, 20):
        for strategy in Strategy:
            us, calls = measure(count, strategy, turns)
            over += us > MOST_US[count]
            print(f"{count:3} deployments, {strategy:15} {us:6.1f} us {calls:4} calls")
    wishes = msgspec.convert({"order": ["p3", "p5"], "ignore": ["p7"], "max_price": {"prompt": 25}}, Preferences)
    us, calls = measure(20, Strategy.PRIORITY, turns, wishes)
    print(f" 20 deployments, with wishes     {us:6.1f} us {calls:4} calls")
    print(f"{over} above {MOST_US}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
