"""Which deployments may serve a request, and in which order. Pure."""

from msgspec import Struct

from xrouter.core.call import Request
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Invalid
from xrouter.core.operation import Operation
from xrouter.gateway.catalog import Catalog

_MOST_NAMES = 5


class Candidate(Struct, frozen=True, eq=False):
    """A deployment, and the client's own name (`model`) that led to it. Compared by identity: one plan, one object.
    `may_continue`: an answer of it that breaks off may be gone on with."""

    model: str
    deployment: Deployment
    may_continue: bool = True


def plan(request: Request, catalog: Catalog) -> tuple[Candidate, ...]:
    """The candidates in order: those of `model`, then those of each entry of `models`, each deployment once, as far
    as they do what is asked for.

    Raises `NotFound` for an unknown model, in whichever of the two fields it stands, and `Invalid` where none of the
    known ones can do it.
    """
    model, operation = request.model, request.operation
    if not request.models:  # the catalog holds each deployment of a model once
        served = catalog.deployments(model, operation)
        found = tuple([Candidate(model, one) for one in served if operation in one.serves])
        return found or _refuse(request, served, catalog)
    wanted = {model: "model"}
    for index, name in enumerate(request.models):
        wanted.setdefault(name, f"models[{index}]")
    each: dict[int, Candidate] = {}
    for name, param in wanted.items():
        for deployment in catalog.deployments(name, operation, param):
            each.setdefault(id(deployment), Candidate(name, deployment))
    able = tuple(one for one in each.values() if operation in one.deployment.serves)
    return able or _refuse(request, tuple(one.deployment for one in each.values()), catalog)


def _refuse(request: Request, served: tuple[Deployment, ...], catalog: Catalog) -> tuple[Candidate, ...]:
    """Raises the `Invalid` that says what the model does do, and who does what was asked for."""
    operation = request.operation
    does = sorted({done.value for deployment in served for done in deployment.serves})
    able = _able(operation, catalog)
    more = f", and {len(able) - _MOST_NAMES} more" if len(able) > _MOST_NAMES else ""
    others = f"models for it: {', '.join(able[:_MOST_NAMES])}{more}" if able else "no model here does"
    raise Invalid(
        f"The model '{request.model[:200]}' does {', '.join(does)}, not {operation.value}; {others}.",
        code="model_not_supported",
        param="model",
    )


def _able(operation: Operation, catalog: Catalog) -> list[str]:
    return [name for name, found in catalog.served.items() if any(operation in one.serves for one in found)]
