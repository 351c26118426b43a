"""How busy the worker that answers is: its door, its credentials, what runs beside its calls."""

from decimal import Decimal

from pydantic import BaseModel, Field


class DoorState(BaseModel):
    """Requests at the door of this worker."""

    inside: int = Field(description="Being served.")
    waiting: int = Field(description="Waiting to be let in.")
    lagging: bool = Field(description="The event loop is late; nobody new is let in.")


class CredentialState(BaseModel):
    """One credential, as this worker sees it."""

    account: str
    running: int = Field(description="Calls of this worker.")
    waiting: int = Field(description="Calls of this worker that wait for a slot.")
    refused: int = Field(description="Calls that found the queue full, since the start.")
    max_concurrency: int | None = Field(description="The vendor's limit; null: none is known.")
    share: int | None = Field(description="This host's part of it, where several nodes share it.")
    window: int | None = Field(description="What was learnt that this worker may use; null: nothing was learnt.")
    shrinks: int = Field(description="How often the vendor said that it was too much.")


class HedgeState(BaseModel):
    """A route with second attempts."""

    route: str
    calls: int
    made: int = Field(description="Second attempts.")
    won: int = Field(description="Of these, the quicker ones.")


class ShadowState(BaseModel):
    """A route with copies."""

    route: str
    model: str
    copies: int
    skipped: int = Field(description="Drawn, and not sent: the money of the day is spent, or too many are under way.")
    running: int
    spent_rub: Decimal = Field(description="Of today, with what running copies are expected to cost.")
    max_rub_per_day: Decimal


class Pressure(BaseModel):
    """All of it."""

    door: DoorState
    credentials: list[CredentialState]
    hedges: list[HedgeState]
    shadows: list[ShadowState]
