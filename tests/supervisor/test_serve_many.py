"""A supervisor with real workers, from outside: crashes, hangs, rolling restarts, the end."""

import asyncio
import json
import os
import signal

import aiohttp
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families


async def _pid(http, url: str) -> int:
    async with http.get(url) as answer:
        assert answer.status == 200
        return int(await answer.text())


class Load:
    """Clients that ask again and again, each time on a new connection."""

    def __init__(self, http, url: str) -> None:
        self.pids: list[int] = []
        self.refused = 0
        self.broken = 0
        self._tasks = [asyncio.create_task(self._ask(http, url)) for _ in range(4)]

    async def _ask(self, http, url: str) -> None:
        while True:
            try:
                self.pids.append(await _pid(http, url))
            except aiohttp.ClientConnectorError:
                self.refused += 1
            except aiohttp.ClientError:
                self.broken += 1
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _all_serve(http, server, count: int) -> set[int]:
    """The pids of the workers, once each of `count` has answered."""
    seen: set[int] = set()
    async with asyncio.timeout(20):
        while len(seen & set(server.workers())) < count:
            seen.update(await asyncio.gather(*(_pid(http, server.url) for _ in range(8))))
    return seen & set(server.workers())


async def test_a_killed_worker_is_replaced_and_requests_go_on(start, http, until):
    server = await start("fake_supervisor.py", workers=2)
    first = await _all_serve(http, server, 2)
    load = Load(http, server.url)
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    await until(lambda: set(load.pids[-50:]) - first)  # the new one answers
    await load.stop()

    assert load.refused == 0
    assert load.broken <= 4  # no more than were in the hands of the victim
    assert "killed by SIGKILL" in server.log()
    assert len(server.workers()) == 2


async def test_sigterm_drains_all_and_flushes_last(start, http, until):
    server = await start("fake_supervisor.py", workers=2, drain_delay_s=1.5)
    pids = await _all_serve(http, server, 2)
    load = Load(http, server.url)
    streams = [await http.get(f"{server.url}/stream") for _ in range(6)]
    server.signal(signal.SIGTERM)
    await until(lambda: all("drain_begin" in server.life_of(pid) for pid in pids))
    asked = len(load.pids)
    await until(lambda: len(load.pids) > asked + 20)  # served on during the delay
    refused_early = load.refused
    for stream in streams:
        assert (await stream.text()).endswith("event: error\ndata: server_shutdown\n\n")
    await load.stop()

    assert await server.exit_code() == 0
    assert refused_early == 0
    assert all(server.life_of(pid)[-1] == "close" for pid in pids)
    assert (server.data_dir / "books").read_text() == "closed, 0 workers alive"
    assert not list(server.data_dir.glob("metrics-*"))


async def test_sigusr2_replaces_every_worker_without_a_refused_connection(start, http, until):
    server = await start("fake_supervisor.py", workers=2, drain_delay_s=0.1, drain_max_s=30)
    before = await _all_serve(http, server, 2)
    stream = await http.get(f"{server.url}/stream?events=100")
    load = Load(http, server.url)
    server.signal(signal.SIGUSR2)
    await until(lambda: "every worker is replaced" in server.log())
    await until(lambda: len(server.workers()) == 2)
    load.pids.clear()
    await until(lambda: len(load.pids) > 20)
    await load.stop()

    assert not before & set(server.workers())
    assert not before & set(load.pids)
    assert (load.refused, load.broken) == (0, 0)
    assert (await stream.text()).endswith("data: [DONE]\n\n")
    assert all(server.life_of(pid) == ["drain_begin", "close"] for pid in before)


@pytest.mark.parametrize("trouble", ["bad file", "workers that do not start"])
async def test_sigusr2_with_trouble_keeps_the_old_workers(start, http, until, trouble):
    server = await start("fake_supervisor.py", workers=1)
    before = await _all_serve(http, server, 1)
    if trouble == "bad file":
        (server.data_dir / "xrouter.yaml").write_text("providers: {p: {modles: [m]}}")
    else:
        (server.data_dir / "workers-are-broken").touch()
    server.signal(signal.SIGUSR2)
    await until(lambda: "keep the old one" in server.log() or "the old ones stay" in server.log())
    assert set(server.workers()) == before == {await _pid(http, server.url)}


async def test_a_hanging_worker_is_killed_and_replaced(start, http, until, tmp_path):
    (tmp_path / "short-patience").touch()
    server = await start("fake_supervisor.py", workers=2)
    before = await _all_serve(http, server, 2)
    async with http.get(f"{server.url}/block") as answer:
        await answer.read()
    await until(lambda: "its event loop hung" in server.log())
    await until(lambda: len(server.workers()) == 2 and set(server.workers()) != before)
    after = await _all_serve(http, server, 2)
    assert len(after & before) == 1


async def test_workers_end_when_their_supervisor_is_killed(start, http, until):
    server = await start("fake_supervisor.py", workers=2)
    pids = await _all_serve(http, server, 2)
    stream = await http.get(f"{server.url}/stream")
    server.signal(signal.SIGKILL)
    await server.exit_code()
    assert (await stream.text()).endswith("event: error\ndata: server_shutdown\n\n")
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert all(server.life_of(pid)[-1] == "close" for pid in pids)


async def test_a_new_supervisor_takes_over_from_a_killed_one(start, http):
    first = await start("fake_supervisor.py", workers=2, drain_max_s=30)
    await _all_serve(http, first, 2)
    stream = await http.get(f"{first.url}/stream?events=150")
    first.signal(signal.SIGKILL)
    second = await start("fake_supervisor.py", workers=2, port=first.url.rpartition(":")[2])
    assert second.url == first.url
    await _all_serve(http, second, 2)
    assert (await stream.text()).endswith("data: [DONE]\n\n")  # the orphan has finished it
    assert len(list(second.data_dir.glob("metrics-*"))) == 1


async def test_a_worker_that_does_not_end_is_killed(start, http, tmp_path):
    (tmp_path / "closing-hangs").touch()
    server = await start("fake_supervisor.py", workers=2, drain_delay_s=0, drain_max_s=0.1)
    await _all_serve(http, server, 2)
    server.signal(signal.SIGTERM)
    assert await server.exit_code() == 0
    assert "worker does not end; killing it" in server.log()
    assert (server.data_dir / "books").read_text() == "closed, 0 workers alive"


async def test_gives_up_when_no_worker_ever_serves(start, tmp_path):
    (tmp_path / "workers-are-broken").touch()
    with pytest.raises(AssertionError, match="giving up"):
        await start("fake_supervisor.py", workers=2)
    assert (tmp_path / "books").read_text() == "closed, 0 workers alive"


async def test_workers_get_the_settings_in_force(start, http):
    server = await start("fake_supervisor.py", workers=1, max_in_flight=77, allowed_hosts="127.0.0.1,example.com")
    (pid,) = await _all_serve(http, server, 1)
    got = json.loads((server.data_dir / f"settings-{pid}").read_text())
    assert got["max_in_flight"] == 77
    assert got["allowed_hosts"] == ["127.0.0.1", "example.com"]
    assert got["workers"] == 1


def _sample(text: str, name: str) -> float:
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]
    return sum(found)


async def _metrics(http, url: str) -> str:
    async with http.get(f"{url}/metrics") as answer:
        return await answer.text()


async def test_metrics_are_those_of_all_workers_also_after_a_kill(start, http, until):
    server = await start("fake_supervisor.py", workers=2)
    first = await _all_serve(http, server, 2)
    streams = [await http.get(f"{server.url}/stream") for _ in range(6)]
    before = _sample(await _metrics(http, server.url), "xrouter_requests_total")
    in_flight = _sample(await _metrics(http, server.url), "xrouter_in_flight")
    assert in_flight == 7  # six streams and the scrape itself
    for _ in range(20):
        await _pid(http, server.url)
    after = await _metrics(http, server.url)
    assert _sample(after, "xrouter_requests_total") == before + 22
    assert _sample(after, "xrouter_workers") == 2

    for pid in first:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len(server.workers()) == 2 and not first & set(server.workers()))
    await _all_serve(http, server, 2)
    last = await _metrics(http, server.url)
    assert _sample(last, "xrouter_in_flight") == 1
    assert _sample(last, "xrouter_requests_total") >= before + 23
    assert _sample(last, "xrouter_worker_ends_total") == 2
    for stream in streams:
        stream.close()
