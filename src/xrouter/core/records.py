"""What the books hold: keys and attempts as they are stored, listed and shown."""

from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

from msgspec import Struct

from xrouter.core.accounts import ANYWHERE, Account, Allowance, Kind, Place, own_place
from xrouter.core.call import Scope, State
from xrouter.core.operation import Operation
from xrouter.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """What may be said of a key, when it is made and later. `core/rights.py` has a rule for each field.

    `expires_at` is seconds since the epoch. `models` are globs over model ids, `operations` the endpoints, `networks`
    CIDR; None allows all that those above allow. The limits are its plan's, where `limits` does not override them.
    """

    name: str
    scopes: frozenset[Scope] = frozenset({Scope.MODELS})
    expires_at: float | None = None
    disabled: bool = False
    organisation_id: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    plan_id: str | None = None
    limits: tuple[Allowance, ...] = ()
    models: tuple[str, ...] | None = None
    operations: frozenset[Operation] | None = None
    networks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord(KeySpec):
    """An API key without its secret. `id` is public, `last4` helps a person to recognise it; times are
    seconds since the epoch. `disabled` keys answer 401 like unknown ones. Until `former_until` the secret before the
    last rotation works, too. What was deleted at `deleted_at` has no secret any more: its row stays for the books."""

    id: str
    last4: str
    created_at: float
    created_by: str
    updated_at: float
    former_until: float | None = None
    deleted_at: float | None = None

    @property
    def place(self) -> Place:
        return Place(self.organisation_id, self.team_id, self.user_id)

    @property
    def spec(self) -> KeySpec:
        """What may be changed of it."""
        return KeySpec(**{field.name: getattr(self, field.name) for field in fields(KeySpec)})


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """What may be said of an organisation, a team or a user. Its place is no part of it: that is where it is made."""

    name: str
    disabled: bool = False
    plan_id: str | None = None
    limits: tuple[Allowance, ...] = ()
    models: tuple[str, ...] | None = None
    operations: frozenset[Operation] | None = None
    networks: tuple[str, ...] | None = None

    @classmethod
    def of(cls, account: Account) -> "AccountSpec":
        return cls(**{field.name: getattr(account, field.name) for field in fields(cls)})

    def account(self, kind: Kind, account_id: str, above: Place, now: float) -> Account:
        """A new account of this kind, below `above`."""
        place = own_place(kind, account_id, above)
        return Account(kind, account_id, place=place, created_at=now, updated_at=now, **self._said())

    def changed(self, account: Account, now: float) -> Account:
        return replace(account, updated_at=now, **self._said())

    def _said(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(AccountSpec)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """What may be said of a plan."""

    name: str
    limits: tuple[Allowance, ...] = ()
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
    epoch. `phase` is how far the attempt came (see `core.call.Phase`). `end_user` is a pseudonym
    (docs/accounts.md). `on_operator`: the client had nothing of it, and its cost is no part of what the key has spent.
    `decision` is what its call's route was chosen from, packed (`core/decision.py`): only on the first attempt, and
    where there was something to choose.
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
    end_user: str | None = None
    on_operator: bool = False
    decision: bytes | None = None


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which attempts to list; None means any. `since` and `until` bound `started_at` (half-open); `within` is the place
    of the keys that made them."""

    since: float | None = None
    until: float | None = None
    call_id: str | None = None
    request_id: str | None = None
    client_request_id: str | None = None
    key_id: str | None = None
    state: State | None = None
    model: str | None = None
    deployment: str | None = None
    end_user: str | None = None
    within: Place = ANYWHERE


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, newest first. `next_cursor` fetches the following one; None on the last."""

    items: tuple[T, ...]
    next_cursor: str | None
