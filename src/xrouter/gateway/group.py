"""What can be known of a served name before any call comes: its candidates, and what all of them can do."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from xrouter.core.deployment import Deployment
from xrouter.core.money import Price
from xrouter.core.operation import Operation
from xrouter.core.policy import Policy
from xrouter.gateway import draws
from xrouter.gateway.candidate import Candidate


class Group(Struct, frozen=True, eq=False):
    """A name that clients may ask for; `base` is the served name that it stands for.

    `source` is what the catalogue serves under it: as long as that is the same object, the group holds. `candidates`
    are those of its own models by operation, `led` those of every model that its route may lead to, by id.
    `restricted` says that its route asks for more than an order. `follows` are the parameters that every one of its
    deployments follows, None where nobody says; `context_tokens` is the shortest one's, None the same.
    """

    name: str
    base: str
    policy: Policy
    source: tuple[Deployment, ...]
    candidates: Mapping[Operation, tuple[Candidate, ...]]
    led: Mapping[str, tuple[Candidate, ...]]
    restricted: bool
    follows: frozenset[str] | None
    context_tokens: int | None


def make(name: str, base: str, policy: Policy, source: tuple[Deployment, ...]) -> Group:
    """The group of `name`. `source` holds every deployment that its policy names, in the order of the file."""
    firsts: dict[str, int] = {}
    for place, deployment in enumerate(source):
        firsts.setdefault(plain_id(deployment), place)
    every = [
        Candidate(
            model=name,
            deployment=one,
            policy=policy,
            weight=policy.weights.get(plain_id(one), 1.0),
            place=firsts[plain_id(one)],
            mark=draws.digest(source[firsts[plain_id(one)]].key),
            names=names_of(one),
            rub=(0.0, 0.0) if one.price is None else rub_per_1m(one.price),
        )
        for one in source
    ]
    led: dict[str, tuple[Candidate, ...]] = {}
    for one in every:
        led[plain_id(one.deployment)] = (*led.get(plain_id(one.deployment), ()), one)
    own = [one for model in policy.models for one in led.get(model, ())] if policy.models else every
    candidates = {work: _serving(own, work) for work in Operation}
    return Group(
        name=name,
        base=base,
        policy=policy,
        source=source,
        candidates={work: found for work, found in candidates.items() if found},
        led=led,
        restricted=bool(policy.rules or policy.canary is not None or policy.regions is not None or policy.with_tags),
        follows=_all_of([one.parameters for one in source if one.parameters]),
        context_tokens=min([one.context_tokens for one in source if one.context_tokens is not None], default=None),
    )


def rub_per_1m(price: Price) -> tuple[float, float]:
    """Roubles for a million tokens of prompt and of answer, as floats: quick to compare."""
    return float(price.input_rub_per_1m), float(price.output_rub_per_1m)


def plain_id(deployment: Deployment) -> str:
    """Its id without a simulated fault."""
    return deployment.id if "+" not in deployment.upstream_model else deployment.id.partition("+")[0]


def names_of(deployment: Deployment) -> frozenset[str]:
    """What a request's `provider` may call it by, in lower case."""
    return frozenset({deployment.provider, plain_id(deployment).lower()})


def _serving(candidates: Iterable[Candidate], operation: Operation) -> tuple[Candidate, ...]:
    return tuple([one for one in candidates if operation in one.deployment.serves])


def _all_of(sets: list[frozenset[str]]) -> frozenset[str] | None:
    return frozenset.intersection(*sets) if sets else None
