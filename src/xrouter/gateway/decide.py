"""Notes what a call's route was chosen from, so that the choice can be explained and repeated. Pure.

It reads the vitals that the plan has just read: nothing is awaited between. A call with one deployment has nothing to
choose, and pays two look-ups.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from xrouter.core.call import Call, Request, Scope
from xrouter.core.chat import TEXT, ChatRequest
from xrouter.core.conditions import METADATA, All, Condition, Fact, Not, OneOf
from xrouter.core.decision import pack
from xrouter.core.deployment import Deployment
from xrouter.core.policy import CONTEXT_LENGTH, Policy, Strategy
from xrouter.core.vitals import Samples
from xrouter.gateway import draws, eligibility, explain, meter, permit, route, rules
from xrouter.gateway.candidate import Candidate
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
    request = call.request
    if not (request.models or call.explained):
        group = gateway.catalog.groups.get(request.model)
        if group is not None and len(group.source) < 2:
            return
    if call.explained:
        trace = Trace()
        again = route.plan(request, gateway.catalog, gateway.health, call, guess=gateway.output_guess, trace=trace)
        told = explain.told(again, trace, gateway.catalog, gateway.health, call.started)
        call.explanation = told if call.caller.may(Scope.ADMIN) else told.without_forbidden()
    groups = [*_groups(request, gateway)]
    seen = {one.key: one for group in groups for one in group.source}
    for candidate in plan:  # a fallback's, or a default model's
        seen.setdefault(candidate.deployment.key, candidate.deployment)
    if call.explained or 1 < len(seen) <= MOST_DEPLOYMENTS:
        call.decision = _packed(call, plan, groups, [*seen.values()], gateway)


def _groups(request: Request, gateway: Gateway) -> Iterator[Group]:
    """Of the names that are asked for, and of those that their routes open for a request that is too long."""
    catalog, operation = gateway.catalog, request.operation
    for name in dict.fromkeys((request.model, *request.models)):
        group = catalog.groups.get(name) or catalog.group(name, operation)
        yield group
        for model in group.policy.fallbacks.get(CONTEXT_LENGTH, ()):
            yield catalog.group(model, operation)


def _packed(
    call: Call, plan: tuple[Candidate, ...], groups: list[Group], deployments: list[Deployment], gateway: Gateway
) -> bytes:
    """The fields of `core.decision.Decision` in their order: tuples, because they cost half of what structs do."""
    wishes = call.preferences
    percentiles = wishes is not None and (
        wishes.preferred_max_latency is not None or wishes.preferred_min_throughput is not None
    )
    numbers = {one.key: number for number, one in enumerate(deployments)}
    return pack(
        (
            gateway.catalog.revision,
            draws.seed_of(call.id),
            call.started,
            call.started_at,
            _asked(call, groups, gateway),
            _asker(call, groups),
            _seen(deployments, gateway, call.started, percentiles=percentiles),
            [numbers[one.deployment.key] for one in plan if one.deployment.key in numbers],
        )
    )


def _seen(deployments: Iterable[Deployment], gateway: Gateway, now: float, *, percentiles: bool) -> list[Any]:
    of, ejected = gateway.health.of, gateway.health.ejected
    found: list[Any] = []
    for one in deployments:
        known = of(one)
        fields = (
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
        if percentiles:
            fields += (_shares(known.ttft_samples, _TTFT_SHARES), _shares(known.rate_samples, _RATE_SHARES))  # type: ignore[assignment]
        found.append(fields)
    return found


def _shares(samples: Samples, shares: tuple[float, ...]) -> tuple[float | None, ...]:
    return tuple([samples.percentile(share) for share in shares])


def _asked(call: Call, groups: list[Group], gateway: Gateway) -> tuple[Any, ...]:
    request = call.request
    fields = request.fields
    chat = isinstance(request, ChatRequest)
    strict = call.strict or bool(call.preferences is not None and call.preferences.require_parameters)
    priced = any(_may_price(group.policy) for group in groups)
    messages, tools = fields.get("messages"), fields.get("tools")
    shortest = min([group.context_tokens for group in groups if group.context_tokens is not None], default=None)
    return (
        request.operation,
        request.model,
        request.models,
        request.stream,
        request.max_tokens if isinstance(request, ChatRequest) else None,
        tuple(fields)[:_MOST_FIELDS] if strict else tuple([name for name in _MATTER if name in fields]),
        tuple(request.inputs if isinstance(request, ChatRequest) else TEXT),
        0 if messages is None else len(memoryview(messages)),
        0 if tools is None else len(memoryview(tools)),
        _least_tokens(request, shortest),
        rules.wants_schema(request),
        _metadata(request, groups),
        meter.prompt_tokens(request) if priced and not chat else 0,
        gateway.output_guess.of(request.model),
    )


def _asker(call: Call, groups: list[Group]) -> tuple[Any, ...]:
    caller = call.caller
    restricted = permit.restricts(caller)
    return (
        caller.name,
        caller.team_id,
        caller.organisation_id,
        caller.user_id,
        call.tags,
        call.strict,
        call.preferences,
        caller.models if restricted else (),
        None if caller.operations is None else tuple(caller.operations),
        call.sticks or {},
        rules.session(call.request, call) if any("session" in _facts(group.policy) for group in groups) else None,
    )


def _least_tokens(request: Request, shortest: int | None) -> int | None:
    """Counted only where the plan had to count, too: where it is not plain that everything fits."""
    if shortest is None or not isinstance(request, ChatRequest):
        return None
    raw = request.fields.get("messages")
    most = (0 if raw is None else len(memoryview(raw)) // eligibility.BYTES_PER_TOKEN) + (request.max_tokens or 0)
    return None if most <= shortest else eligibility.least_tokens(request)


def _may_price(policy: Policy) -> bool:
    return policy.strategy in _PRICED or bool(policy.rules)


def _metadata(request: Request, groups: list[Group]) -> dict[str, str]:
    """What the client says under the names that rules ask for: the operator has made those a matter of the route."""
    if "metadata" not in request.fields:
        return {}
    asked = {fact.removeprefix(METADATA) for group in groups for fact in _facts(group.policy) if METADATA in fact}
    if not asked:
        return {}
    found = msgspec.json.decode(request.fields["metadata"])
    said = found if isinstance(found, dict) else {}
    return {name: value for name, value in said.items() if name in asked and isinstance(value, str)}


def _facts(policy: Policy) -> set[str]:
    return {fact for rule in policy.rules for fact in _facts_of(rule.when)} if policy.rules else set()


def _facts_of(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Fact):
        yield condition.fact
    elif isinstance(condition, All | OneOf):
        for one in condition.of:
            yield from _facts_of(one)
    elif isinstance(condition, Not):
        yield from _facts_of(condition.of)
