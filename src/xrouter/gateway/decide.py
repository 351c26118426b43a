"""Notes what a call's route was chosen from, so that the choice can be explained and repeated. Pure.

It reads the vitals that the plan has just read: nothing is awaited between. A call with one deployment has nothing to
choose, and pays two look-ups.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from xrouter.core.call import Call, Request, Scope
from xrouter.core.chat import TEXT, ChatRequest
from xrouter.core.conditions import METADATA, All, Condition, Fact, Not, OneOf
from xrouter.core.decision import pack
from xrouter.core.deployment import Deployment
from xrouter.core.policy import CONTEXT_LENGTH, Strategy
from xrouter.core.vitals import Vitals
from xrouter.gateway import draws, eligibility, explain, meter, route, rules
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.group import Group
from xrouter.gateway.trace import Trace

MOST_DEPLOYMENTS: Final = 100
"""Of a choice among more the vitals would fill the journal; such a one is not noted."""

_MATTER: Final = ("tools", "response_format", "max_tokens", "max_completion_tokens")
_PRICED: Final = frozenset({Strategy.CHEAPEST, Strategy.PRICE_WEIGHTED})
_MOST_FIELDS: Final = 100
_TTFT_SHARES: Final = (0.5, 0.75, 0.9, 0.99)
_RATE_SHARES: Final = (0.5, 0.25, 0.1, 0.01)


def note(call: Call, plan: tuple[Candidate, ...], gateway: Gateway) -> None:
    """Put the decision on the call where there was something to decide, and how it was made where it is asked."""
    request, catalog = call.request, gateway.catalog
    group = None if request.models else catalog.groups.get(request.model)
    if group is not None and len(group.source) < 2 and not call.explained:
        return
    if call.explained:
        trace = Trace()
        again = route.plan(request, catalog, gateway.health, call, guess=gateway.output_guess, trace=trace)
        told = explain.told(again, trace, catalog, gateway.health, call.started)
        call.explanation = told if call.caller.may(Scope.ADMIN) else told.without_forbidden()
    choice = _choice(request, plan, group, catalog)
    if call.explained or 1 < len(choice.deployments) <= MOST_DEPLOYMENTS:
        call.decision = _packed(call, plan, choice, gateway)


class _Choice(Struct, frozen=True, eq=False):
    """What can be known of a name's choices before any call comes. `numbers` are the places of `deployments` by key;
    `shortest` is the least context of any, `metadata` the names that rules ask about; `priced`: the price may
    decide."""

    group: Group | None
    deployments: tuple[Deployment, ...]
    numbers: dict[str, int]
    shortest: int | None
    metadata: frozenset[str]
    priced: bool
    session: bool
    tags: bool


def _choice(request: Request, plan: tuple[Candidate, ...], group: Group | None, catalog: Catalog) -> _Choice:
    if group is None or group.policy.fallbacks:
        groups = [*_groups(request, catalog)]
        more = [one.deployment for one in plan]  # a default model's, which is no group by that name
        return _choice_of(None, groups, more)
    known = catalog.choices.get(request.model)
    if isinstance(known, _Choice) and known.group is group:
        return known
    made = catalog.choices[request.model] = _choice_of(group, [group], [])
    return made


def _groups(request: Request, catalog: Catalog) -> Iterator[Group]:
    """Of the names that are asked for, and of those that their routes open for a request that is too long."""
    for name in dict.fromkeys((request.model, *request.models)):
        group = catalog.groups.get(name) or catalog.group(name, request.operation)
        yield group
        for model in group.policy.fallbacks.get(CONTEXT_LENGTH, ()):
            yield catalog.group(model, request.operation)


def _choice_of(group: Group | None, groups: list[Group], more: Iterable[Deployment]) -> _Choice:
    each = {one.key: one for found in groups for one in found.source}
    for one in more:
        each.setdefault(one.key, one)
    facts = {fact for found in groups for rule in found.policy.rules for fact in _facts_of(rule.when)}
    return _Choice(
        group=group,
        deployments=tuple(each.values()),
        numbers={key: number for number, key in enumerate(each)},
        shortest=min([found.context_tokens for found in groups if found.context_tokens is not None], default=None),
        metadata=frozenset(fact.removeprefix(METADATA) for fact in facts if fact.startswith(METADATA)),
        priced=any(found.policy.strategy in _PRICED or found.policy.rules for found in groups),
        session="session" in facts,
        tags="tags" in facts,
    )


def _packed(call: Call, plan: tuple[Candidate, ...], choice: _Choice, gateway: Gateway) -> bytes:
    """The fields of `core.decision.Decision` in their order: tuples, because they cost half of what structs do."""
    numbers = choice.numbers
    return pack(
        (
            gateway.catalog.revision,
            draws.seed_of(call.id),
            call.started,
            call.started_at,
            _asked(call, choice, gateway),
            _asker(call, choice),
            _seen(call, choice, gateway),
            [numbers[one.deployment.key] for one in plan if one.deployment.key in numbers],
        )
    )


def _seen(call: Call, choice: _Choice, gateway: Gateway) -> list[tuple[Any, ...]]:
    of, ejected, now = gateway.health.of, gateway.health.ejected, call.started
    found: list[tuple[Any, ...]] = [
        (
            one.key,
            known.in_flight,
            known.ttft_s,
            known.ttft_at,
            known.tokens_per_s,
            known.failures,
            known.last_failure_at,
            ejected(one, now),
            known.ejected_until,
        )
        for one in choice.deployments
        for known in (of(one),)
    ]
    wishes = call.preferences
    if wishes is None or (wishes.preferred_max_latency is None and wishes.preferred_min_throughput is None):
        return found
    return [(*fields, *_percentiles(of(one))) for fields, one in zip(found, choice.deployments, strict=True)]


def _percentiles(known: Vitals) -> tuple[list[float | None], list[float | None]]:
    ttft, rate = known.ttft_samples.percentile, known.rate_samples.percentile
    return [ttft(share) for share in _TTFT_SHARES], [rate(share) for share in _RATE_SHARES]


def _asked(call: Call, choice: _Choice, gateway: Gateway) -> tuple[Any, ...]:
    request, guess = call.request, gateway.output_guess.of(call.request.model)
    fields = request.fields
    strict = call.strict or (call.preferences is not None and call.preferences.require_parameters)
    names = tuple(fields)[:_MOST_FIELDS] if strict else tuple([name for name in _MATTER if name in fields])
    said = _metadata(request, choice.metadata) if choice.metadata and "metadata" in fields else {}
    if not isinstance(request, ChatRequest):
        tokens = meter.prompt_tokens(request) if choice.priced else 0
        plain = (request.operation, request.model, request.models, False, None, names, ("text",), 0, 0, None, False)
        return (*plain, said, tokens, guess)
    messages, tools = fields.get("messages"), fields.get("tools")
    return (
        "chat",
        request.model,
        request.models,
        request.stream,
        request.max_tokens if names else None,
        names,
        ("text",) if request.inputs is TEXT else tuple(request.inputs),
        0 if messages is None else len(memoryview(messages)),
        0 if tools is None else len(memoryview(tools)),
        None if choice.shortest is None else _least_tokens(request, choice.shortest),
        "response_format" in fields and rules.wants_schema(request),
        said,
        0,
        guess,
    )


def _asker(call: Call, choice: _Choice) -> tuple[Any, ...]:
    caller = call.caller
    return (
        caller.name,
        caller.team_id,
        caller.organisation_id,
        caller.user_id,
        call.tags if choice.tags else (),
        call.strict,
        call.preferences,
        caller.models,
        None if caller.operations is None else tuple(caller.operations),
        call.sticks or {},
        rules.session(call.request, call) if choice.session else None,
    )


def _least_tokens(request: ChatRequest, shortest: int) -> int | None:
    """Counted only where the plan had to count, too: where it is not plain that everything fits."""
    raw = request.fields.get("messages")
    most = (0 if raw is None else len(memoryview(raw)) // eligibility.BYTES_PER_TOKEN) + (request.max_tokens or 0)
    return None if most <= shortest else eligibility.least_tokens(request)


def _metadata(request: Request, names: frozenset[str]) -> dict[str, str]:
    """What the client says under the names that rules ask for: the operator has made those a matter of the route."""
    found = msgspec.json.decode(request.fields["metadata"])
    said = found if isinstance(found, dict) else {}
    return {name: value for name, value in said.items() if name in names and isinstance(value, str)}


def _facts_of(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Fact):
        yield condition.fact
    elif isinstance(condition, All | OneOf):
        for one in condition.of:
            yield from _facts_of(one)
    elif isinstance(condition, Not):
        yield from _facts_of(condition.of)
