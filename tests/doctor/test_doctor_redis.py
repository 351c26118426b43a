"""What `xrouter doctor` says about a Redis: good, away, frozen, closed to us, too old, a replica, slow."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.redis_server import RedisServer, say

from xrouter.core.clock import SystemClock
from xrouter.doctor import redis
from xrouter.doctor.examine import examine
from xrouter.doctor.finding import Finding, State
from xrouter.settings import SecretText, load_settings


async def _examine(url: str) -> dict[str, Finding]:
    settings = load_settings().model_copy(update={"redis_url": SecretText(url)})
    return {finding.check: finding async for finding in redis.examine(settings, SystemClock())}


def _the_failure(found: dict[str, Finding]) -> Finding:
    (one,) = [finding for finding in found.values() if finding.state is State.FAILED]
    assert one.words
    assert one.mend
    return one


async def test_a_good_one_is_looked_at_by_the_doctor_itself(redis_url: str, tmp_path: Any) -> None:
    settings = load_settings().model_copy(update={"redis_url": SecretText(redis_url), "data_dir": tmp_path})
    found = {finding.check: finding async for finding in examine(settings) if finding.subject == "redis"}
    assert list(found) == ["reachable", "password", "version", "writable", "latency"]
    assert {finding.state for check, finding in found.items() if check != "latency"} == {State.GOOD}
    assert found["latency"].words.startswith("it answers in ")
    assert say(redis_url, "DBSIZE") == [b":0"], "nothing was written"


async def test_away_and_frozen(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "_PATIENCE_S", 0.3)
    own_redis.freeze()
    try:
        frozen = _the_failure(await _examine(own_redis.url()))
    finally:
        own_redis.thaw()
    assert frozen.check == "reachable"
    assert "Timeout" in frozen.words
    own_redis.stop()
    away = _the_failure(await _examine(own_redis.url()))
    assert away.check == "reachable"
    assert "XROUTER_REDIS_URL" in away.mend


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_closed_to_us(make_redis: Callable[..., RedisServer], password: str | None) -> None:
    server = make_redis(password="sesame")
    assert not [one for one in (await _examine(server.url())).values() if one.state is State.FAILED]
    server.password = password
    found = await _examine(server.url())
    refused = _the_failure(found)
    assert (refused.check, found["reachable"].state) == ("password", State.GOOD)
    assert "password" in refused.mend
    assert "wrong" not in refused.words.replace("WRONGPASS", "")


async def test_a_replica_takes_no_writes(own_redis: RedisServer) -> None:
    assert say(own_redis.url(), "REPLICAOF 127.0.0.1 1") == [b"+OK"]
    found = _the_failure(await _examine(own_redis.url()))
    assert (found.check, found.mend) == ("writable", "connect to the primary")


async def test_one_that_does_not_tell_its_version_is_no_failure(own_redis: RedisServer) -> None:
    assert say(own_redis.url(), "ACL SETUSER default -info") == [b"+OK"]
    found = await _examine(own_redis.url())
    assert found["version"].state is State.SKIPPED
    assert found["latency"].state in (State.GOOD, State.WARNING)


async def test_an_address_that_cannot_be_read() -> None:
    assert "XROUTER_REDIS_URL" in _the_failure(await _examine("http://127.0.0.1:6379")).mend


async def test_without_one_there_is_nothing_to_say() -> None:
    settings = load_settings().model_copy(update={"redis_url": None})
    assert [finding async for finding in redis.examine(settings, SystemClock())] == []


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"redis_version": "6.0.20"}, State.FAILED),
        ({"redis_version": "5.0"}, State.FAILED),
        ({"redis_version": "6.2.0"}, State.GOOD),
        ({"redis_version": "6.2"}, State.GOOD),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, State.GOOD),
        ({"redis_version": "10.0.0"}, State.GOOD),
        ({}, State.SKIPPED),
    ],
)
def test_versions(said: dict[str, str], state: State) -> None:
    assert next(finding for finding in redis.kind(said) if finding.check == "version").state is state


def test_a_cluster_is_refused() -> None:
    found = {finding.check: finding for finding in redis.kind({"redis_version": "7.0.0", "redis_mode": "cluster"})}
    assert _the_failure(found).check == "writable"


@pytest.mark.parametrize(
    ("ping_s", "state"), [(0.0004, State.GOOD), (0.02, State.WARNING), (0.05, State.FAILED), (1.0, State.FAILED)]
)
def test_latencies(ping_s: float, state: State) -> None:
    assert redis.latency([ping_s, ping_s, 9.0]).state is state
