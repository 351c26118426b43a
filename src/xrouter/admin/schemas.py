"""What the admin API takes and gives. Field names are stable; money is an exact decimal number in roubles."""

from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from xrouter.admin.times import Time, written
from xrouter.core.api_key import NAME_PATTERN
from xrouter.core.call import Phase, State
from xrouter.core.money import rub_text
from xrouter.core.records import AttemptRecord

Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=NAME_PATTERN)]
Roubles = Annotated[Decimal, WithJsonSchema({"type": "number", "description": "Exact decimal, roubles."})]
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Item = TypeVar("Item")

_encoder = msgspec.json.Encoder(decimal_format="number")


def answer(body: BaseModel, status: int = 200) -> Response:
    """`body` as JSON with exact decimals: pydantic alone would write them as strings or floats."""
    return Response(_encoder.encode(body.model_dump()), status, media_type="application/json")


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(_Input):
    limit: int = Field(50, ge=1, le=200)
    cursor: Text | None = Field(None, description="`next_cursor` of the page before.")


class AccountQuery(PageQuery):
    organisation_id: Text | None = None
    team_id: Text | None = None


class KeyQuery(AccountQuery):
    user_id: Text | None = None


class AttemptQuery(PageQuery):
    since: Time | None = Field(None, description="Attempts that started at or after this time.")
    until: Time | None = Field(None, description="Attempts that started before this time.")
    call_id: Text | None = None
    request_id: Text | None = None
    client_request_id: Text | None = None
    key_id: Text | None = None
    state: State | None = None
    model: Text | None = None
    deployment: Text | None = None
    end_user: Text | None = Field(None, description="The pseudonym that the attempts have.")


class Listing(BaseModel, Generic[Item]):
    """One page, newest first."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next_cursor: str | None


class AttemptUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int


class AttemptRow(BaseModel):
    """One upstream call as it stands in the books."""

    object: Literal["attempt"] = "attempt"
    id: str
    call_id: str
    request_id: str
    client_request_id: str | None
    key_id: str
    number: int
    model: str
    deployment: str
    provider: str
    upstream_model: str
    dialect: str
    streamed: bool
    owner: str
    state: State
    phase: Phase
    started_at: Timestamp
    first_content_at: Timestamp | None
    ended_at: Timestamp | None
    upstream_status: int | None
    upstream_request_id: str | None
    usage: AttemptUsage
    estimated: bool
    cost_rub: Roubles
    currency: Literal["RUB"] = "RUB"
    unpriced: bool
    finish_reason: str | None
    error: str | None
    end_user: str | None
    on_operator: bool = Field(description="The operator pays for it: the client had nothing of it.")


def attempt_row(record: AttemptRecord) -> AttemptRow:
    return AttemptRow(
        id=record.id,
        call_id=record.call_id,
        request_id=record.request_id,
        client_request_id=record.client_request_id,
        key_id=record.key_id,
        number=record.number,
        model=record.model,
        deployment=record.deployment,
        provider=record.provider,
        upstream_model=record.upstream_model,
        dialect=record.dialect,
        streamed=record.streamed,
        owner=record.owner,
        state=record.state,
        phase=Phase(record.phase),
        started_at=written(record.started_at),
        first_content_at=_written(record.first_content_at),
        ended_at=_written(record.ended_at),
        upstream_status=record.upstream_status,
        upstream_request_id=record.upstream_request_id,
        usage=AttemptUsage(
            prompt_tokens=record.input_tokens,
            completion_tokens=record.output_tokens,
            cached_tokens=record.cached_tokens,
            reasoning_tokens=record.reasoning_tokens,
            total_tokens=record.input_tokens + record.output_tokens,
        ),
        estimated=record.estimated,
        cost_rub=Decimal(rub_text(record.cost_micro)),
        unpriced=record.unpriced,
        finish_reason=record.finish_reason,
        error=record.error,
        end_user=record.end_user,
        on_operator=record.on_operator,
    )


def _written(seconds: float | None) -> str | None:
    return None if seconds is None else written(seconds)
