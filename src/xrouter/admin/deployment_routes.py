"""How each deployment does, as the worker that answers sees it."""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Annotated, Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from xrouter.admin.desk import Desk, installation_only
from xrouter.admin.schemas import Timestamp, answer
from xrouter.admin.times import written
from xrouter.core.call import Caller
from xrouter.core.clock import Clock
from xrouter.gateway.health import Station

Stations = Callable[[], Iterable[Station]]


class DeploymentRow(BaseModel):
    """One deployment. Seconds are numbers; what is not known yet is null."""

    id: str
    provider: str
    account: str = Field(description="The credential, `provider#name`; the provider where it has one only.")
    kind: str
    base_url: str | None
    state: Literal["closed", "open", "half_open"] = Field(
        description="`closed`: it gets traffic. `open`: it gets none. `half_open`: one call at a time tries it."
    )
    ejected: str | None = Field(description="Why it gets no traffic at present.")
    until: Timestamp | None
    told_by_others: bool
    ejections: int = Field(description="In a row.")
    in_flight: int
    succeeded: int = Field(description="Since this worker's start, as the two below.")
    failed: int
    failures: int = Field(description="In a row.")
    last_failure_at: Timestamp | None
    ttft_s: float | None = Field(description="What is expected of the next call: slow answers count at once.")
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tokens_per_s: float | None


class Deployments(BaseModel):
    object: Literal["list"] = "list"
    data: list[DeploymentRow]


def add_deployments(app: FastAPI, desk: Desk, stations: Stations) -> None:
    @app.get("/admin/deployments", response_model=Deployments, operation_id="list_deployments")
    async def list_deployments(caller: Annotated[Caller, desk.admin]) -> Response:
        """How each deployment does: whether it gets traffic, why not and until when, and how fast it is. As the worker
        that answers sees it; ejections reach the others within a second."""
        installation_only(caller, "Deployments", "see")
        return answer(Deployments(data=[_row(one, desk.clock) for one in stations()]))


def _row(station: Station, clock: Clock) -> DeploymentRow:
    deployment, vitals, now = station.deployment, station.vitals, clock.monotonic()
    state = station.breaker.state(now)
    out = vitals.ejected if vitals.ejected_until > now else None

    def wall(monotonic: float) -> str | None:
        return written(clock.now() + monotonic - now) if isfinite(monotonic) else None

    return DeploymentRow(
        id=deployment.id,
        provider=deployment.provider,
        account=deployment.speaker,
        kind=deployment.kind,
        base_url=deployment.base_url or None,
        state=state.name,
        ejected=out,
        until=None if out is None else wall(vitals.ejected_until),
        told_by_others=out is not None and (station.adopted or station.rest_adopted),
        ejections=state.ejections,
        in_flight=vitals.in_flight,
        succeeded=vitals.succeeded,
        failed=vitals.failed,
        failures=vitals.failures,
        last_failure_at=wall(vitals.last_failure_at),
        ttft_s=_rounded(vitals.ttft_s),
        ttft_p50_s=_rounded(vitals.ttft_samples.percentile(0.5)),
        ttft_p95_s=_rounded(vitals.ttft_samples.percentile(0.95)),
        tokens_per_s=_rounded(vitals.tokens_per_s),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
