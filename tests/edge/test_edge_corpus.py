"""The table of raw requests over a real socket: what is malformed is refused, what is legal is served."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.edge.corpus import ACCEPTED, EDGE_CODES, REFUSED, Case
from tests.edge.echo_server import Server, responses, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_server() -> AsyncIterator[Server]:
    async with serve() as running:
        yield running


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.echo.served.clear()
    return one_server


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
async def test_a_malformed_request_is_refused_and_nothing_after_it_is_read(server: Server, case: Case) -> None:
    answer, closed = await server.exchange(case.raw())

    found = responses(answer)
    assert closed, "the connection stayed open"
    assert len(found) <= 1, "a second request was answered"
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == len(found), "an answer was mixed into another"
    assert all(400 <= response.status < 500 for response in found)
    assert all(response.headers["connection"] == "close" for response in found)
    assert all(response.headers["x-content-type-options"] == "nosniff" for response in found)
    assert server.echo.served == [], "the application took the request for whole"


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
async def test_an_odd_but_legal_request_is_served(server: Server, case: Case) -> None:
    raw = case.raw()
    # The last request asks to close, so that the end of the last answer is seen without a timeout.
    head, separator, rest = raw.rpartition(b"HTTP/1.")
    answer, closed = await server.exchange(head + separator + rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    found = responses(answer, heads=raw.startswith(b"HEAD"))
    assert closed
    assert [response.status for response in found] == [200] * case.answers
    assert not any(response.code() in EDGE_CODES for response in found if response.body)
    assert len(server.echo.served) == case.answers


async def test_the_table_is_large_and_every_case_has_its_own_name() -> None:
    assert len(REFUSED) >= 80
    assert len(ACCEPTED) >= 20
