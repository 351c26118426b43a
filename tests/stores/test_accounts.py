"""Accounts and plans in both databases: what they say is in force on every worker, and nothing old comes back."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from xrouter.core.accounts import Account, Allowance, Kind, Place
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import ManualClock
from xrouter.core.errors import Conflict, Forbidden, Invalid, NotFound, Overloaded
from xrouter.core.limits import MINUTE_S, Unit
from xrouter.core.operation import Operation
from xrouter.core.records import AccountSpec, KeySpec, PlanSpec
from xrouter.core.secret import Secret
from xrouter.stores.sql import account_rows, key_memory, key_pictures
from xrouter.stores.sql.accounts import SqlAccounts
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.places import next_version
from xrouter.stores.sql.plans import SqlPlans
from xrouter.stores.sql.schema import accounts, api_keys

PEPPER = Secret("pepper" * 8)
FIVE = Allowance(Unit.REQUESTS, 5, MINUTE_S)
_NUMBERS = count()


class Worker:
    """What one process holds: the stores, and the memory that answers calls."""

    def __init__(self, database: Database, clock: ManualClock, refresh_s: float = 0.01) -> None:
        self.keys = SqlKeys(database, PEPPER, clock, refresh_s)
        self.accounts = SqlAccounts(database, clock, self.keys.learn)
        self.plans = SqlPlans(database, clock, self.keys.learn)

    async def caller(self, text: str) -> Caller:
        found = self.keys.known(text) or await self.keys.look_up(text)
        assert found is not None
        return found

    async def set(self, one: Account, **fields: Any) -> Account:
        found = await self.accounts.change(one.kind, one.id, lambda account: replace(AccountSpec.of(account), **fields))
        assert found is not None
        return found

    async def set_key(self, key_id: str, **fields: Any) -> None:
        assert await self.keys.change(key_id, lambda record: replace(record.spec, **fields)) is not None

    async def set_plan(self, plan_id: str, *limits: Allowance) -> None:
        assert await self.plans.change(plan_id, lambda plan: PlanSpec(name=plan.name, limits=limits)) is not None

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.keys.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def worker(switchable: Any, clock: ManualClock) -> Worker:
    return Worker(switchable, clock)


@pytest.fixture
def other(database: Database, clock: ManualClock) -> Worker:
    return Worker(database, clock)


class Family:
    """An organisation with a team, a user and a key, and the key's text."""

    organisation: Account
    team: Account
    user: Account
    key_id: str
    text: str

    @classmethod
    async def make(cls, worker: Worker, **fields: Any) -> "Family":
        one, make = cls(), worker.accounts.make
        one.organisation = await make(Kind.ORGANISATION, AccountSpec(name=f"acme {next(_NUMBERS)}"), Place())
        one.team = await make(Kind.TEAM, AccountSpec(name="payments"), one.organisation.place)
        one.user = await make(Kind.USER, AccountSpec(name="anna"), one.team.place)
        made = await worker.keys.make(KeySpec(name="app", user_id=one.user.id, **fields), "test")
        one.key_id, one.text = made.record.id, made.text.reveal()
        return one


async def test_a_caller_holds_what_stands_above_its_key(worker: Worker) -> None:
    family = await Family.make(worker, plan_id="free")
    await worker.set(family.organisation, limits=(FIVE,), models=("a/*",))
    await worker.set(family.team, networks=("10.0.0.0/8",), models=("*b",))
    caller = await worker.caller(family.text)
    assert (caller.organisation_id, caller.team_id, caller.user_id) == (
        family.organisation.id, family.team.id, family.user.id,
    )  # fmt: skip
    assert (caller.models, caller.networks) == ((("a/*",), ("*b",)), ("10.0.0.0/8",))
    assert [limit.owner for limit in caller.limits] == [f"organisation '{family.organisation.name}'"] + [
        "API key 'app', plan 'free'"
    ] * 3


CHANGES: dict[str, tuple[Callable[[Worker, Family], Any], Callable[[Caller], bool]]] = {
    "key disabled": (lambda w, f: w.keys.disable(f.key_id), lambda c: c.disabled),
    "key changed": (lambda w, f: w.set_key(f.key_id, models=("x",)), lambda c: c.models == (("x",),)),
    "key moved out": (
        lambda w, f: w.set_key(f.key_id, user_id=None, team_id=None, organisation_id=None),
        lambda c: (c.organisation_id, c.limits, c.disabled) == (None, (), False),
    ),
    "key given a plan": (lambda w, f: w.set_key(f.key_id, plan_id="pro"), lambda c: len(c.limits) == 3),
    "user disabled": (lambda w, f: w.set(f.user, disabled=True), lambda c: c.disabled),
    "team limited": (lambda w, f: w.set(f.team, limits=(FIVE,)), lambda c: [one.amount for one in c.limits] == [5]),
    "team given a plan": (lambda w, f: w.set(f.team, plan_id="free"), lambda c: len(c.limits) == 3),
    "organisation disabled": (lambda w, f: w.set(f.organisation, disabled=True), lambda c: c.disabled),
    "organisation's networks": (
        lambda w, f: w.set(f.organisation, networks=("10.0.0.0/8",)), lambda c: c.networks == ("10.0.0.0/8",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
async def test_a_change_is_in_force_here_at_once_and_elsewhere_after_a_poll(
    worker: Worker, other: Worker, what: str
) -> None:
    change, is_in_force = CHANGES[what]
    family = await Family.make(worker)
    for each in (worker, other):
        await each.keys.refresh()
        assert not is_in_force(await each.caller(family.text))
    held = other.keys.known(family.text)
    await change(worker, family)
    assert is_in_force(await worker.caller(family.text))
    assert other.keys.known(family.text) is held, "an immutable picture"
    await other.keys.refresh()
    known = other.keys.known(family.text)
    assert known is not None, "without asking the database"
    assert is_in_force(known)


async def test_a_plan_changes_for_everybody_who_has_it(worker: Worker, other: Worker) -> None:
    family = await Family.make(worker)
    await worker.set(family.organisation, plan_id="free")
    plan = await worker.plans.make(PlanSpec(name="own", limits=(FIVE,)))
    plain = await worker.keys.make(KeySpec(name="b", plan_id=plan.id), "test")
    for each in (worker, other):
        await each.keys.refresh()
        assert len((await each.caller(family.text)).limits) == 3
        assert len((await each.caller(plain.text.reveal())).limits) == 1
    await worker.set_plan("free", FIVE, replace(FIVE, amount=9, model="a"))
    await worker.set_plan(plan.id)
    await other.keys.refresh()
    for each in (worker, other):
        caller = each.keys.known(family.text)
        assert caller is not None
        owner = f"organisation '{family.organisation.name}', plan 'free'"
        assert [(limit.amount, limit.owner) for limit in caller.limits] == [(5, owner), (9, owner)]
        assert (await each.caller(plain.text.reveal())).limits == ()


@pytest.mark.parametrize("above", ["organisation", "team", "user", "plan"])
async def test_a_look_up_that_overlaps_a_change_above_the_key_does_not_bring_the_old_picture_back(
    database: Database, clock: ManualClock, above: str
) -> None:
    """LiteLLM #25553: the answer is read before the change and arrives after it."""

    class Slow(Database):
        """Its first read after `begin` waits with its answer."""

        begin = waits = False

        async def read(self, work: Any) -> Any:
            answer = await super().read(work)
            if self.begin and not self.waits:
                self.waits = True
                await gate.wait()
            return answer

    gate = asyncio.Event()
    slow = Slow(database._engine)
    worker, elsewhere = Worker(slow, clock), Worker(database, clock)
    family = await Family.make(worker, plan_id="free")
    await worker.keys.refresh()
    slow.begin = True
    look_up = asyncio.create_task(worker.keys.look_up(family.text))
    while not slow.waits:
        await asyncio.sleep(0.001)
    if above == "plan":
        await elsewhere.set_plan("free", FIVE)
    else:
        await elsewhere.set(getattr(family, above), disabled=True)
    await worker.keys.refresh()
    gate.set()
    for caller in (await look_up, worker.keys.known(family.text)):
        assert caller is not None
        assert len(caller.limits) == 1 if above == "plan" else caller.disabled


async def test_a_key_that_is_looked_up_while_a_change_is_on_its_way_misses_nothing_of_it(
    worker: Worker, other: Worker
) -> None:
    """The poll has read before the key came into memory, and is learned after."""
    family = await Family.make(worker)
    await other.keys.refresh()
    since = other.keys._version
    assert since is not None
    team = await worker.accounts.make(
        Kind.TEAM, AccountSpec(name="second", limits=(FIVE,), plan_id="pro"), family.organisation.place
    )
    old = await other.keys._database.read(
        lambda connection: key_pictures.of_digest(connection, other.keys._digest(family.text))
    )
    await worker.set_key(family.key_id, user_id=None, team_id=team.id)
    poll = await other.keys._database.read(lambda connection: key_pictures.changed(connection, since))
    other.keys._memory.remember(old)
    other.keys._memory.learn(poll)
    caller = other.keys.known(family.text)
    assert caller is not None
    assert (caller.team_id, caller.disabled, len(caller.limits)) == (team.id, False, 3)


async def test_the_memory_lets_go_of_what_nobody_stands_below(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_memory, "_MOST_KNOWN", 3)
    await worker.keys.refresh()
    families = [await Family.make(worker) for _ in range(6)]
    for family in families:
        await worker.keys.look_up(family.text)
    await worker.set(families[0].team, limits=(FIVE,))
    memory = worker.keys._memory
    assert len(memory._keys) == len(memory._callers) == len(memory._key_of) == 3
    assert set(memory._accounts) == set(memory._below)
    assert len(memory._accounts) == 9
    assert [worker.keys.known(family.text) is not None for family in families] == [False] * 3 + [True] * 3


async def test_more_changes_than_one_read_takes_are_all_learned(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_pictures, "_MOST_ROWS", 4)
    families = [await Family.make(worker) for _ in range(5)]
    await other.keys.refresh()
    for family in families:
        await other.keys.look_up(family.text)
    for family in families:
        await worker.set(family.user, limits=(FIVE,))
        await worker.set(family.team, networks=("10.0.0.0/8",))
        await worker.set_key(family.key_id, models=("a",))
    await worker.set_plan("free", FIVE)
    await other.keys.refresh()
    for family in families:
        caller = other.keys.known(family.text)
        assert caller is not None
        assert (len(caller.limits), caller.networks, caller.models) == (1, ("10.0.0.0/8",), (("a",),))


async def test_a_database_that_was_restored_is_read_anew(
    worker: Worker, database: Database, other: Worker, clock: ManualClock
) -> None:
    family = await Family.make(worker)
    await worker.keys.refresh()
    await worker.caller(family.text)
    backup = Worker(database, clock)
    await worker.set(family.team, disabled=True)
    await database.write(lambda connection: connection.exec_driver_sql("UPDATE key_version SET version = 1"))
    await database.write(
        lambda connection: connection.exec_driver_sql("UPDATE accounts SET disabled = false, version = 1")
    )
    await worker.keys.refresh()
    assert not (await worker.caller(family.text)).disabled
    await backup.set(family.team, disabled=True)
    await worker.keys.refresh()
    assert (await worker.caller(family.text)).disabled


async def test_with_the_database_gone_pictures_hold_for_ten_minutes(
    worker: Worker, switchable: Any, clock: ManualClock
) -> None:
    family = await Family.make(worker, plan_id="free")
    unknown = await worker.keys.make(KeySpec(name="b"), "test")
    await worker.keys.refresh()
    await worker.caller(family.text)
    await worker.set(family.team, limits=(FIVE,))  # its caller is made anew at the next use, without the database
    switchable.away = True
    clock.advance(599)
    caller = worker.keys.known(family.text)
    assert caller is not None
    assert len(caller.limits) == 4
    with pytest.raises(Overloaded):
        await worker.keys.look_up(unknown.text.reveal())
    clock.advance(2)
    assert worker.keys.known(family.text) is None


async def test_a_rotated_key_has_two_secrets_until_its_time_of_grace_ends(
    worker: Worker, other: Worker, clock: ManualClock
) -> None:
    family = await Family.make(worker)
    await other.keys.refresh()
    await other.caller(family.text)
    second = await worker.keys.rotate(family.key_id, 60.0)
    assert second is not None
    assert second.record.id == family.key_id
    await other.keys.refresh()
    for each in (worker, other):
        old, new = await each.caller(family.text), await each.caller(second.text.reveal())
        assert (old.expires_at, new.expires_at) == (clock.now() + 60, None)
        assert replace(old, expires_at=None) == new
    await worker.set(family.organisation, disabled=True)
    await other.keys.refresh()
    for text in (family.text, second.text.reveal()):
        assert (await other.caller(text)).disabled
    third = await worker.keys.rotate(family.key_id, 60.0)
    assert third is not None
    await other.keys.refresh()
    for each in (worker, other):
        assert each.keys.known(family.text) is None, "one former secret at a time"
        assert await each.keys.look_up(family.text) is None
        assert (await each.caller(second.text.reveal())).expires_at is not None
    last = await worker.keys.rotate(family.key_id, 0.0)
    assert last is not None
    assert await worker.keys.look_up(third.text.reveal()) is None
    assert (await worker.caller(last.text.reveal())).key_id == family.key_id


async def test_the_bootstrap_key_is_not_rotated_here(worker: Worker) -> None:
    await worker.keys.ensure_bootstrap(Secret("b" * 40))
    with pytest.raises(Invalid, match="XROUTER_BOOTSTRAP_KEY"):
        await worker.keys.rotate("bootstrap", 0.0)
    assert (await worker.caller("b" * 40)).may(Scope.ADMIN)


async def test_nobody_is_put_below_somebody_who_is_being_deleted(worker: Worker, other: Worker) -> None:
    for _ in range(10):
        family = await Family.make(worker)
        lonely = await worker.accounts.make(Kind.TEAM, AccountSpec(name="lonely"), family.organisation.place)
        done = await asyncio.gather(
            worker.accounts.remove(Kind.TEAM, lonely.id),
            other.keys.make(KeySpec(name="late", team_id=lonely.id), "test"),
            return_exceptions=True,
        )
        refused = [isinstance(one, Conflict | NotFound) for one in done]
        assert sorted(refused) == [False, True], done


async def test_places_that_do_not_fit_are_refused(worker: Worker) -> None:
    one, two = [await Family.make(worker) for _ in range(2)]
    reach = one.organisation.place
    with pytest.raises(Invalid):
        await worker.keys.make(KeySpec(name="a", team_id=one.team.id, organisation_id=two.organisation.id), "test")
    with pytest.raises(NotFound):
        await worker.keys.make(KeySpec(name="a", team_id=two.team.id), "test", reach)
    with pytest.raises(NotFound):
        await worker.keys.make(KeySpec(name="a", team_id=one.user.id), "test")
    with pytest.raises(Forbidden):
        await worker.accounts.change(Kind.ORGANISATION, one.organisation.id, AccountSpec.of, reach)
    assert await worker.accounts.change(Kind.TEAM, two.team.id, AccountSpec.of, reach) is None
    assert await worker.keys.change(two.key_id, lambda record: record.spec, reach) is None
    assert await worker.keys.rotate(two.key_id, 0.0, within=reach) is None
    assert await worker.keys.get(two.key_id, reach) is None
    assert [key.id for key in (await worker.keys.page(None, 9, reach)).items] == [one.key_id]
    assert [key.id for key in await worker.keys.numbered(0, 9, reach)] == [one.key_id]


async def test_an_edit_that_raises_changes_nothing(worker: Worker) -> None:
    family = await Family.make(worker)

    def refuse(_: Any) -> Any:
        raise Forbidden("no")

    for work in (
        worker.keys.change(family.key_id, refuse),
        worker.keys.rotate(family.key_id, 0.0, refuse),
        worker.accounts.change(Kind.TEAM, family.team.id, refuse),
        worker.plans.change("free", refuse),
    ):
        with pytest.raises(Forbidden):
            await work
    assert not (await worker.caller(family.text)).disabled


async def test_a_worker_that_is_told_of_a_change_does_not_wait_for_its_poll(
    database: Database, clock: ManualClock
) -> None:
    one, other = Worker(database, clock, 3_600), Worker(database, clock, 3_600)
    one.keys.announce, other.keys.announce = other.keys.hurry, one.keys.hurry
    loop = asyncio.get_running_loop()
    async with one.polling(), other.polling():
        family = await Family.make(one)
        for number in range(20):
            disabled = number % 2 == 0
            await other.caller(family.text)
            await one.set((family.organisation, family.team, family.user)[number % 3], disabled=disabled)
            changed = loop.time()
            while (await other.caller(family.text)).disabled is not disabled:
                assert loop.time() - changed < 2.0
                await asyncio.sleep(0.001)
            if disabled:
                await one.set((family.organisation, family.team, family.user)[number % 3], disabled=False)


async def test_words_of_a_newer_release_do_not_stop_the_poll(worker: Worker, other: Worker, database: Database) -> None:
    """While an upgrade rolls: what this release does not know gives no right, and the rest stays in force."""
    family = await Family.make(worker, operations=frozenset(Operation), limits=(FIVE,))
    await other.keys.refresh()
    await other.caller(family.text)

    def newer(connection: Connection) -> None:
        version = next_version(connection)
        connection.execute(
            update(api_keys)
            .where(api_keys.c.id == family.key_id)
            .values(
                version=version,
                scopes="models telepathy",
                operations='["chat","telepathy"]',
                limits='[{"unit":"roubles","amount":1,"window_s":60},{"unit":"requests","amount":9,"window_s":60}]',
            )
        )
        row = account_rows.account_values(family.team) | {"id": "new", "kind": "guild", "version": version}
        connection.execute(insert(accounts).values(**row))

    await database.write(newer)
    await worker.set(family.user, disabled=True)
    await other.keys.refresh()
    caller = other.keys.known(family.text)
    assert caller is not None
    assert (caller.scopes, caller.operations) == ({Scope.MODELS}, {Operation.CHAT})
    assert [limit.amount for limit in caller.limits] == [9]
    assert caller.disabled


async def test_whatever_a_poll_stumbles_over_it_goes_on(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    family = await Family.make(worker)
    await other.keys.refresh()
    await other.caller(family.text)
    learn, stumbled = other.keys._memory.learn, []

    def stumble(picture: Any) -> None:
        stumbled.append(picture)
        if len(stumbled) < 3:
            raise RuntimeError("a row that nobody thought of")
        learn(picture)

    monkeypatch.setattr(other.keys._memory, "learn", stumble)
    async with other.polling():
        await worker.set(family.user, disabled=True)

        async def disabled() -> bool:
            return (await other.caller(family.text)).disabled

        await eventually(disabled)
    assert len(stumbled) >= 3


async def test_a_storm_of_changes_does_not_keep_keys_from_being_looked_up(
    database: Database, clock: ManualClock
) -> None:
    writer, reader = Worker(database, clock), Worker(database, clock, 0.001)
    families = [await Family.make(writer) for _ in range(10)]
    storm = asyncio.create_task(_storm(writer, families[0]))
    async with reader.polling():
        for family in families[1:]:
            assert (await reader.caller(family.text)).key_id == family.key_id
    storm.cancel()
    await asyncio.gather(storm, return_exceptions=True)


async def _storm(worker: Worker, family: Family) -> None:
    while True:
        await worker.set(family.user, limits=(FIVE,))


FAMILIES, TRIALS_OF_EACH = 100, 10
IN_FORCE_S = 5.0
POLL_S = 1.0  # the default of XROUTER_KEY_REFRESH_S
PLAIN: dict[str, Any] = {"disabled": False, "limits": (), "networks": None, "models": None, "plan_id": None}


async def test_a_thousand_changes_in_parallel_are_in_force_on_every_worker_within_five_seconds(
    database: Database, clock: ManualClock
) -> None:
    """Without Redis, while every worker answers. Each change is taken back again, and that counts, too."""
    loop = asyncio.get_running_loop()
    workers = [Worker(database, clock, POLL_S) for _ in range(3)]
    families = [await Family.make(workers[0]) for _ in range(FAMILIES)]
    names = sorted(CHANGES)

    async def trials(number: int, family: Family) -> list[float]:
        took = []
        for trial in range(number, number + TRIALS_OF_EACH // 2):
            name = names[trial % len(names)]
            change, is_in_force = CHANGES[name]
            by = workers[trial % len(workers)]
            await change(by, family)
            took.append(await seen(family, is_in_force, True, name))
            if name.startswith("key"):
                await by.set_key(family.key_id, **PLAIN, user_id=family.user.id)
            else:
                await by.set(getattr(family, re.split(r"\W", name)[0]), **PLAIN)
            took.append(await seen(family, is_in_force, False, f"{name}, taken back"))
        return took

    async def seen(family: Family, is_in_force: Callable[[Caller], bool], wanted: bool, name: str) -> float:
        """Seconds until every worker answers so, and goes on doing so."""
        changed = loop.time()
        for each in workers:
            while is_in_force(await each.caller(family.text)) is not wanted:
                assert loop.time() - changed < IN_FORCE_S, name
                await asyncio.sleep(0.02)
        for each in workers:
            assert is_in_force(await each.caller(family.text)) is wanted, f"{name}: an older picture came back"
        return loop.time() - changed

    async with AsyncExitStack() as polls:
        for each in workers:
            await polls.enter_async_context(each.polling())
            for family in families:
                await each.caller(family.text)
        took = await asyncio.gather(*(trials(number, family) for number, family in enumerate(families)))
    assert sum(len(each) for each in took) == 1_000
    assert max(max(each) for each in took) < IN_FORCE_S
