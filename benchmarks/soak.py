"""A long mixed load on `xrouter demo`: memory, descriptors and the journal must stay level.

`make soak MINUTES=10 RPS=50`: answers, streams, clients that leave in the middle and vendor faults, at a fixed rate.
Each second the gateway's resident memory, open descriptors and journal size are noted. Exit code 1 when memory grows by
more than 1 MB per 10,000 requests after the warm-up, when a call does not end in time, when a call without a fault
fails, or when descriptors stay open.
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from processes import KEY, PYTHON, ROOT, ask, free_port, rss_mb, tree

MINUTES = float(os.environ.get("MINUTES", "10"))
RPS = float(os.environ.get("RPS", "50"))
SEED = os.environ.get("SEED") or "1"
WARM_UP = 0.3  # part of the run that the slope leaves out: pools fill, caches grow to their bounds
SLOPE_MAX_MB = 1.0  # per 10,000 requests
MEASURED_MIN = 5000  # requests; fewer say nothing about a slope
DEADLINE_MS = 4000  # sent with each call
HANG_S = 10.0
SPARE_FDS = 20

HEALTHY = ("gigachat/GigaChat-2", "tbank/t-pro-it-2.1")
FAULTY = ("gigachat/GigaChat-2-Pro", "tbank/t-lite-it-2.1")  # not the healthy ones: faults may open their breakers
FAULTS = (
    "status-400", "status-401", "status-429", "status-500", "status-503", "html-502", "retry-after-ms", "redirect",
    "slow-headers", "stall-2", "ping-stall-2", "reset-0", "reset-3", "eof-2", "chunked-cut-2", "clean-end-2", "no-done",
    "broken-json-2", "error-2", "empty", "bad-utf8", "huge-line", "no-usage", "wrong-usage",
)  # fmt: skip


@dataclass
class Soak:
    port: int
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    samples: list[tuple[int, float, int, int]] = field(
        default_factory=list
    )  # requests, RSS MB, descriptors, journal bytes

    @property
    def requests(self) -> int:
        return self.outcomes.total()

    async def call(self, dice: random.Random) -> None:
        kind = dice.choices(("answer", "stream", "leave", "fault"), (40, 30, 15, 15))[0]
        model = dice.choice(HEALTHY) if kind != "fault" else f"{dice.choice(FAULTY)}+{dice.choice(FAULTS)}"
        stream = kind in ("stream", "leave") or (kind == "fault" and dice.random() < 0.5)
        try:
            async with asyncio.timeout(HANG_S):
                status, body = await self.exchange(model, stream, leave=kind == "leave")
        except TimeoutError:
            self.problems.append(f"no end after {HANG_S} s: {model} stream={stream}")
            self.outcomes["hang"] += 1
            return
        except OSError as error:
            status, body = 0, str(error).encode()
        whole = status == 200 and (kind == "leave" or (b"[DONE]" in body if stream else b'"choices"' in body))
        if kind != "fault" and not whole:
            self.problems.append(f"{status} from {model} stream={stream}: {body[-200:]!r}")
        self.outcomes[f"{kind} {status}"] += 1

    async def exchange(self, model: str, stream: bool, leave: bool) -> tuple[int, bytes]:
        """Status and body. One connection per call, so that the end of a reply is the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            text = f"Tell me about number {self.requests}."
            body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
                f"Connection: close\r\nContent-Type: application/json\r\nx-xrouter-timeout-ms: {DEADLINE_MS}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n") if not leave else await reader.read(600)
            status = int(head.split(b" ", 2)[1]) if head else 0
            return status, b"" if leave else await reader.read(-1)
        except asyncio.IncompleteReadError:
            return 0, b""
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def sample(self, pids: list[int], journal: Path) -> None:
        fds = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
        sizes = []
        for file in journal.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a segment that was just flushed away
                sizes.append(file.stat().st_size)
        self.samples.append((self.requests, rss_mb(pids), fds, sum(sizes)))


async def drive(soak: Soak, pids: list[int], journal: Path) -> None:
    dice = random.Random(SEED)
    begin, calls, noted = time.perf_counter(), set[asyncio.Task[None]](), 0.0
    while (elapsed := time.perf_counter() - begin) < MINUTES * 60:
        while len(calls) < 2000 and soak.requests + len(calls) < elapsed * RPS:
            task = asyncio.create_task(soak.call(dice))
            calls.add(task)
            task.add_done_callback(calls.discard)
        if elapsed - noted >= 1:
            noted = elapsed
            soak.sample(pids, journal)
            if len(soak.samples) % 30 == 0:
                say(soak)
        await asyncio.sleep(0.005)
    await asyncio.gather(*calls)


def say(soak: Soak) -> None:
    requests, rss, fds, size = soak.samples[-1]
    print(f"{requests:>8,} requests  {rss:7.1f} MB  {fds:>4} fds  journal {size / 1024:,.0f} KB", flush=True)


def judge(soak: Soak) -> int:
    late = soak.samples[int(len(soak.samples) * WARM_UP) :]
    slope = statistics.linear_regression([row[0] for row in late], [row[1] for row in late]).slope * 10_000
    measured = late[-1][0] - late[0][0]
    if measured < MEASURED_MIN:
        print(f"only {measured:,} requests after the warm-up: too few to judge memory by")
    else:
        print(f"RSS slope after the warm-up: {slope:+.2f} MB per 10,000 requests (limit {SLOPE_MAX_MB})")
    if measured >= MEASURED_MIN and slope > SLOPE_MAX_MB:
        soak.problems.append(f"memory grows by {slope:.2f} MB per 10,000 requests")
    if soak.samples[-1][2] > soak.samples[0][2] + SPARE_FDS:
        soak.problems.append(f"descriptors: {soak.samples[0][2]} before, {soak.samples[-1][2]} after")
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(soak.outcomes.items())))
    for problem in soak.problems[:20]:
        print(f"PROBLEM {problem}")
    print(f"{'FAIL' if soak.problems else 'ok'}: {len(soak.problems)} problems in {soak.requests:,} requests")
    return 1 if soak.problems else 0


def main() -> int:
    if sys.platform != "linux":
        print("skipped: reads /proc")
        return 0
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="xrouter-soak-") as folder, Path(folder, "log").open("wb") as log:
        data = Path(folder, "data")
        env = os.environ | {
            "XROUTER_PORT": str(port), "XROUTER_DATA_DIR": str(data), "XROUTER_BOOTSTRAP_KEY": KEY,
            "XROUTER_DRAIN_DELAY_S": "0", "PYTHONPATH": str(ROOT / "src"),
        }  # fmt: skip
        demo = subprocess.Popen([PYTHON, "-m", "xrouter", "demo"], env=env, stdout=log, stderr=log)
        try:
            patience = time.perf_counter() + 60
            while ask(port, "/health/ready") != 200:
                if demo.poll() is not None or time.perf_counter() > patience:
                    print("the demo did not start:\n" + Path(folder, "log").read_text()[-2000:])
                    return 1
                time.sleep(0.05)
            simulators = tree(json.loads((data / "simulators.json").read_text())["pid"])
            pids = [pid for pid in tree(demo.pid) if pid not in simulators]
            soak = Soak(port)
            asyncio.run(drive(soak, pids, data / "journal"))
            time.sleep(3)
            soak.sample(pids, data / "journal")
            say(soak)
            return judge(soak)
        finally:
            demo.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                demo.wait(20)
            demo.kill()


if __name__ == "__main__":
    sys.exit(main())
