"""Plans in the database: those that somebody made, and built-in ones that somebody changed. The other built-in plans
are in `core/accounts.py` only."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from xrouter.core.accounts import BUILT_IN_PLANS, Plan
from xrouter.core.clock import Clock
from xrouter.core.errors import Conflict, Invalid
from xrouter.core.ids import ulid
from xrouter.core.records import Page, PlanSpec
from xrouter.stores.sql import account_rows, key_pictures
from xrouter.stores.sql.cursors import cursor_after, read_cursor
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.places import next_version
from xrouter.stores.sql.schema import accounts, api_keys, plans

_KIND: Final = b"p"
_MOST_PLANS: Final = 1_000

Edit = Callable[[Plan], PlanSpec]


class SqlPlans:
    """The port `PlanAdmin` over table `plans`. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, clock: Clock, learn: Callable[[key_pictures.Picture], None]) -> None:
        self._database = database
        self._clock = clock
        self._learn = learn

    async def make(self, spec: PlanSpec) -> Plan:
        """A new plan. Raises `Conflict` for a name that another one has, and beyond 1,000 plans."""
        now = self._clock.now()
        one = Plan(ulid(), spec.name, spec.limits, now, now, spec.disabled)
        return self._written(await self._database.write(partial(_insert, one)))

    async def get(self, plan_id: str) -> Plan | None:
        return (await self.all()).get(plan_id)

    async def all(self) -> dict[str, Plan]:
        """Every plan by id, the built-in ones last, the others newest first: there are few."""
        return await self._database.read(_all)

    async def page(self, cursor: str | None, limit: int) -> Page[Plan]:
        """Newest first. Raises ValueError for a cursor that we did not make."""
        found = list((await self.all()).values())
        if cursor is not None:
            after = read_cursor(_KIND, cursor)
            found = [one for one in found if (one.created_at, one.id) < after]
        items = tuple(found[:limit])
        more = len(found) > limit
        return Page(items, cursor_after(_KIND, items[-1].created_at, items[-1].id) if more else None)

    async def change(self, plan_id: str, edit: Edit) -> Plan | None:
        """Make it what `edit` makes of it, inside the transaction; None when there is none. Whoever has the plan has
        the new limits at once."""
        picture = await self._database.write(partial(_change, plan_id, edit, self._clock.now()))
        return None if picture is None else self._written(picture)

    async def remove(self, plan_id: str) -> Plan | None:
        """Delete it; None when there is none. Raises `Conflict` for a built-in one, and while anybody has it."""
        return await self._database.write(partial(_remove, plan_id))

    def _written(self, picture: key_pictures.Picture) -> Plan:
        self._learn(picture)
        return account_rows.plan(picture.plans[0])


def _all(connection: Connection) -> dict[str, Plan]:
    stored = {row.id: account_rows.plan(row) for row in connection.execute(select(plans))}
    found = BUILT_IN_PLANS | stored
    return dict(sorted(found.items(), key=lambda item: (item[1].created_at, item[0]), reverse=True))


def _insert(one: Plan, connection: Connection) -> key_pictures.Picture:
    version = next_version(connection)
    known = _all(connection)
    if len(known) >= _MOST_PLANS:
        raise Conflict(f"There are {_MOST_PLANS} plans already; delete one that nobody has.", code="too_many_plans")
    _check_name(one, known)
    values = account_rows.plan_values(one)
    row = connection.execute(insert(plans).values(version=version, **values).returning(plans)).one()
    return key_pictures.Picture(version, plans=[row])


def _change(plan_id: str, edit: Edit, now: float, connection: Connection) -> key_pictures.Picture | None:
    version = next_version(connection)
    known = _all(connection)
    before = known.get(plan_id)
    if before is None:
        return None
    spec = edit(before)
    one = Plan(plan_id, spec.name, spec.limits, before.created_at, now, spec.disabled)
    _check_name(one, known)
    values: dict[str, Any] = account_rows.plan_values(one) | {"version": version}
    stored = connection.execute(select(plans.c.id).where(plans.c.id == plan_id)).first() is not None
    change = update(plans).where(plans.c.id == plan_id) if stored else insert(plans)
    row = connection.execute(change.values(**values).returning(plans)).one()
    return key_pictures.Picture(version, plans=[row])


def _remove(plan_id: str, connection: Connection) -> Plan | None:
    next_version(connection)  # nobody is given it meanwhile
    found = _all(connection).get(plan_id)
    if found is None:
        return None
    if plan_id in BUILT_IN_PLANS:
        raise Conflict(f"The plan '{found.name}' is built in: disable it instead.", code="built_in")
    for table in (api_keys, accounts):
        if connection.execute(select(table.c.id).where(table.c.plan_id == plan_id).limit(1)).first() is not None:
            raise Conflict(f"Somebody still has the plan '{found.name}': disable it instead.", code="still_in_use")
    connection.execute(delete(plans).where(plans.c.id == plan_id))
    return found


def _check_name(one: Plan, known: dict[str, Plan]) -> None:
    if one.name.casefold() == "none":
        raise Invalid("No plan is called 'none': the command line takes a plan away by that word.", param="name")
    if any(other.name == one.name and other.id != one.id for other in known.values()):
        raise Conflict(f"Another plan is called '{one.name}' already.", param="name", code="name_taken")
