"""The test servers: reachable, empty at first, of one's own, and gone with the test run that started them."""

import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 - a deadline for polling
from typing import Any

import psutil
import pytest
from tests.own_server import answers
from tests.postgres_server import PostgresServer, execute
from tests.redis_server import RedisServer, flush

from xrouter.stores.sql.database import open_database
from xrouter.stores.sql.schema import HEAD


async def test_postgres_databases_are_of_the_tests_own(postgres_url: str, migrated_postgres_url: str) -> None:
    empty, migrated = open_database(postgres_url), open_database(migrated_postgres_url)
    assert await empty.revision() is None
    assert await migrated.revision() == HEAD
    for database in (empty, migrated):
        await database.close()


def test_postgres_stops_freezes_and_restarts(own_postgres: PostgresServer) -> None:
    execute(own_postgres.url(), "CREATE TABLE kept (n int)")
    own_postgres.restart()
    execute(own_postgres.url(), "SELECT n FROM kept")
    own_postgres.freeze()
    with pytest.raises(TimeoutError):
        answers(own_postgres.port, bytes.fromhex("0000000804d2162f"), b"N")
    own_postgres.thaw()
    execute(own_postgres.url(), "SELECT n FROM kept")
    own_postgres.stop()
    with pytest.raises(OSError):
        execute(own_postgres.url(), "SELECT n FROM kept")
    own_postgres.start()


@pytest.mark.parametrize("number", [1, 2])
def test_redis_is_empty_at_first(redis_url: str, number: int) -> None:
    flush(redis_url)
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    select = f"SELECT {redis_url.rpartition('/')[2]}\r\n".encode()
    assert answers(port, select + b"DBSIZE\r\n", b"+OK\r\n:0\r\n")
    assert answers(port, select + f"SET n {number}\r\n".encode(), b"+OK\r\n+OK\r\n")


def test_redis_freezes_and_asks_for_a_password(own_redis: RedisServer, make_redis: Any) -> None:
    own_redis.freeze()
    with pytest.raises(TimeoutError):
        own_redis.is_up()
    own_redis.thaw()
    assert own_redis.is_up()
    locked = make_redis(password="a secret: p/w")
    assert locked.is_up()


_SUITE = """
import os, signal
def test_it(_postgres, own_postgres, redis_url, make_redis):
    print("PIDS", _postgres["pid"], own_postgres.pid, make_redis().pid, own_postgres.directory.parent, flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_no_server_outlives_its_test_run_however_that_ends(tmp_path: Path, end: str) -> None:
    (tmp_path / "test_inner.py").write_text(_SUITE.format(end=end))
    command = [sys.executable, "-m", "pytest", "-s", "-p", "tests.services", "-c", "/dev/null", "--rootdir", tmp_path]
    run = subprocess.run([*command, tmp_path], capture_output=True, text=True, timeout=60)
    line = next(line for line in run.stdout.splitlines() if "PIDS" in line)
    *words, directory = line.partition("PIDS ")[2].split()
    pids = [int(word) for word in words]
    assert len(pids) == 3
    until = monotonic() + 10
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert monotonic() < until, run.stdout
        sleep(0.02)
    shutil.rmtree(directory, ignore_errors=True)
