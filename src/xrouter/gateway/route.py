"""Which deployments may serve a request, and in which order. Pure."""

from dataclasses import dataclass

from xrouter.core.chat import ChatRequest
from xrouter.core.deployment import Deployment
from xrouter.gateway.catalog import Catalog


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A deployment, and the client's own name (`model`) that led to it. Compared by identity: one plan, one object."""

    model: str
    deployment: Deployment


def plan(request: ChatRequest, catalog: Catalog) -> tuple[Candidate, ...]:
    """The candidates in order: those of `model`, then those of each entry of `models`, each deployment once.

    Raises `NotFound` for an unknown model, in whichever of the two fields it stands.
    """
    if not request.models:  # the catalog holds each deployment of a model once
        return tuple(Candidate(request.model, deployment) for deployment in catalog.deployments(request.model))
    wanted = {request.model: "model"}
    for index, name in enumerate(request.models):
        wanted.setdefault(name, f"models[{index}]")
    found: dict[int, Candidate] = {}
    for name, param in wanted.items():
        for deployment in catalog.deployments(name, param):
            found.setdefault(id(deployment), Candidate(name, deployment))
    return tuple(found.values())
