"""kill -9 at random moments under load: is every upstream call in the books exactly once?

`python -m campaigns.crash 200 [seed]`. The simulators outlive the gateway, so what they saw is the truth:
every attempt id they saw has exactly one row, every row they did not see is `interrupted`, none is double, and
no row stays open.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from campaigns.stage import Gateway, config_for, gateway, simulators, wait_until

CLIENTS = 12
MODELS = (
    "gigachat/GigaChat-2",
    "tbank/t-pro-it-2.1",
    "both",
    "tbank/t-pro-it-2.1+reset-2",
    "tbank/t-pro-it-2.1+status-500",
)


async def _client(url: str, key: str, rng: random.Random, stop: asyncio.Event) -> int:
    """Ask, whole or streamed, until told to stop; some leave half-way. Returns the number of whole answers."""
    done = 0
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        while not stop.is_set():
            stream = rng.random() < 0.6
            body = {
                "model": rng.choice(MODELS),
                "stream": stream,
                "messages": [{"role": "user", "content": f"say {rng.randint(1, 30)} words"}],
            }
            patience_s = rng.choice((5.0, 5.0, 5.0, 0.03))
            with suppress(aiohttp.ClientError, asyncio.TimeoutError, OSError):
                async with asyncio.timeout(patience_s), session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
                    done += answer.status == 200
                continue
            await asyncio.sleep(0.01)
    return done


async def _load(place: Gateway, kills: int, rng: random.Random) -> int:
    """The clients work while the gateway is killed and started `kills` times."""
    stop = asyncio.Event()
    clients = [
        asyncio.create_task(_client(place.url, place.key, random.Random(rng.random()), stop)) for _ in range(CLIENTS)
    ]
    for number in range(kills):
        await asyncio.sleep(rng.uniform(0.0, 0.6))
        await asyncio.to_thread(place.kill)
        await asyncio.to_thread(place.start)
        if (number + 1) % 20 == 0:
            print(f"  {number + 1} kills", flush=True)
    await asyncio.sleep(0.3)
    stop.set()
    return sum(await asyncio.gather(*clients))


def _books(place: Gateway, seen: list[str]) -> list[dict[str, Any]]:
    """The rows, once the last of them have come over from the journal; after 10 s, as they are."""
    rows: list[dict[str, Any]] = []

    def settled() -> bool:
        nonlocal rows
        rows = place.attempts()
        return {row["id"] for row in rows} >= set(seen) and not any(row["state"] == "open" for row in rows)

    with suppress(AssertionError):
        wait_until("every attempt to be in the books", settled, 10.0)
    return rows


def judge(seen: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the books, in words."""
    wrong = [
        f"attempt {one} has {count} rows" for one, count in Counter(row["id"] for row in rows).items() if count > 1
    ]
    wrong += [f"the vendor saw {one} {count} times" for one, count in Counter(seen).items() if count > 1]
    booked = {row["id"]: row for row in rows}
    wrong += [f"attempt {one} was seen by the vendor and has no row" for one in set(seen) - booked.keys()]
    wrong += [
        f"attempt {one} is {booked[one]['state']}, but no vendor saw it"
        for one in booked.keys() - set(seen)
        if booked[one]["state"] != "interrupted"
    ]
    wrong += [f"attempt {row['id']} is still open" for row in rows if row["state"] == "open"]
    return wrong


def run(kills: int, seed: int, directory: Path, workers: int = 1) -> dict[str, Any]:
    """The whole campaign. Returns its figures; `wrong` lists every broken promise."""
    rng = random.Random(seed)
    with simulators(directory, pace_ms=1.0, seed=seed) as vendors:
        config = config_for(vendors.url)
        with gateway(directory / "gateway", config, workers=workers) as place:
            answered = asyncio.run(_load(place, kills, rng))
            seen = [row["attempt_id"] for row in vendors.requests() if row["path"].endswith("/chat/completions")]
            rows = _books(place, seen)
            code = place.stop()
    states = Counter(row["state"] for row in rows)
    wrong = judge(seen, rows) + ([f"the last stop ended with code {code}"] if code else [])
    return {
        "kills": kills,
        "answered": answered,
        "seen": len(seen),
        "rows": len(rows),
        "states": states,
        "wrong": wrong,
    }


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="xrouter-crash-") as directory:
        for workers in (1, 2):
            share = kills // 2 + (kills % 2 if workers == 1 else 0)
            print(f"crash campaign: {share} kills, {workers} worker(s), seed {seed}", flush=True)
            place = Path(directory) / str(workers)
            place.mkdir()
            found = run(share, seed, place, workers)
            print({name: value for name, value in found.items() if name != "wrong"}, flush=True)
            for line in found["wrong"][:20]:
                print(f"WRONG: {line} (seed {seed})")
            if found["wrong"]:
                sys.exit(1)
    print(f"crash campaign passed in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
