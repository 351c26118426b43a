"""Who stands where: the conditions and checks that keep every account and key in its place.

A transaction that changes a key, an account or a plan takes its version first, and holds that row until its commit: of
two changes the second one sees what the first one did, so nobody is given a place that is just being taken away.
"""

from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, select, update

from xrouter.core.accounts import BUILT_IN_PLANS, Kind, Place, nobody
from xrouter.core.errors import Invalid, NotFound
from xrouter.core.records import KeyRecord, KeySpec
from xrouter.stores.sql.schema import accounts, key_version, plans

_Wanted = TypeVar("_Wanted", bound=Select[Any])


def next_version(connection: Connection) -> int:
    """The number of the change that this transaction makes."""
    version: int = connection.execute(
        update(key_version).values(version=key_version.c.version + 1).returning(key_version.c.version)
    ).scalar_one()
    return version


def below(query: _Wanted, table: Table, within: Place) -> _Wanted:
    """`query` for what is `within` or below it."""
    for name in ("organisation_id", "team_id", "user_id"):
        wanted = getattr(within, name)
        if wanted is not None:
            query = query.where(table.c[name] == wanted)
    return query


def settled(connection: Connection, spec: KeySpec, within: Place, before: KeyRecord | None = None) -> KeySpec:
    """`spec` with the levels that its user or team implies.

    Raises `NotFound` for somebody who is not there, or not for whoever stands at `within`, `Invalid` for levels that
    do not belong together, and as `check_plan` does.
    """
    check_plan(connection, spec.plan_id, None if before is None else before.plan_id)
    place = settle(connection, Place(spec.organisation_id, spec.team_id, spec.user_id), within)
    if before is not None and place == before.place:
        _check_taken_away(spec, before)
    return replace(spec, organisation_id=place.organisation_id, team_id=place.team_id, user_id=place.user_id)


def settle(connection: Connection, place: Place, within: Place) -> Place:
    """The same for a place. Who is not there is said first: that two do not belong together says that both are."""
    named: list[tuple[Kind, str, Place]] = []
    for kind in (Kind.ORGANISATION, Kind.TEAM, Kind.USER):
        field = f"{kind.value}_id"
        wanted: str | None = getattr(place, field)
        if wanted is None:
            continue
        row = connection.execute(select(accounts).where(accounts.c.id == wanted, accounts.c.kind == kind)).one_or_none()
        if row is None or not _may_name(place_of(row), within):
            raise nobody(kind, wanted, field)
        named.append((kind, wanted, place_of(row)))
    for kind, wanted, implied in reversed(named):
        for other in ("organisation_id", "team_id"):
            theirs = getattr(implied, other)
            if theirs is not None and getattr(place, other) not in (None, theirs):
                raise Invalid(
                    f"The {kind.value} '{wanted}' belongs to another {other.removesuffix('_id')}.", param=other
                )
            if theirs is not None:
                place = replace(place, **{other: theirs})
    return place


def _check_taken_away(spec: KeySpec, before: KeyRecord) -> None:
    """A level that somebody below implies cannot be taken away by itself. Raises `Invalid`."""
    for kind in (Kind.ORGANISATION, Kind.TEAM):
        field = f"{kind.value}_id"
        if getattr(spec, field) is None and getattr(before, field) is not None:
            below = "user" if spec.user_id is not None else "team"
            raise Invalid(
                f"The key belongs to a {below} of this {kind.value}, and so to the {kind.value}: "
                f"take '{below}_id' away, too.",
                param=field,
            )


def check_plan(connection: Connection, plan_id: str | None, before: str | None) -> None:
    """Raises `NotFound` for a plan that is not there, `Invalid` for one that is disabled and was not had `before`."""
    if plan_id is None or plan_id == before:
        return
    row = connection.execute(select(plans).where(plans.c.id == plan_id)).one_or_none()
    if row is None and plan_id not in BUILT_IN_PLANS:
        raise NotFound(f"No plan has the id '{plan_id[:64]}'.", param="plan_id")
    if row is not None and row.disabled:
        raise Invalid(f"The plan '{row.name}' is disabled: it is given to nobody any more.", param="plan_id")


def place_of(row: Row[Any]) -> Place:
    return Place(row.organisation_id, row.team_id, row.user_id)


def _may_name(place: Place, within: Place) -> bool:
    """Whoever stands somewhere knows those below and those above."""
    return place.is_within(within) or within.is_within(place)
