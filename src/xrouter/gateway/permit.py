"""What of a plan the caller's key may use: endpoints and models. Pure.

A model is allowed by the name that leads to it (an id or an alias that is served here) or by its deployment's id. A
name that nobody serves, and that became the default model, allows nothing: else `cheap/*` would open whatever that is.
"""

from functools import lru_cache

from xrouter.core.call import Call, Caller
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Forbidden
from xrouter.core.globs import match_any
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.route import Candidate


def narrow(call: Call, plan: tuple[Candidate, ...], catalog: Catalog) -> tuple[Candidate, ...]:
    """The candidates that the key allows, in their order. Raises `Forbidden`, which says what it does allow."""
    caller, operation = call.caller, call.request.operation
    if caller.operations is not None and operation not in caller.operations:
        allowed = ", ".join(sorted(caller.operations)) or "nothing"
        raise Forbidden(
            f"The API key '{caller.name}' may not be used for {operation.value}, only for: {allowed}.",
            code="operation_not_allowed",
        )
    if not caller.models:
        return plan
    found = tuple([one for one in plan if _may_use(caller, one.model, one.deployment, catalog)])
    if not found:
        raise refusal(caller, call.request.model)
    return found


def sees(caller: Caller, name: str, deployments: tuple[Deployment, ...], catalog: Catalog) -> bool:
    """Does a model belong on the list that this key gets?"""
    return any(
        (caller.operations is None or not one.serves.isdisjoint(caller.operations))
        and (not caller.models or _may_use(caller, name, one, catalog))
        for one in deployments
    )


def refusal(caller: Caller, model: str) -> Forbidden:
    """The error for a model that the key may not use."""
    allowed = ", and of these ".join(", ".join(group) or "none" for group in caller.models)
    return Forbidden(
        f"The API key '{caller.name}' may not use the model '{model[:200]}'. It may use: {allowed or 'any'}"
        + ("." if caller.operations is None else f"; for: {', '.join(sorted(caller.operations)) or 'nothing'}."),
        code="model_not_allowed",
        param="model",
    )


def _may_use(caller: Caller, name: str, deployment: Deployment, catalog: Catalog) -> bool:
    found = deployment.id
    if catalog.simulated:  # `id+fault` is the model `id`
        name, found = name.partition("+")[0], found.partition("+")[0]
    return _match(caller.models, found, name if name in catalog.served else found)


@lru_cache(maxsize=10_000)
def _match(groups: tuple[tuple[str, ...], ...], one: str, other: str) -> bool:
    return all(match_any(group, one) or match_any(group, other) for group in groups)
