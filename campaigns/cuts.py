"""Streams that break off at every chunk of an answer, and what another deployment makes of it.

`python -m campaigns.cuts [sample]`. Every wire format begins, every one goes on. All of them recite the same text, so
the client must see exactly that, once, with a finish reason and who gave it. Where it cannot, the stream ends with an
error, after a beginning of the text. No randomness: no seed.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from campaigns.stage import config_for, gateway, simulators

CHUNKS = 60
FAULTS = ("reset", "clean-end", "eof", "chunked-cut", "error", "broken-json", "stall", "ping-stall")
TIMEOUTS = {"connect_s": 2.0, "first_s": 10.0, "idle_s": 1.0, "total_s": 30.0, "total_stream_s": 30.0}
SURE = range(2, 50)
"""Chunks before which there is text, and behind which there is more: a block of Anthropic's begins without any, and
not all answers have 60."""
AT_ONCE = 32
GOOD_SHARE = 0.95

# Those that go on exactly where an answer stops, and those that are asked in words.
FORMS = {
    "vllm": "tbank/t-pro-it-2.1",
    "thinking": "tbank/t-pro-it-2.0",
    "mts": "mts/t-pro-it-2.1",
    "gigachat v1": "gigachat/GigaChat-2",
    "gigachat v2": "second/GigaChat-2",
    "yandexgpt": "yandexgpt/yandexgpt/latest",
    "yandexgpt hosted": "yandexgpt/qwen3-235b-a22b-fp8/latest",
    "yandexgpt native": "native/yandexgpt/latest",
    "anthropic": "anthropic/claude-sonnet-5-5",
    "anthropic prefilled": "prefilled/claude-sonnet-5-5",
}
# Some vendors send a few letters at a time, some a few words: so many words make about `CHUNKS` chunks.
LONG = ("gigachat v1", "gigachat v2", "yandexgpt", "yandexgpt hosted", "yandexgpt native")
WORDS, MANY_WORDS = 45, 215
ORDERS = ("recite {} words", "recite {} words, repeat 40", "прочти {} слов", "прочти {} слов, repeat 70")


@dataclass(frozen=True)
class Cut:
    """`first` breaks off with `fault` after `chunk` chunks, and `second` is there to go on."""

    first: str
    second: str
    fault: str
    chunk: int
    order: str

    def __str__(self) -> str:
        return f"{self.first} -> {self.second} {self.fault}-{self.chunk} {self.order!r}"


@dataclass
class Seen:
    """What the client saw."""

    text: str = ""
    reasoning: str = ""
    finishes: int = 0
    done: bool = False
    error: dict[str, Any] | None = None
    resumed: int = 0
    ids: int = 0
    usage: dict[str, Any] | None = None
    seconds: float = 0.0
    broken: str | None = None


def cuts() -> Iterator[Cut]:
    """Each format as the first with each fault at each chunk; the others take turns in going on."""
    names = list(FORMS)
    for place, first in enumerate(names):
        for number, fault in enumerate(FAULTS):
            for chunk in range(CHUNKS + 1):
                turn = (number * (CHUNKS + 1) + chunk) % (len(names) - 1)
                second = names[(place + 1 + turn) % len(names)]
                words = MANY_WORDS if first in LONG else WORDS
                yield Cut(first, second, fault, chunk, ORDERS[(chunk + number) % len(ORDERS)].format(words))


def sample() -> list[Cut]:
    """Every format in both places, every fault, early and late."""
    return list(cuts())[::37]


def config(url: str) -> dict[str, Any]:
    """One account of each format."""
    found = config_for(url, timeouts=TIMEOUTS)
    providers = found["providers"]
    yandex = {"kind": "yandexgpt", "base_url": f"{url}/yandex/v1", "api_key": "AQVNcuts", "timeouts": TIMEOUTS}
    folder = {"folder": "b1gsimulatedfolder00"}
    anthropic = {"kind": "anthropic", "base_url": f"{url}/anthropic", "api_key": "any", "timeouts": TIMEOUTS}
    providers["tbank"]["models"] = ["t-pro-it-2.1", "t-pro-it-2.0"]
    providers |= {
        "second": providers["gigachat"] | {"api_key": "c2Vjb25kOnNlY3JldA==", "options": {"contract": "v2"}},
        "yandexgpt": yandex | {"models": ["yandexgpt/latest", "qwen3-235b-a22b-fp8/latest"], "options": folder},
        "native": yandex | {"models": ["yandexgpt/latest"], "options": folder | {"surface": "native"}},
        "mts": {
            "kind": "mts",
            "base_url": f"{url}/mts/projects/demo/openai/v1",
            "api_key": "any",
            "timeouts": TIMEOUTS,
            "models": ["t-pro-it-2.1"],
        },
        "anthropic": anthropic | {"models": ["claude-sonnet-5-5"]},
        "prefilled": anthropic | {"models": ["claude-sonnet-5-5"], "options": {"prefill": ["claude-*"]}},
    }
    return found | {"aliases": {}}


async def ask(session: aiohttp.ClientSession, url: str, model: str, order: str, *others: str) -> Seen:
    body = {
        "model": model,
        "models": [model, *others],
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": order}],
    }
    found, started, ids = Seen(), time.monotonic(), set()
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            for line in (await answer.read()).decode().split("\n"):
                if line == "data: [DONE]":
                    found.done = True
                elif line.startswith("data: "):
                    chunk = json.loads(line[6:])
                    ids.add(chunk.get("id"))
                    found.error = chunk.get("error") or found.error
                    found.usage = chunk.get("usage") or found.usage
                    found.resumed = len(chunk.get("xrouter", {}).get("resumed", ()))
                    for choice in chunk.get("choices", ()):
                        found.text += choice["delta"].get("content") or ""
                        found.reasoning += choice["delta"].get("reasoning_content") or ""
                        found.finishes += choice["finish_reason"] is not None
                elif line.startswith("{"):
                    found.error = json.loads(line).get("error")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        found.broken = f"{type(error).__name__}: {error}"
    found.seconds, found.ids = time.monotonic() - started, len(ids - {None})
    return found


def judge(cut: Cut, found: Seen, whole: str) -> tuple[bool, str | None]:
    """Was the whole text seen? And what must never be, or None."""
    if found.broken:
        return False, f"the client saw a broken answer: {found.broken}"
    if found.seconds > TIMEOUTS["total_stream_s"] + 1:
        return False, f"took {found.seconds:.1f} s"
    if not whole.startswith(found.text):
        return False, f"a text that is not the beginning of the whole: ...{found.text[-120:]!r}"
    if (found.finishes == 1) == (found.error is not None) or found.done == (found.error is not None):
        return False, f"{found.finishes} finish reasons, done {found.done}, error {found.error}"
    if found.error is not None:
        return False, None
    if found.text != whole:
        return False, f"a finish before the end of the text: ...{found.text[-60:]!r}"
    if found.ids != 1 or not found.usage or found.usage["total_tokens"] <= 0:
        return False, f"{found.ids} stream ids, usage {found.usage}"
    if cut.chunk in SURE and not found.resumed > 1:
        return False, "nobody told who has gone on"
    if found.reasoning.count(". ") > 2:
        return False, f"reasoning twice: {found.reasoning!r}"
    return True, None


async def _all(url: str, key: str, wanted: list[Cut]) -> list[tuple[Cut, Seen, bool, str | None]]:
    gate = asyncio.Semaphore(AT_ONCE)
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=60)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        orders = {cut.order for cut in wanted}
        wholes = {order: (await ask(session, url, FORMS["vllm"], order)).text for order in sorted(orders)}
        assert all(wholes.values()), "the whole texts are not to be had"

        async def one(cut: Cut) -> tuple[Cut, Seen, bool, str | None]:
            async with gate:
                model = f"{FORMS[cut.first]}+{cut.fault}-{cut.chunk}"
                found = await ask(session, url, model, cut.order, FORMS[cut.second])
            return cut, found, *judge(cut, found, wholes[cut.order])

        return await asyncio.gather(*(one(cut) for cut in wanted))


def run(directory: Path, wanted: list[Cut]) -> list[tuple[Cut, Seen, bool, str | None]]:
    """Ask for all of them at a fresh gateway: the cut, what the client saw, whether it was whole, what was wrong."""
    with simulators(directory) as vendors:
        vendors.control("settings", limits={})
        with gateway(directory / "gateway", config(vendors.url)) as place:
            return asyncio.run(_all(place.url, place.key, wanted))


def main() -> None:
    started = time.monotonic()
    wanted = sample() if sys.argv[1:] == ["sample"] else list(cuts())
    with tempfile.TemporaryDirectory(prefix="xrouter-cuts-") as directory:
        results = run(Path(directory), wanted)
    wrong = [(cut, problem) for cut, _, _, problem in results if problem]
    for cut, problem in wrong[:50]:
        print(f"WRONG {cut}: {problem}")
    short = Counter((cut.first, cut.fault) for cut, _, whole, problem in results if not whole and not problem)
    for (first, fault), count in sorted(short.items()):
        print(f"ended with an error: {first} {fault}: {count}")
    share = sum(whole for _, _, whole, _ in results) / len(results)
    print(
        f"cuts: {len(results)} cells, {len(wrong)} wrong, {share:.2%} gave the whole answer, "
        f"{time.monotonic() - started:.0f} s in all (no randomness: no seed)"
    )
    sys.exit(1 if wrong or share < GOOD_SHARE else 0)


if __name__ == "__main__":
    main()
