"""Random catalogues, vitals and requests: everything that a choice may depend on turns up somewhere."""

import random
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from tests.gateway.fleet import asking, deployment, route

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.deployment import Deployment
from xrouter.core.operation import Operation
from xrouter.core.vitals import EJECTED
from xrouter.gateway import catalog
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.output_guess import OutputGuess

STRATEGIES = (
    "priority", "weighted", "least_busy", "fastest", "latency", "cheapest", "throughput", "price_weighted", "sticky",
)  # fmt: skip
PARAMETERS = (frozenset[str](), frozenset({"tools", "temperature"}), frozenset({"tools", "response_format", "user"}))


def fleet(chance: random.Random) -> list[Deployment]:
    """Up to eight deployments of several models each: half of the fleets of a kind, the others unlike in all that a
    choice reads."""
    plain: dict[str, Any] = {"serves": frozenset({Operation.CHAT})}
    if chance.random() < 0.5:
        return [deployment(f"{provider}/m", (10, 20), **plain) for provider in "abcdefgh"[: chance.randint(2, 8)]]
    found = []
    for provider in "abcdefgh"[: chance.randint(1, 8)]:
        for model in ("m", "n")[: chance.randint(1, 2)]:
            price = None if chance.random() < 0.2 else (chance.choice([0, 10, 35, 65]), chance.choice([0, 70, 500]))
            found.append(
                deployment(
                    f"{provider}/{model}",
                    price,
                    region=chance.choice([None, "ru", "eu"]),
                    tags=frozenset(chance.sample(["gpu", "zdr", "no-data-collection"], chance.randint(0, 3))),
                    context_tokens=chance.choice([None, 20, 8_000, 128_000]),
                    parameters=chance.choice(PARAMETERS),
                    inputs=frozenset(chance.choice([("text",), ("text", "image")])),
                    inputs_known=chance.random() < 0.7,
                    serves=frozenset({Operation.CHAT}),
                    credential=chance.choice(["", f"slot-{provider}"]),
                )
            )
    return found


def _rule(chance: random.Random, ids: list[str]) -> dict[str, Any]:
    when = chance.choice(
        [
            {"tags": "batch"},
            {"stream": True},
            {"prompt_tokens": {"gt": 20}},
            {"metadata.plan": "paid"},
            {"key": {"like": "app*"}},
            {"session": {"in": ["s1", "s2"]}},
            {"not": {"tools": True}, "inputs": "image"},
        ]
    )
    changed: dict[str, Any] = {"strategy": chance.choice(STRATEGIES)}
    if chance.random() < 0.5:
        changed = {"models": chance.sample(ids, chance.randint(1, len(ids)))}
    return {"when": when, **changed}


def _route(chance: random.Random, ids: list[str]) -> Any:
    strategy = chance.choice(STRATEGIES)
    models = chance.sample(ids, chance.randint(1, len(ids)))
    said: dict[str, Any] = {"models": models, "strategy": strategy}
    if strategy in ("weighted", "least_busy", "fastest", "sticky"):
        said["weights"] = {model: chance.choice([0.5, 1, 3]) for model in models}
    if chance.random() < 0.3:
        said["rules"] = [_rule(chance, ids) for _ in range(chance.randint(1, 2))]
    if chance.random() < 0.3:
        said["canary"] = {"model": chance.choice(ids), "percent": 30, "by": chance.choice(["session", "call"])}
    if chance.random() < 0.2:
        said["regions"] = ["ru", "eu"]
    if chance.random() < 0.3:
        said["fallbacks"] = {"context_length": [chance.choice(ids)]}
    for name in ("rules", "canary", "fallbacks", "weights"):
        try:
            return route(**said)
        except ValueError:  # a route that no operator could write
            said.pop(name, None)
    return route(models=models, strategy=strategy)


def world(chance: random.Random) -> Catalog:
    """A catalogue with routes, an alias for everybody, and a default model."""
    deployments = fleet(chance)
    ids = [one.id for one in deployments]
    policies = {}
    for name in ("fast", "cheap", ids[0]):
        policy = _route(chance, ids)
        with suppress(ValueError):  # a region or a tag that nobody has
            catalog.build(deployments, {}, policies={name: policy})
            policies[name] = policy
    return catalog.build(deployments, {"all": ids}, "all", policies=policies)


def disturb(health: Health, known: Catalog, chance: random.Random, now: float) -> None:
    """Other vitals for everybody."""
    for one in {each for served in known.served.values() for each in served}:
        live = health.of(one)
        live.in_flight = chance.randint(0, 20)
        live.ttft_s = chance.choice([None, chance.uniform(0.01, 10)])
        live.ttft_at = now - chance.uniform(0, 60)
        live.tokens_per_s = chance.choice([None, chance.uniform(1, 300)])
        live.last_failure_at = chance.choice([float("-inf"), now - chance.uniform(0, 100)])
        live.failures = chance.randint(0, 6)
        live.ejected = chance.choice([None, None, None, chance.choice(EJECTED)])
        live.ejected_until = float("-inf") if live.ejected is None else now + chance.uniform(-20, 20)
        for _ in range(chance.randint(0, 3)):
            live.ttft_samples.add(chance.uniform(0.01, 10))
            live.rate_samples.add(chance.uniform(1, 300))


def call(known: Catalog, chance: random.Random, number: int) -> Call:
    """A request of any kind, by a key of any kind."""
    names = [*known.served]
    more: dict[str, Any] = {}
    if chance.random() < 0.1:
        more["models"] = tuple(chance.sample(names, min(2, len(names))))
    if chance.random() < 0.15:
        more["wishes"] = _wishes(chance, names)
    if chance.random() < 0.1:
        globs = chance.choice([("a/*", "fast"), ("*",), ("all",), ("b/*", "c/m")])
        more["caller"] = Caller("k", "other", frozenset({Scope.MODELS}), team_id="t", models=(globs,))
    fields: dict[str, Any] = {}
    if chance.random() < 0.3:
        fields["tools"] = []
    if chance.random() < 0.2:
        fields["response_format"] = {"type": chance.choice(["json_schema", "json_object"])}
    if chance.random() < 0.3:
        fields[chance.choice(["max_tokens", "max_completion_tokens"])] = chance.choice([1, 10, 9_000])
    if chance.random() < 0.3:
        fields["metadata"] = {"plan": chance.choice(["paid", "free"]), "secret": "never noted"}
    if chance.random() < 0.3:
        fields["user"] = chance.choice(["ivan@example.com", "maria@example.com"])
    suffix = chance.choice(["", "", "", ":floor", ":nitro"])
    model = "nobody-serves-this" if chance.random() < 0.05 else chance.choice(names) + suffix
    return asking(
        model,
        number=number,
        inputs=chance.choice([(), (), (), (), (), (), (), ("image",)]),
        session=chance.choice([None, None, "s1", "s2", "s3"]),
        tags=chance.choice([(), ("batch",)]),
        strict=chance.random() < 0.05,
        stream=chance.random() < 0.5,
        end_user=chance.choice([None, "pseudonym"]),
        text="a secret word " * chance.choice([1, 5, 40]),
        **more,
        **fields,
    )


def _wishes(chance: random.Random, names: list[str]) -> dict[str, Any]:
    some = chance.sample(names, min(2, len(names)))
    return chance.choice(
        [
            {"order": some, "allow_fallbacks": chance.random() < 0.5},
            {"ignore": some[:1]},
            {"only": ["a", "b", *some]},
            {"sort": chance.choice(["price", "throughput", "latency"])},
            {"sort": {"by": "price", "partition": "none"}},
            {"max_price": {"prompt": 35, "completion": 500}},
            {"preferred_max_latency": {"p90": 3}, "preferred_min_throughput": 50},
            {"data_region": "ru"},
            {"data_collection": "deny"},
            {"require_parameters": True},
        ]
    )


def gateway(known: Catalog, health: Health) -> Any:
    """What `decide.note` reads of a gateway."""
    return SimpleNamespace(catalog=known, health=health, output_guess=OutputGuess())
