"""`GET /api/v1/generation/{id}/route`: why a call went where it went, and what became of each attempt."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Path, Response
from pydantic import BaseModel

from xrouter.admin.desk import Desk, generation_of
from xrouter.admin.schemas import Timestamp, answer
from xrouter.admin.times import written
from xrouter.core.call import Caller, Scope
from xrouter.core.decision import Explanation
from xrouter.core.records import AttemptRecord

Explain = Callable[[bytes], Awaitable[Explanation]]

_CallId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


class RouteAttempt(BaseModel):
    """`latency_ms` is to its first content, or to its end where none came; `duration_ms` is all of it."""

    number: int
    deployment: str
    provider: str
    state: str
    phase: str
    status: int | None
    error: str | None
    started_at: Timestamp
    latency_ms: int | None
    duration_ms: int | None


class RouteData(BaseModel):
    """`decision` is null where there was nothing to decide: one deployment, and nobody had asked to explain it.
    Its fields are in docs/explain.md."""

    id: str
    model: str
    decided_at: Timestamp
    decision: dict[str, Any] | None
    attempts: list[RouteAttempt]


class Route(BaseModel):
    object: Literal["route"] = "route"
    data: RouteData


def add_route(app: FastAPI, desk: Desk, explain: Explain) -> None:
    """Put the routes up: one for whoever called, one for admins."""

    @app.get("/api/v1/generation/{generation_id}/route", response_model=Route, operation_id="get_generation_route")
    async def get_generation_route(generation_id: _CallId, caller: Annotated[Caller, desk.models]) -> Response:
        """Why a call went where it went. Whoever may see a generation may see its route."""
        return answer(await _route(desk, caller, generation_id, explain))

    @app.get("/admin/generations/{generation_id}/route", response_model=Route, operation_id="get_route")
    async def get_route(generation_id: _CallId, caller: Annotated[Caller, desk.admin]) -> Response:
        """The same for admins."""
        return answer(await _route(desk, caller, generation_id, explain))


async def _route(desk: Desk, caller: Caller, generation_id: str, explain: Explain) -> Route:
    found = await generation_of(desk, caller, generation_id, "generation_id")
    decision = next((one.decision for one in found if one.decision is not None), None)
    told = None if decision is None else await explain(decision)
    if told is not None and not caller.may(Scope.ADMIN):
        told = told.without_forbidden()
    return Route(
        data=RouteData(
            id=found[0].call_id,
            model=found[0].model,
            decided_at=written(found[0].started_at),
            decision=None if told is None else msgspec.to_builtins(told),
            attempts=[_attempt(one) for one in found],
        )
    )


def _attempt(one: AttemptRecord) -> RouteAttempt:
    sign = one.ended_at if one.first_content_at is None else one.first_content_at
    return RouteAttempt(
        number=one.number,
        deployment=one.deployment,
        provider=one.provider,
        state=one.state.value,
        phase=one.phase,
        status=one.upstream_status,
        error=one.error,
        started_at=written(one.started_at),
        latency_ms=_ms(one.started_at, sign),
        duration_ms=_ms(one.started_at, one.ended_at),
    )


def _ms(since: float, until: float | None) -> int | None:
    return None if until is None else max(0, round((until - since) * 1000))
