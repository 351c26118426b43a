"""What the caller's key may use: endpoints and models. Pure.

A model is allowed by the name that leads to it (an id or an alias that is served here) or by its deployment's id. A
name that nobody serves, and that became the default model, allows nothing: else `cheap/*` would open whatever that is.
"""

from functools import lru_cache

from xrouter.core.call import Call, Caller
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Forbidden
from xrouter.core.globs import match_any
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog


def restricts(caller: Caller) -> bool:
    """May the key not use everything?"""
    return bool(caller.models) or caller.operations is not None


def check_operation(call: Call) -> None:
    """Raises `Forbidden` for an endpoint that the key is not for."""
    caller, operation = call.caller, call.request.operation
    if caller.operations is not None and operation not in caller.operations:
        allowed = ", ".join(sorted(caller.operations)) or "nothing"
        raise Forbidden(
            f"The API key '{caller.name}' may not be used for {operation.value}, only for: {allowed}.",
            code="operation_not_allowed",
        )


def may_use(caller: Caller, candidate: Candidate, catalog: Catalog) -> bool:
    """Is the candidate within what the key may use?"""
    return not caller.models or _may_use(caller, candidate.model, candidate.deployment, catalog)


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
    """By the name that was asked for, or by the deployment's own. A model's own id allows that model only, whatever its
    route may lead to besides."""
    found = deployment.id
    if catalog.simulated:  # `id+fault` is the model `id`
        found = found.partition("+")[0]
    name = catalog.plain(name)  # and `name:floor` is `name`
    if name not in catalog.served or name in catalog.ids:
        name = found
    return _match(caller.models, found, name)


@lru_cache(maxsize=10_000)
def _match(groups: tuple[tuple[str, ...], ...], one: str, other: str) -> bool:
    return all(match_any(group, one) or match_any(group, other) for group in groups)
