"""Measures the gateway against an nginx proxy in the same run: `make bench`. README.md says how to read the table.

Needs Linux (/proc, epoll), a C compiler and nginx; without them it says "skipped" and why, and exits with 0.
A goal that was missed is printed as MISS and changes nothing else; any wrong reply makes the exit code 1.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateways import FILES_MAX, HELD, PACED, PLAIN, SHORT, Skip, build, gpt2giga, litellm, nginx, upstream, xrouter
from processes import KEY, PYTHON, NoStart, Target, cpu_s, rss_mb

FIGURES = ("start", "nonstream", "body128k", "sse", "latency", "ttft", "growth", "idle")
TEXT = 'Расскажи о реках Сибири: "Обь", Енисей, Лена.\nKeep it short, please. '

Run = dict[str, Any]  # what the load tool printed, with cpu_s and rss_mb of the gateway
Turns = list[dict[str, Run]]  # per turn: target name -> its run


def chat(model: str, stream: bool = False, size: int = 300) -> bytes:
    """A chat request with about `size` bytes of text, in messages of at most 8 KB."""
    text = (TEXT * (size // len(TEXT) + 1)).encode()[:size]
    parts = [text[at : at + 8192].decode(errors="ignore") for at in range(0, size, 8192)]
    messages = [{"role": ("user", "assistant")[number % 2], "content": part} for number, part in enumerate(parts)]
    body = {"model": model, "stream": stream, "messages": [{"role": "system", "content": "You are brief."}, *messages]}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass
class Row:
    """One figure. `score` is what the goal speaks about: a ratio, a difference or the plain value."""

    title: str
    values: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    spread: tuple[float, float] | None = None
    goal: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.score is None:
            return "ERROR"
        return "PASS" if (self.score >= self.goal if self.at_least else self.score <= self.goal) else "MISS"


class Bench:
    """The tools, the cores, and what was found so far."""

    def __init__(self, folder: Path, command: str, reps: int, scale: float) -> None:
        self.folder, self.command, self.reps, self.scale = folder, command, reps, scale
        self.rows: list[Row] = []
        self.errors: list[str] = []
        cores = sorted(os.sched_getaffinity(0))
        self.core, self.far_core = cores[0], cores[-1]
        os.sched_setaffinity(0, {self.far_core})  # we, the vendor and the load stay out of the gateway's way
        self.load, self.vendor = build("load"), upstream()

    def nginx(self) -> Target:
        return nginx(self.folder, self.vendor)

    def xrouter(self) -> Target:
        return xrouter(self.folder, self.vendor, self.command)

    @contextlib.contextmanager
    def running(self, *targets: Target) -> Iterator[None]:
        try:
            for each in targets:
                each.start(self.far_core if each is self.vendor else self.core, chat(each.prefix + PLAIN))
            yield
        finally:
            for each in targets:
                each.stop()

    def run(self, target: Target, mode: str, model: str, seconds: float, *flags: object, size: int = 300) -> Run | None:
        """One run of the load tool; None (and a line in the report) when any reply was wrong."""
        stream = mode in ("stream", "idle")
        (self.folder / "body").write_bytes(chat(target.prefix + model, stream, size))
        argv = [self.load, mode, target.port, target.stream_path if stream else target.path, "-b", self.folder / "body"]
        argv += ["-H", f"Authorization: Bearer {KEY}", "-t", seconds * self.scale, *flags]
        marks, result = [], {"errors": 1, "first_error": "no result"}
        with subprocess.Popen([str(part) for part in argv], stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout
            for line in load.stdout:
                if line.startswith("{"):
                    result = json.loads(line)
                else:
                    pids = target.tree()
                    marks.append((cpu_s(pids), rss_mb(pids)))
        nothing = not (result.get("replies") or result.get("chunks") or mode == "idle")
        if result["errors"] or load.returncode or len(marks) != 2 or nothing:
            self.errors.append(
                f"{target.name} {mode} {model} {size} bytes: {result['errors']} errors: {result['first_error']}"
            )
            return None
        time.sleep(0.2)  # what the end of a run leaves behind is not the next one's
        return {**result, "cpu_s": marks[1][0] - marks[0][0], "rss_mb": marks[1][1]}

    def turns(
        self, targets: list[Target], mode: str, model: str, seconds: float, *flags: object, size: int = 300
    ) -> Turns:
        """A, B, A, B ...: what the machine does to one it does to the other. A turn with any error does not count."""
        runs = [
            {t.name: self.run(t, mode, model, seconds, *flags, size=size) for t in targets} for _ in range(self.reps)
        ]
        return [{name: run for name, run in turn.items() if run} for turn in runs if all(turn.values())]

    def compare(self, row: Row, turns: Turns, value: Callable[[Run], float], against: str) -> None:
        """Fills the row with medians over the turns; its score is ours / `against`, or ours - "direct"."""
        figures = [{name: value(run) for name, run in turn.items()} for turn in turns]
        if figures:
            row.values = {name: statistics.median(turn[name] for turn in figures) for name in figures[0]}
            pairs = [(turn["xrouter"], turn[against]) for turn in figures]
            scores = [ours - other if against == "direct" else ours / other for ours, other in pairs]
            row.score, row.spread = statistics.median(scores), (min(scores), max(scores))
        self.rows.append(row)

    def throughput(self, row: Row, targets: list[Target], against: str, size: int = 300) -> None:
        turns = self.turns(targets, "closed", PLAIN, 3, "-c", 64, "-w", 0.7, size=size)
        self.compare(row, turns, lambda run: run["replies"] / run["cpu_s"], against)

    def paced(self, row: Row, targets: list[Target], streams: int, against: str) -> None:
        turns = self.turns(targets, "stream", PACED, 4, "-c", streams, "-k", 200, "-w", 1)
        self.compare(row, turns, lambda run: run["cpu_s"] * 1e6 / run["chunks"], against)

    def latency(self, label: str, targets: list[Target], p50: float, p99: float) -> None:
        turns = self.turns([self.vendor, *targets], "open", PLAIN, 4, "-c", 32, "-r", 50, "-w", 0.3)
        title = f"{label}latency at 50 req/s, ms, %s (score: added)"
        self.compare(Row(title % "p50", goal=p50), turns, lambda run: run["p50_ms"], "direct")
        self.compare(Row(title % "p99", goal=p99), turns, lambda run: run["p99_ms"], "direct")

    def ttft(self, label: str, targets: list[Target], goal: float) -> None:
        turns = self.turns([self.vendor, *targets], "stream", SHORT, 2, "-c", 1, "-k", 5, "-w", 0.3)
        row = Row(f"{label}TTFT, one stream, ms, p50 (score: added)", goal=goal)
        self.compare(row, turns, lambda run: run["ttft_p50_ms"], "direct")

    def idle(self) -> None:
        """Memory of open streams, on fresh processes: a used one would hide it in memory it had already."""
        streams, values = min(5000, (FILES_MAX - 500) // 2), {}
        for target in (self.nginx(), self.xrouter()):
            with self.running(target):
                self.run(target, "closed", PLAIN, 1, "-c", 8)
                before = rss_mb(target.tree())
                run = self.run(target, "idle", HELD, 5, "-c", streams)
                if run:
                    values[target.name] = (run["rss_mb"] - before) * 1024 / streams
        self.rows.append(Row(f"{streams:,} idle streams, KB each", values, values.get("xrouter"), goal=45))

    def growth(self, requests: int) -> None:
        """Memory of a fresh process after its first thousand requests, and after many more."""
        ours = self.xrouter()
        with self.running(ours):
            early = self.run(ours, "closed", PLAIN, 60, "-c", 64, "-n", 1000)
            late = self.run(ours, "closed", PLAIN, 3600, "-c", 64, "-n", requests)
        if early and late:
            rise = 100 * (late["rss_mb"] / early["rss_mb"] - 1)
            self.rows.append(Row(f"RSS growth after {requests:,} requests, %", {"xrouter": rise}, rise, goal=10))

    def startup(self) -> None:
        """Fresh data directories: migrations are included. The first start, which compiles modules, does not count."""
        times, memory = [], []
        for _ in range(self.reps + 1):
            ours = self.xrouter()
            try:
                times.append(ours.start(self.core, chat(ours.prefix + PLAIN)))
                time.sleep(0.5)
                memory.append(rss_mb(ours.tree()))
            finally:
                ours.stop()
        ready, first = (statistics.median(column) for column in zip(*times[1:], strict=True))
        rss = statistics.median(memory[1:])
        self.rows.append(Row("start to 200 on /health/ready, s", {"xrouter": ready}))
        self.rows.append(Row("start to the first chat reply, s", {"xrouter": first}, first, goal=1.5))
        self.rows.append(Row("RSS of an idle worker, MB", {"xrouter": rss}, rss, goal=120))


def measure(bench: Bench, wanted: set[str], requests: int) -> None:
    pair = [bench.nginx(), bench.xrouter()]
    if "start" in wanted:
        bench.startup()
    if "growth" in wanted:
        bench.growth(requests)
    if "idle" in wanted:
        bench.idle()
    with bench.running(*pair):
        if "nonstream" in wanted:
            row = Row("non-stream, 64 connections, req/s/core", goal=0.06, at_least=True)
            bench.throughput(row, pair, "nginx")
        if "body128k" in wanted:
            row = Row("128 KB bodies, 64 connections, req/s/core", goal=0.06, at_least=True)
            bench.throughput(row, pair, "nginx", 128 * 1024)
        if "sse" in wanted:
            bench.paced(Row("paced SSE, 200 streams, CPU us/event", goal=3.0), pair, 200, "nginx")
        if "latency" in wanted:
            bench.latency("", pair, 0.8, 4)
        if "ttft" in wanted:
            bench.ttft("", pair, 1)


def measure_peer(bench: Bench, peer: Target, prefix: str, times: float | None, events: float | None) -> None:
    """The same loads, ours against the peer; only 20 streams, so that nobody is saturated."""
    ours, name = bench.xrouter(), peer.name
    ours.prefix = prefix
    both = [peer, ours]
    with bench.running(*both):
        memory = {each.name: rss_mb(each.tree()) for each in both}
        row = Row(f"{name}: non-stream, 64 connections, req/s/core", goal=times, at_least=True)
        bench.throughput(row, both, name)
        bench.paced(Row(f"{name}: paced SSE, 20 streams, CPU us/event", goal=events), both, 20, name)
        bench.latency(f"{name}: ", both, 0.8, 4)
        bench.ttft(f"{name}: ", both, 1)
        bench.rows.append(Row(f"{name}: RSS after the first chat, MB", memory))


def show(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def report(bench: Bench) -> None:
    names = ("direct", "xrouter", "nginx", "litellm", "gpt2giga")
    columns = [name for name in names if any(name in row.values for row in bench.rows)]
    print(f"\n{'figure':<58}" + "".join(f"{name:>10}" for name in columns) + f"{'score':>9}{'(turns)':>17}{'goal':>8}")
    for row in bench.rows:
        spread = f"({show(row.spread[0])}..{show(row.spread[1])})" if row.spread else ""
        goal = "" if row.goal is None else (">= " if row.at_least else "<= ") + show(row.goal)
        cells = "".join(f"{show(row.values.get(name)):>10}" for name in columns)
        print(f"{row.title:<58}{cells}{show(row.score):>9}{spread:>17}{goal:>8} {row.verdict}")
    for error in bench.errors:
        print(f"ERROR, does not count: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=(*FIGURES, "peers"), help="only this; may be repeated")
    parser.add_argument("--peers", action="store_true", help="LiteLLM and gpt2giga too, in environments of their own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--reps", type=int, default=3, help="turns per figure (default 3)")
    parser.add_argument("--scale", type=float, default=0.85, help="stretches every measured window")
    parser.add_argument("--requests", type=int, default=40_000, help="requests of the growth figure")
    parser.add_argument("--command", default=f"{PYTHON} -m xrouter serve", help="how to start the gateway")
    args = parser.parse_args()
    if sys.platform != "linux":
        print("skipped: the tools need Linux (epoll and /proc)")
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    begin, wanted = time.perf_counter(), set(args.only or FIGURES)
    with tempfile.TemporaryDirectory(prefix="xrouter-bench-") as folder:
        try:
            bench = Bench(Path(folder), args.command, args.reps, args.scale)
            with bench.running(bench.vendor):
                try:
                    measure(bench, wanted, args.requests)
                    if args.peers or "peers" in wanted:
                        measure_peer(bench, litellm(bench.folder, bench.vendor), "bench/", None, None)
                        measure_peer(bench, gpt2giga(bench.folder, bench.vendor), "giga/", 6, 1 / 4)
                except NoStart as reason:
                    bench.errors.append(str(reason))
        except Skip as reason:
            print(f"skipped: {reason}")
            return 0
    report(bench)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.perf_counter() - begin:.0f} s")
    if args.json:
        rows = [{**asdict(row), "verdict": row.verdict} for row in bench.rows]
        args.json.write_text(json.dumps({"rows": rows, "errors": bench.errors}, indent=1) + "\n")
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
