"""What a gateway's clients notice of a Redis that fails: latencies before, at and after each fault.

`python -m campaigns.redis_faults [SECONDS]`: one gateway process whose key has an ordinary and an exact limit, before
simulated vendors; Redis stands behind a proxy of ours that passes, delays, swallows or refuses. Prints a table. Exit
code 1 when a call failed or took 2 s, when Redis was not in use again 5 s after the fault, or when calls that began 5 s
into a fault took more than 20 ms longer at the 99th percentile than those right before it.
"""

import asyncio
import json
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from tests.redis_server import RedisServer, find_binary

from campaigns.leash import tie
from campaigns.stage import Gateway, config_for, free_port, gateway, simulators

PROGRAM = Path(__file__).parents[1] / "tests" / "journey" / "programs" / "limited_serve.py"
LIMITS = [["requests", 10**6, 60], ["tokens", 10**9, 60], ["concurrent", 1_000, 0], ["requests", 10**6, 60, True]]
RPS = 40
SETTLED_S = 5.0
MOST_MS = 2_000.0
ADDED_MS = 20.0


class Proxy:
    """Between the gateway and Redis. `delay_s` holds each answer back; inf swallows it."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port, self.upstream, self.delay_s = port, upstream, 0.0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Refuse, and cut what is connected."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        open_ends = [writer]
        try:
            near, far = await asyncio.open_connection("127.0.0.1", self.upstream)
            open_ends.append(far)
            await asyncio.gather(self._pass(reader, far, False), self._pass(near, writer, True))
        except (OSError, asyncio.CancelledError):
            pass  # one end has gone, or all shall go
        finally:
            for end in open_ends:
                end.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: bool) -> None:
        while data := await reader.read(65536):
            if late and self.delay_s:
                await asyncio.sleep(min(self.delay_s, 3600.0))
            writer.write(data)
            await writer.drain()
        writer.close()


def command(server: RedisServer, *lines: str) -> None:
    """Each line as it stands; answers are read and not looked at."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        for line in lines:
            connection.sendall(f"{line}\r\n".encode())
            connection.recv(4096)


class Load:
    """Calls at a fixed rate: when each began, its milliseconds, its status."""

    def __init__(self, place: Gateway, session: aiohttp.ClientSession) -> None:
        self._place, self._session = place, session
        self.calls: list[tuple[float, float, int]] = []

    async def _call(self) -> None:
        body = {"model": "tbank/t-pro-it-2.1", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]}
        headers = {"Authorization": f"Bearer {self._place.key}"}
        began = time.monotonic()
        url = f"{self._place.url}/v1/chat/completions"
        async with self._session.post(url, json=body, headers=headers) as answer:
            await answer.read()
            self.calls.append((began, (time.monotonic() - began) * 1000, answer.status))

    async def run(self, seconds: float) -> float:
        """When it began."""
        began = time.monotonic()
        calls = []
        for number in range(int(seconds * RPS)):
            await asyncio.sleep(max(0.0, began + number / RPS - time.monotonic()))
            calls.append(asyncio.create_task(self._call()))
        await asyncio.gather(*calls)
        return began

    async def counted_in_redis(self) -> bool:
        async with self._session.get(f"{self._place.url}/metrics") as answer:
            return 'xrouter_limits{counted="redis"} 1.0' in await answer.text()


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


Change = Callable[[], Awaitable[None]]


def faults(proxy: Proxy, server: RedisServer) -> dict[str, tuple[Change, Change]]:
    """What begins and what ends each."""

    def delay(seconds: float) -> Change:
        async def change() -> None:
            proxy.delay_s = seconds

        return change

    async def freeze() -> None:
        server.freeze()

    async def thaw() -> None:
        server.thaw()

    async def flush() -> None:
        command(server, "FLUSHALL", "SCRIPT FLUSH")

    async def lock() -> None:
        command(server, "CONFIG SET requirepass other", "CLIENT KILL TYPE normal SKIPME yes")

    async def unlock() -> None:
        command(server, "AUTH other", 'CONFIG SET requirepass ""')

    return {
        "none": (delay(0), delay(0)),
        "slow 20 ms": (delay(0.02), delay(0)),
        "slow 1 s": (delay(1.0), delay(0)),
        "frozen": (freeze, thaw),
        "refused": (proxy.close, proxy.open),
        "flushed": (flush, delay(0)),
        "password": (lock, unlock),
    }


async def campaign(place: Gateway, proxy: Proxy, server: RedisServer, seconds: float) -> list[str]:
    problems: list[str] = []
    sys.stdout.write(
        f"{'fault':<12}{'p99 before':>11}{'p99, 1st s':>12}{'p99 after 5 s':>15}{'added':>8}{'most':>8}{'back, s':>9}"
        "  statuses (times in ms)\n"
    )
    async with aiohttp.ClientSession() as session:
        await Load(place, session).run(2.0)
        for name, (begin, end) in faults(proxy, server).items():
            before = Load(place, session)
            await before.run(seconds / 2)
            usual_ms = percentile([ms for _, ms, _ in before.calls], 0.99)
            load = Load(place, session)
            await begin()
            began = await load.run(seconds)
            await end()
            ended = time.monotonic()
            while not await load.counted_in_redis() and time.monotonic() - ended < 2 * SETTLED_S:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            back_s = time.monotonic() - ended
            took = [ms for _, ms, _ in load.calls]
            first = percentile([ms for at, ms, _ in load.calls if at - began < 1], 0.99)
            later = percentile([ms for at, ms, _ in load.calls if at - began >= SETTLED_S], 0.99)
            statuses = Counter(status for _, _, status in load.calls)
            sys.stdout.write(
                f"{name:<12}{usual_ms:>11.1f}{first:>12.1f}{later:>15.1f}{later - usual_ms:>8.1f}{max(took):>8.1f}"
                f"{back_s:>9.2f}  {dict(statuses)}\n"
            )
            sys.stdout.flush()
            if set(statuses) != {200} or max(took) > MOST_MS:
                problems.append(f"{name}: calls failed or hung")
            if back_s > SETTLED_S:
                problems.append(f"{name}: Redis was not in use again")
            if later > usual_ms + ADDED_MS and not name.startswith("slow 20"):
                problems.append(f"{name}: calls were slow long after it began")
    return problems


def run(seconds: float, home: Path) -> list[str]:
    """What was not as promised; prints the table."""
    server = RedisServer(home / "redis")
    server.start()
    assert server.pid is not None
    tie(server.pid)
    port = free_port()
    environment = {"LIMITS": json.dumps(LIMITS), "XROUTER_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    program = (sys.executable, str(PROGRAM))

    async def all_faults() -> list[str]:
        proxy = Proxy(port, server.port)
        await proxy.open()
        config = config_for(vendors.url)
        with gateway(home / "gateway", config, environment=environment, program=program) as place:
            problems = await campaign(place, proxy, server, seconds)
        await proxy.close()
        return problems

    try:
        with simulators(home) as vendors:
            return asyncio.run(all_faults())
    finally:
        server.stop()


def main() -> int:
    if find_binary() is None:
        sys.stdout.write("skipped: no Redis on this machine\n")
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 12.0
    with tempfile.TemporaryDirectory() as directory:
        problems = run(seconds, Path(directory))
    sys.stdout.write("".join(f"FAILED {problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
