"""The table of raw requests against the whole gateway: what is malformed is refused, what is legal is served."""

import asyncio
import re

from campaigns.stage import Gateway
from tests.edge.corpus import ACCEPTED, EDGE_CODES, REFUSED, Case
from tests.edge.echo_server import responses

PATIENCE_S = 20.0
AT_ONCE = 24


async def exchange(place: Gateway, data: bytes) -> tuple[bytes, bool]:
    """Everything that the gateway says to `data`, and whether it closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            while piece := await reader.read(65_536):
                answer += piece
    except TimeoutError:
        return answer, False
    except ConnectionError:
        pass  # a reset is an end, too
    finally:
        writer.close()
    return answer, True


async def judged(place: Gateway, cases: list[Case]) -> list[str]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> str | None:
        async with gate:
            wrong = await (_served(place, case) if case.answers else _refused(place, case))
        return f"{case.name}: {wrong}" if wrong else None

    return [wrong for wrong in await asyncio.gather(*(one(case) for case in cases)) if wrong]


async def _refused(place: Gateway, case: Case) -> str | None:
    answer, closed = await exchange(place, case.raw(key=place.key.encode()))
    found = responses(answer)
    if not closed:
        return "the connection stayed open"
    if len(found) > 1 or len(re.findall(rb"HTTP/1\.1 \d", answer)) != len(found):
        return "a second request was answered"
    for response in found:
        if not 400 <= response.status < 500:
            return f"status {response.status}"
        if response.headers.get("connection") != "close":
            return "no connection: close"
        if response.code() not in EDGE_CODES | {"method_not_allowed", "not_found", "unknown_url"}:
            return f"code {response.code()}"
        if place.key.encode() in answer:
            return "the key came back"
    return None


async def _served(place: Gateway, case: Case) -> str | None:
    raw = case.raw(key=place.key.encode())
    # The last request asks to close, so that the end of the last answer is seen without a timeout.
    head, separator, rest = raw.rpartition(b"HTTP/1.")
    data = head + separator + rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    answer, closed = await exchange(place, data)
    found = responses(answer, heads=raw.startswith(b"HEAD"))
    if not closed:
        return "the connection stayed open"
    if len(found) != case.answers:
        return f"{len(found)} answers instead of {case.answers}"
    for response in found:
        if response.status >= 500 or (response.body and response.code() in EDGE_CODES):
            return f"status {response.status}: {response.body!r}"
    return None


async def test_malformed_requests_are_refused_and_nothing_after_them_is_read(place: Gateway) -> None:
    assert len(REFUSED) >= 60
    assert await judged(place, REFUSED) == []


async def test_odd_but_legal_requests_are_served(place: Gateway) -> None:
    assert await judged(place, ACCEPTED) == []
