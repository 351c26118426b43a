"""Further candidates that a class of failure opens: models with a longer context, models with another content policy.

They are looked for when they are needed, not before: a call that succeeds pays nothing for them.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from xrouter.core.call import Call, Request
from xrouter.core.errors import GatewayError
from xrouter.core.policy import CONTENT_POLICY, CONTEXT_LENGTH, Policy
from xrouter.gateway import eligibility, permit, rules
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.trace import Trace

_CLASSES: Final[Mapping[str, str]] = {
    "context_length_exceeded": CONTEXT_LENGTH,
    "content_policy_violation": CONTENT_POLICY,
    "content_filter": CONTENT_POLICY,
}


def class_of(error: GatewayError) -> str | None:
    """The class of a failure that may open further candidates; None for all others."""
    return _CLASSES.get(error.code or "")


def further(
    call: Call, failed: Candidate, kind: str, catalog: Catalog, health: Health, trace: Trace | None = None
) -> tuple[Candidate, ...]:
    """What the route of `failed` opens after a failure of the class `kind`, in the order of the file: under the name
    that the client asked for, through every filter that its own candidates went through. Whom the key may not use, who
    cannot do it and who is ejected is left out. Who was tried already may be among them."""
    policy = failed.policy
    rule = rules.first(policy.rules, call.request, call) if policy.rules else None
    policy = policy if rule is None else rules.changed(policy, rule)
    return tuple(opened(call.request, call, failed.model, policy, kind, catalog, health, trace))


def opened(
    request: Request,
    call: Call | None,
    name: str,
    policy: Policy,
    kind: str,
    catalog: Catalog,
    health: Health,
    trace: Trace | None,
) -> list[Candidate]:
    """The same before anybody failed. Nobody where the client wants no fallbacks, whoever else is on its `order`."""
    found: list[Candidate] = []
    if call is not None and call.preferences is not None and call.preferences.allow_fallbacks is False:
        return found
    now = 0.0 if call is None else call.started
    for model in policy.fallbacks.get(kind, ()):
        group = catalog.group(model, request.operation)
        wanted = eligibility.needs(
            request, call, regions=policy.regions, tags=policy.with_tags, shortest=group.context_tokens
        )
        candidates = [
            msgspec.structs.replace(one, model=name, policy=policy)
            for one in group.led.get(model, ())
            if request.operation in one.deployment.serves
        ]
        found += [
            one
            for one in eligibility.keep(candidates, wanted, trace)
            if health.ejected(one.deployment, now) is None
            and (call is None or permit.may_use(call.caller, one, catalog))
        ]
    return found
