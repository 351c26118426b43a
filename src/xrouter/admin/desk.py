"""What the routes of the control plane share: the stores, whom each route lets in, and where a caller stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Query

from xrouter.admin import account_schemas as schemas
from xrouter.admin.schemas import PageQuery
from xrouter.core.accounts import Account, Kind, Place, Plan, nobody
from xrouter.core.call import Caller, Scope, State
from xrouter.core.clock import Clock
from xrouter.core.errors import Forbidden, Invalid, NotFound
from xrouter.core.ports import AccountAdmin, AttemptLog, KeyAdmin, PlanAdmin
from xrouter.core.records import AttemptRecord, KeyRecord, KeySpec, NewKey
from xrouter.core.standing import ids_above

ObjectId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Paging = Annotated[PageQuery, Query()]


@dataclass(frozen=True, slots=True)
class Desk:
    """`admin` and `models` are the dependencies that a route declares: whom it lets in."""

    keys: KeyAdmin
    accounts: AccountAdmin
    plans: PlanAdmin
    attempts: AttemptLog
    clock: Clock
    admin: Any
    models: Any

    async def maker(self, caller: Caller) -> tuple[KeySpec, Mapping[str, Plan]]:
        """The key that asks, as it stands in the database, and all plans: what `core/rights.py` compares with."""
        record = await self.keys.get(caller.key_id)
        if record is None:
            raise Forbidden("The API key that asks is no longer there.")
        return record.spec, await self.plans.all()

    async def above(self, records: Sequence[KeyRecord]) -> dict[str, Account]:
        """Everybody who stands above these keys, by id."""
        return await self.accounts.named({one for record in records for one in ids_above(record.place)})

    async def shown_key(self, record: KeyRecord) -> schemas.Key:
        return schemas.key(record, await self.above([record]), self.clock.now())

    async def fresh_key(self, made: NewKey) -> schemas.FreshKey:
        above = await self.above([made.record])
        return schemas.fresh_key(made.record, above, self.clock.now(), made.text.reveal())


def place_of(caller: Caller) -> Place:
    """Where the caller's key stands: its admin sees what is there and below, and nothing else exists for it."""
    return Place(caller.organisation_id, caller.team_id, caller.user_id)


def installation_only(caller: Caller, what: str, does: str = "change") -> None:
    """Raises `Forbidden` for the admin of an organisation."""
    if not place_of(caller).is_anywhere:
        raise Forbidden(f"{what} belong to the installation: its admins {does} them, whose keys have no organisation.")


async def within(
    desk: Desk, caller: Caller, organisation_id: str | None, team_id: str | None, user_id: str | None = None
) -> Place:
    """What a list shows: the part of the caller's place that is asked for. Raises `NotFound` for whoever is not there,
    or not for the caller."""
    own = place_of(caller)
    wanted = {Kind.ORGANISATION: organisation_id, Kind.TEAM: team_id, Kind.USER: user_id}
    found: dict[str, str | None] = {}
    for kind, value in wanted.items():
        field = f"{kind.value}_id"
        held: str | None = getattr(own, field)
        if value is not None and value != held:
            there = await desk.accounts.get(kind, value, own) if held is None else None
            if there is None:
                raise nobody(kind, value, field)
        found[field] = held if value is None else value
    return Place(**found)


def bad_cursor() -> Invalid:
    return Invalid("The cursor is not one that this API gave out.", param="cursor", code="invalid_cursor")


async def generation_of(desk: Desk, caller: Caller, generation_id: str, param: str) -> tuple[AttemptRecord, ...]:
    """The attempts of a call that has ended, as far as the caller may see it: a key its own calls, an admin's key those
    of the keys that it sees. Raises `NotFound`."""
    found = await desk.attempts.of_call(generation_id)
    if not found or not await _sees(desk, caller, found[0]):
        raise NotFound(f"No generation has the id '{generation_id}'.", param=param)
    if any(attempt.state is State.OPEN for attempt in found):
        raise NotFound(
            f"The generation '{generation_id}' still runs, or its outcome is on its way: ask again in a second.",
            param=param,
            code="generation_pending",
            retry_after_s=1.0,
        )
    return found


async def _sees(desk: Desk, caller: Caller, attempt: AttemptRecord) -> bool:
    if attempt.key_id == caller.key_id:
        return True
    place = place_of(caller)
    if not caller.may(Scope.ADMIN):
        return False
    return place.is_anywhere or await desk.keys.get(attempt.key_id, place) is not None
