"""A database belongs to one pepper: a host with another one does not start, and says what to do."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from xrouter.core.clock import ManualClock
from xrouter.core.errors import Overloaded
from xrouter.core.records import KeySpec
from xrouter.core.secret import Secret
from xrouter.settings import ConfigError, SecretText, Settings
from xrouter.stores.books import open_accounts, open_books
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.fingerprint import OtherPepper, SqlFingerprint
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.schema import fingerprints

PEPPERS = [Secret(letter * 40) for letter in "ab"]


async def test_of_hosts_that_come_at_once_with_different_peppers_one_has_the_database(database: Database) -> None:
    marks = [SqlFingerprint(database, PEPPERS[number % 2]) for number in range(8)]
    assert not await marks[0].check(), "it is nobody's"
    claims = await asyncio.gather(*(one.claim() for one in marks), return_exceptions=True)
    refused = [isinstance(one, OtherPepper) for one in claims]
    assert refused in ([True, False] * 4, [False, True] * 4)
    winner, loser = marks[refused[0]], marks[not refused[0]]
    assert await winner.check()
    with pytest.raises(OtherPepper):
        await loser.check()
    with pytest.raises(OtherPepper):
        await loser.claim()
    await loser.adopt()
    assert await loser.check()
    with pytest.raises(OtherPepper):
        await winner.claim()


async def test_with_another_pepper_a_key_gets_a_503_and_no_401(database: Database) -> None:
    ours, theirs = (SqlKeys(database, pepper, ManualClock(1000.0), 1.0) for pepper in PEPPERS)
    made = await ours.make(KeySpec(name="a"), "test")
    assert await theirs.look_up(made.text.reveal()) is None, "nobody has claimed the database: it cannot be known"
    await SqlFingerprint(database, PEPPERS[0]).claim()
    other = SqlKeys(database, PEPPERS[1], ManualClock(1000.0), 1.0)
    with pytest.raises(Overloaded):
        await other.look_up(made.text.reveal())
    with pytest.raises(OtherPepper):
        await other.refresh()
    assert not other.current, "and so it is not ready"
    assert await ours.look_up(made.text.reveal()) is not None


@pytest.fixture
def host(database_url: str, tmp_path: Path) -> Callable[..., Settings]:
    def make(name: str, **changes: Any) -> Settings:
        return Settings(data_dir=tmp_path / name, database_url=SecretText(database_url), **changes)

    return make


async def test_a_second_host_needs_the_pepper_of_the_first(host: Callable[..., Settings], tmp_path: Path) -> None:
    async with open_accounts(host("one")) as books:
        text = (await books.keys.make(KeySpec(name="a"), "test")).text.reveal()
    with pytest.raises(ConfigError) as caught:
        async with open_accounts(host("two")):
            pass
    words = str(caught.value)
    for wanted in (str(tmp_path / "two" / "pepper"), "Copy the file `pepper`", "XROUTER_PEPPER", "--adopt-pepper"):
        assert wanted in words
    with pytest.raises(ConfigError, match="comes from XROUTER_PEPPER"):
        async with open_accounts(host("three", pepper=SecretText("c" * 40))):
            pass
    pepper = (tmp_path / "one" / "pepper").read_text()
    (tmp_path / "two" / "pepper").write_text(pepper)
    for settings in (host("two"), host("four", pepper=SecretText(pepper.strip()))):
        async with open_accounts(settings) as books:
            assert await books.keys.look_up(text) is not None


async def test_an_installation_that_has_no_fingerprint_yet_gets_one_at_its_next_start(
    host: Callable[..., Settings],
) -> None:
    async with open_accounts(host("one")) as books:
        await books.database.write(lambda connection: connection.execute(delete(fingerprints)).close())
    async with open_accounts(host("one")) as books:
        assert await books.fingerprint.check()
    with pytest.raises(ConfigError):
        async with open_accounts(host("two")):
            pass


async def test_a_database_that_comes_later_and_belongs_to_another_pepper_is_not_used(
    host: Callable[..., Settings], database_url: str
) -> None:
    async with open_accounts(host("one")) as books:
        text = (await books.keys.make(KeySpec(name="a"), "test")).text.reveal()
    late = open_books(host("two"))  # as it is while the server is away: nothing has been asked yet
    try:
        with pytest.raises(Overloaded):
            await late.keys.look_up(text)
        with pytest.raises(ConfigError):
            await late.prepare()
        assert not late.keys.current
    finally:
        await late.database.close()
    assert database_url


def xrouter(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert settings.database_url is not None
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251
        "XROUTER_DATA_DIR": str(settings.data_dir),
        "XROUTER_DATABASE_URL": settings.database_url.reveal(),
        "XROUTER_PORT": "0",
        "GIGACHAT_CREDENTIALS": "ZGVtbzpkZW1v",
    }
    return subprocess.run(
        [sys.executable, "-m", "xrouter", *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_serve_and_the_commands_refuse_and_a_lost_pepper_is_left_behind(host: Callable[..., Settings]) -> None:
    async with open_accounts(host("one")) as books:
        made = await books.keys.make(KeySpec(name="a"), "test")
    for arguments in (["serve"], ["serve", "--workers", "2"], ["keys", "list"]):
        done = await asyncio.to_thread(xrouter, host("two"), *arguments)
        assert done.returncode == 2
        assert "belongs to another pepper" in done.stderr
        assert "Traceback" not in done.stderr
    done = await asyncio.to_thread(xrouter, host("two"), "migrate", "--adopt-pepper")
    assert done.returncode == 0, done.stderr
    done = await asyncio.to_thread(xrouter, host("two"), "keys", "rotate", made.record.id)
    assert done.returncode == 0, done.stderr
    async with open_accounts(host("two")) as books:
        assert await books.keys.look_up(done.stdout.strip()) is not None


async def test_a_database_in_use_is_opened_by_nobody_elses_pepper_unnoticed(database_url: str) -> None:
    """The check does not lean on the memory of one process."""
    for pepper, ours in ((PEPPERS[0], True), (PEPPERS[1], False), (PEPPERS[0], True)):
        database = open_database(database_url)
        await database.migrate()
        try:
            await SqlFingerprint(database, pepper).claim()
        except OtherPepper:
            assert not ours
        else:
            assert ours
        finally:
            await database.close()
