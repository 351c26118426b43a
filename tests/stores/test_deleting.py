"""Deleting accounts: a user goes at any time, with the secrets of all keys; the books keep what they did."""

from typing import Any

import pytest
from sqlalchemy import Connection, select
from tests.stores.test_accounts import Family, Worker

from xrouter.core.accounts import Account, Kind, Place
from xrouter.core.clock import ManualClock
from xrouter.core.errors import Conflict, NotFound
from xrouter.core.records import AccountSpec, KeySpec
from xrouter.core.standing import Standing, ids_above, standing_of_account, standing_of_key
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.schema import api_keys


@pytest.fixture
def worker(database: Database, clock: ManualClock) -> Worker:
    return Worker(database, clock)


@pytest.fixture
def other(database: Database, clock: ManualClock) -> Worker:
    return Worker(database, clock)


async def gone(worker: Worker, one: Account) -> None:
    removed = await worker.accounts.remove(one.kind, one.id)
    assert removed is not None
    assert removed.name == one.name
    assert await worker.accounts.get(one.kind, one.id) is None


async def test_a_deleted_user_takes_every_key_along_on_every_worker(
    worker: Worker, other: Worker, database: Database
) -> None:
    family = await Family.make(worker)
    rotated = await worker.keys.rotate(family.key_id, 3600)
    assert rotated is not None
    texts = (family.text, rotated.text.reveal())
    for text in texts:
        for one in (worker, other):
            assert not (await one.caller(text)).disabled
    await other.keys.refresh()
    await gone(worker, family.user)
    await other.keys.refresh()
    for text in texts:
        for one in (worker, other):
            assert one.keys.known(text) is None
            assert await one.keys.look_up(text) is None, "it is as unknown as if it had never been"
    record = await worker.keys.get(family.key_id)
    assert record is not None
    assert (record.disabled, record.user_id) == (True, family.user.id), "the books still know whose it was"
    assert standing_of_key(record, {}, 0.0)[0] is Standing.DELETED

    def digests(connection: Connection) -> list[Any]:
        return [tuple(row) for row in connection.execute(select(api_keys.c.digest, api_keys.c.former_digest))]

    ((digest, former),) = await database.read(digests)
    assert former is None
    assert digest not in {worker.keys._digest(text) for text in texts}


async def test_a_deleted_key_neither_comes_back_nor_stands_in_the_way(worker: Worker) -> None:
    family = await Family.make(worker, plan_id="pro")
    await gone(worker, family.user)
    with pytest.raises(Conflict, match="was deleted"):
        await worker.set_key(family.key_id, disabled=False)
    with pytest.raises(Conflict, match="was deleted"):
        await worker.keys.rotate(family.key_id, 0)
    await worker.set_key(family.key_id, disabled=True)  # disabling may be repeated
    await gone(worker, family.team)
    await gone(worker, family.organisation)
    with pytest.raises(NotFound):
        await worker.keys.make(KeySpec(name="x", user_id=family.user.id), "test")


async def test_teams_and_organisations_go_when_nothing_below_them_works_any_more(
    worker: Worker, clock: ManualClock
) -> None:
    family = await Family.make(worker)
    with pytest.raises(Conflict, match="still has teams or users: delete them first"):
        await worker.accounts.remove(Kind.ORGANISATION, family.organisation.id)
    with pytest.raises(Conflict, match="still has users"):
        await worker.accounts.remove(Kind.TEAM, family.team.id)
    await gone(worker, family.user)
    key = await worker.keys.make(KeySpec(name="ci", team_id=family.team.id), "test")
    ends = await worker.keys.make(KeySpec(name="short", team_id=family.team.id, expires_at=clock.now() + 5), "test")
    with pytest.raises(Conflict, match=r"still has keys that work, such as '(ci|short)'"):
        await worker.accounts.remove(Kind.TEAM, family.team.id)
    await worker.keys.disable(key.record.id)
    with pytest.raises(Conflict, match="such as 'short'"):
        await worker.accounts.remove(Kind.TEAM, family.team.id)
    clock.advance(6)
    await gone(worker, family.team)
    for one in (key, ends):
        record = await worker.keys.get(one.record.id)
        assert record is not None
        assert record.deleted_at == clock.now()
    await gone(worker, family.organisation)


async def test_names_are_taken_once_at_each_place(worker: Worker) -> None:
    family = await Family.make(worker)
    make = worker.accounts.make
    second = await make(Kind.ORGANISATION, AccountSpec(name="second"), Place())
    for kind, above in (
        (Kind.ORGANISATION, Place()), (Kind.TEAM, family.organisation.place), (Kind.USER, family.team.place),
    ):  # fmt: skip
        name = {Kind.ORGANISATION: family.organisation.name, Kind.TEAM: "payments", Kind.USER: "anna"}[kind]
        with pytest.raises(Conflict) as caught:
            await make(kind, AccountSpec(name=name), above)
        assert (caught.value.code, caught.value.param) == ("name_taken", "name")
    with pytest.raises(Conflict):
        await worker.set(second, name=family.organisation.name)
    assert (await worker.set(second, name="second", disabled=True)).disabled, "its own name is no other's"
    await make(Kind.TEAM, AccountSpec(name="payments"), second.place)
    team = await make(Kind.TEAM, AccountSpec(name="other"), family.organisation.place)
    await make(Kind.USER, AccountSpec(name="anna"), team.place)
    loner = await make(Kind.USER, AccountSpec(name="anna"), family.organisation.place)
    with pytest.raises(Conflict):
        await make(Kind.USER, AccountSpec(name="anna"), family.organisation.place)
    await gone(worker, loner)
    await make(Kind.USER, AccountSpec(name="anna"), family.organisation.place)


async def test_the_state_that_is_shown_is_the_one_that_calls_meet(worker: Worker, clock: ManualClock) -> None:
    family = await Family.make(worker, expires_at=clock.now() + 60)

    async def state() -> tuple[str, str | None]:
        record = await worker.keys.get(family.key_id)
        assert record is not None
        found = standing_of_key(record, await worker.accounts.named(ids_above(record.place)), clock.now())
        caller = await worker.caller(family.text)
        works = not caller.disabled and (caller.expires_at is None or caller.expires_at > clock.now())
        assert works is (found[0] is Standing.ACTIVE)
        return found

    assert await state() == ("active", None)
    for one, words in (
        (family.user, "its user 'anna' is disabled"),
        (family.team, "its team 'payments' is disabled"),
        (family.organisation, f"its organisation '{family.organisation.name}' is disabled"),
    ):
        await worker.set(one, disabled=True)
        assert await state() == ("disabled", words)
    above = await worker.accounts.named([family.organisation.id, family.team.id])
    assert standing_of_account(family.team, above) == (
        "disabled", f"its organisation '{family.organisation.name}' is disabled",
    )  # fmt: skip
    for one in (family.user, family.team, family.organisation):
        await worker.set(one, disabled=False)
    await worker.set_key(family.key_id, disabled=True)
    assert await state() == ("disabled", "the key itself is disabled")
    await worker.set_key(family.key_id, disabled=False)
    clock.advance(61)
    assert (await state())[0] == "expired"
