"""What the books hold: keys and attempts as they are stored, listed and shown."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec import Struct

from xrouter.core.call import Scope, State
from xrouter.core.secret import Secret


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key without its secret. `id` is public, `last4` helps a person to recognise it; times are
    seconds since the epoch. `disabled` keys answer 401 like unknown ones."""

    id: str
    name: str
    scopes: frozenset[Scope]
    last4: str
    created_at: float
    created_by: str
    expires_at: float | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment when its text is known."""

    record: KeyRecord
    text: Secret


class AttemptRecord(Struct, frozen=True):
    """One row of the books: one upstream call. The field names are the API's names.

    The journal holds these fields by their places, and the books have them as columns. A new field therefore goes
    last and has a default: what an older release has written must be read, and a running one reads what we write.

    `id` is the attempt's ULID (also sent upstream as `x-request-id`); `call_id` the public `chatcmpl-` id,
    `request_id` our own `x-request-id`, `client_request_id` the client's. `model` is what the client asked
    for, `upstream_model` what the vendor was asked for. Money is micro-roubles, times are seconds since the
    epoch. `phase` is how far the attempt came (see `core.call.Phase`).
    """

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
    phase: str
    started_at: float
    first_content_at: float | None = None
    ended_at: float | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost_micro: int = 0
    unpriced: bool = False
    finish_reason: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which attempts to list; None means any. `since` and `until` bound `started_at` (half-open)."""

    since: float | None = None
    until: float | None = None
    call_id: str | None = None
    request_id: str | None = None
    client_request_id: str | None = None
    key_id: str | None = None
    state: State | None = None
    model: str | None = None
    deployment: str | None = None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, newest first. `next_cursor` fetches the following one; None on the last."""

    items: tuple[T, ...]
    next_cursor: str | None
