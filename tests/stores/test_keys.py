"""API keys: found by digest only, in force at once here and soon elsewhere, and through a database outage."""

import asyncio
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from xrouter.core.api_key import mint
from xrouter.core.call import Scope
from xrouter.core.clock import ManualClock
from xrouter.core.errors import Overloaded
from xrouter.core.secret import Secret
from xrouter.stores.sql.database import Database, DatabaseUnavailable, open_database
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.schema import api_keys

_PEPPER = Secret("pepper" * 8)
_MODELS = frozenset({Scope.MODELS})


@pytest.fixture
def keys(switchable: Any, clock: ManualClock) -> SqlKeys:
    return SqlKeys(switchable, _PEPPER, clock, 0.01)


@pytest.fixture
def other_worker(database: Database, clock: ManualClock) -> SqlKeys:
    return SqlKeys(database, _PEPPER, clock, 0.01)


async def test_a_new_key_is_found_and_then_known(keys: SqlKeys, clock: ManualClock) -> None:
    made = await keys.create(name="app", scopes=_MODELS, created_by="me", expires_at=clock.now() + 5)
    text = made.text.reveal()
    assert keys.known(text) is None
    caller = await keys.look_up(text)
    assert caller is not None
    assert (caller.key_id, caller.name, caller.scopes) == (made.record.id, "app", _MODELS)
    assert (caller.expires_at, caller.disabled) == (clock.now() + 5, False)
    assert keys.known(text) is caller
    assert made.record.last4 == text[-4:]
    assert await keys.get(made.record.id) == made.record
    assert await keys.get("nobody") is None


async def test_the_digest_is_an_hmac_of_the_whole_key_under_the_pepper(keys: SqlKeys, database: Database) -> None:
    made = await keys.create(name="app", scopes=_MODELS, created_by="me")
    expected = hmac.new(b"pepper" * 8, made.text.reveal().encode(), hashlib.sha256).digest()
    assert await database.read(lambda connection: connection.execute(select(api_keys.c.digest)).scalar()) == expected


async def test_no_key_text_reaches_the_disk(keys: SqlKeys, tmp_path: Path) -> None:
    texts = [(await keys.create(name=f"app{n}", scopes=_MODELS, created_by="me")).text.reveal() for n in range(5)]
    bootstrap = "bootstrap-canary-0123456789-abcdefghij"
    await keys.ensure_bootstrap(Secret(bootstrap))
    for text in texts:
        await keys.look_up(text)
    stored = _everything_under(tmp_path)
    for text in [*texts, bootstrap]:
        secret = text.split("-")[-2] if text in texts else text
        assert secret.encode() not in stored
    if stored:  # SQLite: the files are here
        assert b"app3" in stored


def _everything_under(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def test_unknown_and_mistyped_keys_are_nobody_and_cost_little(
    keys: SqlKeys, switchable: Any, clock: ManualClock
) -> None:
    _, stranger = mint()
    before = switchable.reads
    assert await keys.look_up(stranger.reveal()[:-1] + "!") is None
    assert await keys.look_up("") is None
    assert await keys.look_up("x" * 5_000) is None
    assert switchable.reads == before
    for _ in range(3):
        assert await keys.look_up(stranger.reveal()) is None
    assert switchable.reads == before + 1
    clock.advance(2.1)
    assert await keys.look_up(stranger.reveal()) is None
    assert switchable.reads == before + 2
    assert await keys.look_up("\udcff\0ключ") is None


async def test_many_callers_of_one_new_key_ask_once(keys: SqlKeys, switchable: Any) -> None:
    text = (await keys.create(name="app", scopes=_MODELS, created_by="me")).text.reveal()
    before = switchable.reads
    found = await asyncio.gather(*(keys.look_up(text) for _ in range(50)))
    assert len({id(caller) for caller in found}) == 1
    assert switchable.reads == before + 1


async def test_one_waiter_that_leaves_does_not_spoil_it_for_the_others(keys: SqlKeys) -> None:
    text = (await keys.create(name="app", scopes=_MODELS, created_by="me")).text.reveal()
    first, second = asyncio.create_task(keys.look_up(text)), asyncio.create_task(keys.look_up(text))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None


async def test_a_flood_of_new_keys_is_shed(keys: SqlKeys) -> None:
    results = await asyncio.gather(*(keys.look_up(f"stranger-{n}") for n in range(200)), return_exceptions=True)
    assert sum(result is None for result in results) == 64
    assert sum(isinstance(result, Overloaded) for result in results) == 136
    assert await keys.look_up("one more") is None


async def test_disabling_is_in_force_here_at_once_and_elsewhere_after_a_poll(
    keys: SqlKeys, other_worker: SqlKeys, eventually: Any
) -> None:
    made = await keys.create(name="app", scopes=_MODELS, created_by="me")
    text = made.text.reveal()
    polling = asyncio.create_task(other_worker.run())
    await eventually(lambda: _looked_up(other_worker, text))
    await keys.look_up(text)
    record = await keys.disable(made.record.id)
    assert record is not None
    assert record.disabled
    assert _disabled(keys, text)
    await eventually(lambda: _disabled(other_worker, text))
    assert (await keys.get(made.record.id)) == record
    assert await keys.disable("nobody") is None
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)


async def _looked_up(keys: SqlKeys, text: str) -> bool:
    return await keys.look_up(text) is not None and keys.known(text) is not None


def _disabled(keys: SqlKeys, text: str) -> bool:
    caller = keys.known(text)
    return caller is not None and caller.disabled


async def test_a_key_made_elsewhere_works_after_a_poll_though_it_was_missing_before(
    keys: SqlKeys, other_worker: SqlKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, text = mint()
    await other_worker.refresh()
    assert await other_worker.look_up(text.reveal()) is None
    monkeypatch.setattr("xrouter.stores.sql.keys.mint", lambda: (key_id, text))
    await keys.create(name="late", scopes=_MODELS, created_by="me")
    assert await other_worker.look_up(text.reveal()) is None
    await other_worker.refresh()
    assert await other_worker.look_up(text.reveal()) is not None


async def test_a_look_up_that_overlaps_a_change_does_not_bring_the_old_picture_back(
    database: Database, clock: ManualClock
) -> None:
    """The answer is read before the change and arrives after it."""

    class Slow(Database):
        gate: asyncio.Event | None = None

        async def read(self, work: Any) -> Any:
            answer = await super().read(work)
            if self.gate is not None:
                await self.gate.wait()
            return answer

    slow = Slow(database._engine)
    keys = SqlKeys(slow, _PEPPER, clock, 0.01)
    made = await keys.create(name="app", scopes=_MODELS, created_by="me")
    slow.gate = asyncio.Event()
    look_up = asyncio.create_task(keys.look_up(made.text.reveal()))
    await asyncio.sleep(0.05)
    await keys.disable(made.record.id)
    slow.gate.set()
    caller = await look_up
    assert caller is not None
    assert caller.disabled
    assert _disabled(keys, made.text.reveal())


async def test_with_the_database_gone_known_keys_work_for_ten_minutes_and_unknown_ones_get_503(
    keys: SqlKeys, switchable: Any, clock: ManualClock, eventually: Any
) -> None:
    known = (await keys.create(name="app", scopes=_MODELS, created_by="me")).text.reveal()
    unknown = (await keys.create(name="new", scopes=_MODELS, created_by="me")).text.reveal()
    await keys.refresh()
    await keys.look_up(known)
    switchable.away = True
    polling = asyncio.create_task(keys.run())
    clock.advance(599)
    await asyncio.sleep(0.05)
    assert keys.known(known) is not None
    with pytest.raises(DatabaseUnavailable, match="database does not answer") as caught:
        await keys.look_up(unknown)
    assert (caught.value.code, caught.value.retry_after_s) == ("database_unavailable", 1.0)
    assert await keys.look_up(unknown[:-1] + "~") is None, "its checksum says that it is nobody's"
    clock.advance(2)
    assert keys.known(known) is None
    with pytest.raises(Overloaded):
        await keys.look_up(known)
    with pytest.raises(DatabaseUnavailable):
        await keys.get("any")
    switchable.away = False
    await eventually(lambda: keys.known(known) is not None)
    assert await keys.look_up(unknown) is not None
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)


async def test_a_database_that_cannot_be_opened_is_503_and_recovers(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "sub" / "xrouter.db"
    database = open_database(f"sqlite:///{path}")
    keys = SqlKeys(database, _PEPPER, clock, 0.01)
    path.unlink()
    path.mkdir()
    with pytest.raises(Overloaded):
        await keys.look_up("somebody")
    path.rmdir()
    await database.migrate()
    assert await keys.look_up("somebody") is None
    await database.close()


async def test_the_bootstrap_key_is_an_admin_and_a_new_one_replaces_the_old(
    keys: SqlKeys, other_worker: SqlKeys, database: Database
) -> None:
    old, new = "old-bootstrap-key-0123456789-0123456789", "new-bootstrap-key-0123456789-0123456789"
    await keys.ensure_bootstrap(Secret(old))
    await keys.ensure_bootstrap(Secret(old))
    await other_worker.refresh()
    for worker in (keys, other_worker):
        caller = await worker.look_up(old)
        assert caller is not None
        assert (caller.key_id, caller.name) == ("bootstrap", "bootstrap")
        assert caller.may(Scope.MODELS)
        assert caller.may(Scope.ADMIN)
    await keys.ensure_bootstrap(Secret(new))
    await other_worker.refresh()
    for worker in (keys, other_worker):
        assert worker.known(old) is None
        assert await worker.look_up(old) is None
        assert await worker.look_up(new) is not None
    assert await database.read(_count) == 1


def _count(connection: Connection) -> int:
    found: int = connection.execute(select(func.count()).select_from(api_keys)).scalar_one()
    return found


async def test_a_disabled_bootstrap_key_stays_disabled_until_it_changes(keys: SqlKeys) -> None:
    text, changed = Secret("b" * 40), Secret("c" * 40)
    await keys.ensure_bootstrap(text)
    await keys.disable("bootstrap")
    await keys.ensure_bootstrap(text)
    caller = await keys.look_up(text.reveal())
    assert caller is not None
    assert caller.disabled
    await keys.ensure_bootstrap(changed)
    caller = await keys.look_up(changed.reveal())
    assert caller is not None
    assert not caller.disabled


async def test_workers_that_set_the_bootstrap_key_at_once_agree(keys: SqlKeys, other_worker: SqlKeys) -> None:
    await asyncio.gather(*(worker.ensure_bootstrap(Secret("s" * 40)) for worker in [keys, other_worker] * 5))
    assert await keys.look_up("s" * 40) is not None


async def test_a_bootstrap_key_that_cannot_work_is_refused(keys: SqlKeys) -> None:
    made = await keys.create(name="app", scopes=_MODELS, created_by="me")
    for text in ["", "x" * 600, made.text.reveal()[:-1], made.text.reveal()]:
        with pytest.raises(ValueError, match="bootstrap key"):
            await keys.ensure_bootstrap(Secret(text))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_pages_of_keys_run_from_new_to_old(keys: SqlKeys, clock: ManualClock, size: int) -> None:
    records = []
    for number in range(15):
        records.append((await keys.create(name=f"k{number}", scopes=_MODELS, created_by="me")).record)
        if number % 3 == 0:
            clock.advance(1)
    seen, cursor = [], None
    while True:
        page = await keys.page(cursor, size)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)
    for foreign in ["", "?", "a", "YQ", "Y" * 30]:
        with pytest.raises(ValueError, match="cursor"):
            await keys.page(foreign, size)
