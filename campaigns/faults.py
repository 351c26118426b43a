"""Every simulator fault and every fault below it, streamed and whole, alone and with a healthy fallback.

`python -m campaigns.faults`. Each cell must end within the call's deadline + 1 s: with a good answer, or with an
error that names the provider. With a fallback every cell gives the whole text, once: a fault before the first content
is invisible, and after it the fallback goes on. A truncated answer must never look complete. All of it on a machine
whose clock jumps (`campaigns/odd_machine.py`); faults below HTTP come from `campaigns/broken_wire.py`.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from campaigns import broken_wire, odd_machine
from campaigns.stage import config_for, gateway, simulators
from xrouter.simulators import speech

TIMEOUTS = {"connect_s": 1.0, "first_s": 1.0, "idle_s": 1.0, "total_s": 4.0, "total_stream_s": 6.0}
GRACE_S = 1.0
AT_ONCE = 6

VENDORS = {"gigachat": "gigachat/GigaChat-2", "tbank": "tbank/t-pro-it-2.1"}
FALLBACK = {"gigachat": "tbank/t-pro-it-2.1", "tbank": "gigachat/GigaChat-2"}
ORDER = "recite 24 words"  # what all models say alike
WHOLE = speech.ordered(ORDER, Random(0))
WIRE = "wire"  # the vendor of each fault of broken_wire: `wire-<fault>`

# fault -> the status of the answer when nobody else can serve. A vendor's fault is never the client's.
REFUSED = {"status-400": 400, "status-413": 413, "status-422": 400}
EARLY = {
    "status-401": 502,
    "status-402": 502,
    "status-403": 502,
    "status-404": 404,
    "status-408": 504,
    "status-429": 503,
    "status-500": 502,
    "status-502": 502,
    "status-503": 502,
    "status-504": 502,
    "status-529": 502,
    "html-502": 502,
    "retry-after-seconds": 503,
    "retry-after-date": 503,
    "retry-after-ms": 503,
    "redirect": 502,
    "slow-headers": 504,
    "slow-first": 504,
    "reset-0": 502,
    "eof-0": 502,
    "clean-end-0": 502,
    "chunked-cut-0": 502,
    "stall-0": 504,
    "error-0": 502,
    "broken-json-0": 502,
    "empty": 502,
}
# After content has been shown; a whole answer has shown nothing and fails like an early one.
LATE = {
    "stall-2": 504,
    "ping-stall-2": 504,
    "reset-2": 502,
    "eof-2": 502,
    "clean-end-2": 502,
    "chunked-cut-2": 502,
    "broken-json-2": 502,
    "error-2": 502,
}
# In a stream these break the first or a later event, whichever the simulator's text makes of it.
SOMEWHERE = {"bad-utf8": 502, "huge-line": 502}
HARMLESS = ("no-done", "no-usage", "wrong-usage", "slow-20")
# Faults below HTTP, or in it: the status where nobody else can serve.
WIRE_EARLY = {
    "dns-nxdomain": 502,
    "dns-slow": 504,
    "refused": 502,
    "blackhole": 504,
    "tls-bad-cert": 502,
    "tls-stall": 504,
    "rst-before-headers": 502,
    "rst-mid-headers": 502,
    "eof-before-status": 502,
    "eof-mid-headers": 502,
    "flood-1xx": 502,
    "not-http": 502,
    "endless-headers": 502,
    "slow-headers": 504,
    "slow-body": 504,
    "two-lengths": 502,
    "gzip-bomb": 502,
    "endless-body": 502,
}
WIRE_LATE = {
    "slow-body-late": 504,
    "rst-mid-chunk": 502,
    "chunked-cut": 502,
    "chunk-size-nonsense": 502,
    "length-too-long": 502,
    "length-too-short": 502,
}
# So many bytes that a limit of time may be passed before one of size.
MUCH = ("gzip-bomb", "endless-body")
WIRE_HARMLESS = ("done-twice", "lossy")


@dataclass(frozen=True)
class Cell:
    """One question: this fault at this vendor, streamed or whole, alone or with a fallback."""

    vendor: str
    fault: str
    stream: bool
    fallback: bool

    def __str__(self) -> str:
        form = "stream" if self.stream else "whole"
        return f"{self.vendor:8} {self.fault:20} {form:6} {'fallback' if self.fallback else 'alone'}"

    @property
    def provider(self) -> str:
        """Its name in the gateway's file."""
        return f"wire-{self.fault}" if self.vendor == WIRE else self.vendor


@dataclass
class Outcome:
    """What the client saw."""

    status: int = 0
    seconds: float = 0.0
    text: str = ""
    done: bool = False
    finished: bool = False
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    broken: str | None = None


def cells() -> Iterator[Cell]:
    for vendor in VENDORS:
        for fault in (*REFUSED, *EARLY, *LATE, *SOMEWHERE, *HARMLESS):
            for stream in (True, False):
                for fallback in (False, True):
                    yield Cell(vendor, fault, stream, fallback)
    for fault in (*WIRE_EARLY, *WIRE_LATE, *WIRE_HARMLESS):
        for stream in (True, False):
            for fallback in (False, True):
                yield Cell(WIRE, fault, stream, fallback)


async def ask(session: aiohttp.ClientSession, url: str, cell: Cell) -> Outcome:
    model = f"wire-{cell.fault}/m" if cell.vendor == WIRE else f"{VENDORS[cell.vendor]}+{cell.fault}"
    body: dict[str, Any] = {
        "model": model,
        "stream": cell.stream,
        "messages": [{"role": "user", "content": ORDER}],
    }
    if cell.fallback:
        body["models"] = [model, FALLBACK.get(cell.vendor, VENDORS["tbank"])]
    if cell.stream:
        body["stream_options"] = {"include_usage": True}
    found, started = Outcome(), time.monotonic()
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            found.status = answer.status
            data = await answer.read()
            _read_stream(found, data) if answer.content_type == "text/event-stream" else _read_whole(found, data)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        found.broken = f"{type(error).__name__}: {error}"
    found.seconds = time.monotonic() - started
    return found


def _read_whole(found: Outcome, data: bytes) -> None:
    body = json.loads(data)
    found.error, found.usage = body.get("error"), body.get("usage")
    for choice in body.get("choices", ()):
        found.text += choice["message"]["content"] or ""
        found.finished = found.done = choice["finish_reason"] is not None


def _read_stream(found: Outcome, data: bytes) -> None:
    for line in data.decode().split("\n"):
        if line == "data: [DONE]":
            found.done = True
        elif line.startswith("data: "):
            chunk = json.loads(line[6:])
            found.error = chunk.get("error") or found.error
            found.usage = chunk.get("usage") or found.usage
            for choice in chunk.get("choices", ()):
                found.text += choice["delta"].get("content") or ""
                found.finished = found.finished or choice["finish_reason"] is not None


def judge(cell: Cell, found: Outcome) -> str | None:
    """What is wrong, or None."""
    limit_s = TIMEOUTS["total_stream_s" if cell.stream else "total_s"] + GRACE_S
    if found.broken:
        return f"the client saw a broken answer: {found.broken}"
    if found.seconds > limit_s:
        return f"took {found.seconds:.1f} s, more than {limit_s:g} s"
    late = LATE | SOMEWHERE | WIRE_LATE
    # A body of 10 MB is no fault in a whole answer, and a prompt too large for one vendor may suit another.
    huge = (cell.fault, cell.stream) == ("huge-line", False)
    fits = huge or (cell.fault == "status-413" and found.status == 200)
    harmless = cell.fault in HARMLESS or cell.fault in WIRE_HARMLESS
    if harmless or fits or (cell.fallback and cell.fault not in REFUSED):
        return _judge_good(found, None if huge else WHOLE)
    if cell.stream and cell.fault in late and found.status == 200:
        return _judge_cut(cell, found)
    expected = (REFUSED | EARLY | WIRE_EARLY | late)[cell.fault]
    if cell.fault in MUCH and found.status == 504:
        expected = 504
    if found.status != expected:
        return f"status {found.status} instead of {expected}: {found.error}"
    return _judge_error(cell, found)


def _judge_good(found: Outcome, whole: str | None) -> str | None:
    if found.status != 200 or found.error is not None:
        return f"status {found.status}, error {found.error} instead of an answer"
    if not (found.text and found.done and found.finished):
        return f"an incomplete answer: text {found.text!r}, done {found.done}, finished {found.finished}"
    if whole is not None and found.text != whole:
        return f"another text than was to be said: {found.text!r}"
    if not found.usage or found.usage["total_tokens"] <= 0 or found.usage["total_tokens"] > 10**6:
        return f"senseless usage {found.usage}"
    return None


def _judge_cut(cell: Cell, found: Outcome) -> str | None:
    """A stream that broke: an error in band, and nothing that looks like an end."""
    if found.done or found.finished:
        return f"a truncated stream looks complete: done {found.done}, finished {found.finished}"
    if WHOLE is None or not WHOLE.startswith(found.text):
        return f"a text that is not the beginning of the whole: {found.text!r}"
    return _judge_error(cell, found)


def _judge_error(cell: Cell, found: Outcome) -> str | None:
    if found.error is None:
        return f"no error told (status {found.status})"
    named = cell.provider in found.error["message"] and found.error["metadata"].get("provider") == cell.provider
    if not named:
        return f"the error does not name {cell.provider}: {found.error}"
    missing = {"message", "type", "param", "code"} - found.error.keys()
    return f"the error lacks {missing}" if missing else None


async def _all(url: str, key: str, wanted: list[Cell]) -> list[tuple[Cell, Outcome, str | None]]:
    gate = asyncio.Semaphore(AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=timeout) as session:

        async def one(cell: Cell) -> tuple[Cell, Outcome, str | None]:
            async with gate:
                found = await ask(session, url, cell)
            return cell, found, judge(cell, found)

        return await asyncio.gather(*(one(cell) for cell in wanted))


def _config(vendors_url: str, wire: dict[str, str]) -> dict[str, Any]:
    config = config_for(vendors_url, timeouts=TIMEOUTS)
    for fault, url in wire.items():
        config["providers"][f"wire-{fault}"] = {
            "kind": "openai_compatible",
            "base_url": url,
            "timeouts": TIMEOUTS,
            "models": [{"name": "m", "price": {"input_rub_per_1m": 35, "output_rub_per_1m": 70}}],
        }
    return config


def run(directory: Path, wanted: list[Cell]) -> list[tuple[Cell, Outcome, str | None]]:
    """Ask all cells of a fresh gateway; the results in the order of `wanted`."""
    with simulators(directory) as vendors:
        results, code = asyncio.run(_run(directory, vendors.url, wanted))
        followed = vendors.state()["totals"]["redirects_followed"]
    assert code == 0, f"the gateway ended with {code}"
    assert followed == 0, f"the gateway followed {followed} redirects: prompts and keys went to another host"
    return results


async def _run(
    directory: Path, vendors_url: str, wanted: list[Cell]
) -> tuple[list[tuple[Cell, Outcome, str | None]], int]:
    async with broken_wire.serving() as wire:
        program = (sys.executable, odd_machine.__file__)
        opened = gateway(directory / "gateway", _config(vendors_url, wire), program=program)
        place = await asyncio.to_thread(opened.__enter__)
        try:
            results = await _all(place.url, place.key, wanted)
            return results, await asyncio.to_thread(place.stop)
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


def main() -> None:
    started = time.monotonic()
    wanted = list(cells())
    with tempfile.TemporaryDirectory(prefix="xrouter-faults-") as directory:
        results = run(Path(directory), wanted)
    failed = [(cell, found, wrong) for cell, found, wrong in results if wrong]
    slowest = max(found.seconds for _, found, _ in results)
    for cell, found, wrong in failed:
        print(f"WRONG {cell} {found.seconds:5.1f} s  {wrong}")
    print(
        f"faults: {len(results)} cells, {len(failed)} wrong, slowest {slowest:.1f} s, "
        f"{time.monotonic() - started:.0f} s in all (no randomness: no seed)"
    )
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
