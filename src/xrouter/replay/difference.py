"""What a change of the configuration changes: in what is served, and in where requests go."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from xrouter.core.call import Call, Caller, Request, Scope
from xrouter.core.chat import ChatRequest
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import GatewayError
from xrouter.core.images import ImagesRequest
from xrouter.core.operation import Operation
from xrouter.core.preferences import Preferences
from xrouter.core.rerank import RerankRequest
from xrouter.gateway import draws, route
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health

SEEDS: Final = 200
"""So many times each sample is drawn; with fewer, shares of a weighted route would say little."""

_NAMED: Final = frozenset({"providers", "deployments", "aliases", "routes"})
"""Parts of a picture whose entries come and go as a whole."""


class Change(Struct, frozen=True):
    """`place` is where it stands: `deployments.gigachat/GigaChat-2.max_concurrency`. Of what was added there is no
    `before`, of what was removed no `after`."""

    kind: Literal["added", "removed", "changed"]
    place: str
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A request with its wishes for the route, and a word for it."""

    name: str
    request: Request
    preferences: Preferences | None = None


class Way(Struct, frozen=True):
    """Where a sample goes while everything is well: `order` is that of the first draw, `shares` how much of the calls
    begins with which deployment; or `error`, why it goes nowhere."""

    order: tuple[str, ...] = ()
    shares: Mapping[str, float] = {}
    error: str | None = None


class Moved(Struct, frozen=True):
    """A sample that goes another way."""

    sample: str
    before: Way
    after: Way


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Between two pictures (`configuration/picture.py`), in their order."""
    found: list[Change] = []
    for part in dict.fromkeys((*before, *after)):
        old, new = before.get(part), after.get(part)
        if part in _NAMED:
            found += _entries(part, old or {}, new or {})
        elif old != new:
            found += _values(part, old, new)
    return found


def _entries(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        place = f"{part}.{name}"
        if name not in after:
            yield Change("removed", place, before=before[name])
        elif name not in before:
            yield Change("added", place, after=after[name])
        else:
            yield from _values(place, before[name], after[name])


def _values(place: str, before: Any, after: Any) -> Iterator[Change]:
    """The deepest places that differ; a list differs as a whole."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            yield from _values(f"{place}.{name}", before.get(name), after.get(name))
    else:
        yield Change("changed", place, before, after)


def samples(*catalogs: Catalog) -> list[Sample]:
    """The plainest request for each work of each name that is served."""
    found: dict[str, Sample] = {}
    for catalog in catalogs:
        for name, deployments in catalog.served.items():
            for operation in sorted({work for one in deployments for work in one.serves}):
                words = name if operation is Operation.CHAT else f"{name} ({operation.value})"
                found.setdefault(words, Sample(words, _plain(operation, name)))
    return [*found.values()]


def _plain(operation: Operation, model: str) -> Request:
    if operation is Operation.EMBEDDINGS:
        return EmbeddingsRequest(model, ("hello",), {})
    if operation is Operation.IMAGES:
        return ImagesRequest(model, "a cat", {})
    if operation is Operation.RERANK:
        return RerankRequest(model, "hello", ("hello",), {})
    messages = Raw(msgspec.json.encode([{"role": "user", "content": "hello"}]))
    return ChatRequest(model, False, {"messages": messages})


def moved(before: Catalog, after: Catalog, asked: Iterable[Sample], now: float) -> list[Moved]:
    """The samples that go another way, with both ways. `now` (seconds since the epoch) says which prices hold."""
    found: list[Moved] = []
    for one in asked:
        old, new = way(one, before, now), way(one, after, now)
        if old != new:
            found.append(Moved(one.name, old, new))
    return found


def way(sample: Sample, catalog: Catalog, now: float) -> Way:
    """Where a request goes while nobody is busy and nobody has failed."""
    health, caller = Health(), Caller("", "nobody", frozenset({Scope.ADMIN}))
    call = Call(sample.request, caller, "", started_at=now, started=0.0, preferences=sample.preferences)
    try:
        orders = [_order(call, catalog, health, seed) for seed in range(SEEDS)]
    except GatewayError as error:
        return Way(error=error.message)
    firsts = Counter(order[0] for order in orders)
    shares = {name: round(count / SEEDS, 3) for name, count in sorted(firsts.items())}
    return Way(orders[0], shares if len(shares) > 1 else {})


def _order(call: Call, catalog: Catalog, health: Health, seed: int) -> tuple[str, ...]:
    plan = route.plan(call.request, catalog, health, call, seed=draws.mixed(seed))
    return tuple(one.deployment.id for one in plan)
