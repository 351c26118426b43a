"""What leaves on the wire, and what comes back, when all goes well (and when the caller has enough)."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator

import pytest

from xrouter.transport import BrokenOff

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-ID: r-1\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in chunks])


async def until(condition, deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.002)


def answering(answer: bytes, seen: list[bytes] | None = None):
    async def script(peer):
        while request := await peer.request():
            if seen is not None:
                seen.append(request)
            await peer.send(answer)

    return script


async def test_a_post_leaves_as_one_plain_request(serve, dial):
    seen: list[bytes] = []
    server = await serve(answering(OK, seen))
    async with dial().request("POST", server.url, headers={"Authorization": "Bearer k"}, body=b'{"a":1}') as response:
        assert response.status == 200
        assert response.headers["x-request-id"] == "r-1"
        assert await response.read(1024) == b"{}"
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert lines[1] == b"Host: 127.0.0.1:%d" % server.port
    assert body == b'{"a":1}'
    assert sorted(line.partition(b":")[0].lower() for line in lines[1:]) == [
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"content-length",
        b"host",
        b"user-agent",
    ]
    assert b"Accept-Encoding: identity" in lines
    assert b"Content-Length: 7" in lines


async def test_a_get_has_no_body_and_an_empty_post_says_so(serve, dial):
    seen: list[bytes] = []
    server = await serve(answering(OK, seen))
    transport = dial()
    for method in ("GET", "POST"):
        async with transport.request(method, server.url + "?a=b%20c", headers={}) as response:
            assert await response.read(10) == b"{}"
    assert seen[0].startswith(b"GET /v1/chat/completions?a=b%20c HTTP/1.1\r\n")
    assert b"content-length" not in seen[0].lower()
    assert b"Content-Length: 0\r\n" in seen[1]
    assert server.connections == 1


async def test_headers_cannot_smuggle_a_second_line(serve, dial):
    server = await serve(answering(OK))
    marks: list[str] = []
    with pytest.raises(ValueError, match="control character"):
        async with dial().request(
            "POST",
            server.url,
            headers={"Authorization": "Bearer k\r\nX-Evil: 1"},
            body=b"{}",
            on_sending=lambda: marks.append("sent"),
        ):
            pass
    assert marks == []


async def test_chunks_come_as_they_arrive(serve, dial):
    go_on = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(CHUNKED + chunk(b"data: 1\n\n"))
        await go_on.wait()
        await peer.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        await peer.request()

    server = await serve(script)
    async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
        chunks = response.chunks()
        assert await anext(chunks) == b"data: 1\n\n"
        go_on.set()
        assert await collect(chunks) == b"data: 2\n\n"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_body(serve, dial, status):
    server = await serve(answering(b"HTTP/1.1 %d x\r\n\r\n" % status))
    transport = dial()
    for _ in range(2):
        async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
            assert (response.status, await response.read(10)) == (status, b"")
    assert server.connections == 1


async def test_a_body_may_end_with_the_connection(serve, dial):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + b"abc" * 1000)

    server = await serve(script)
    async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
        assert await response.read(5000) == b"abc" * 1000


async def test_a_redirect_is_an_answer_not_an_order(serve, dial):
    canary = await serve(answering(OK))
    server = await serve(
        answering(b"HTTP/1.1 307 Go\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % canary.url.encode())
    )
    async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
        assert response.status == 307
        assert await response.read(10) == b""
    assert canary.connections == 0


async def test_cookies_are_not_kept(serve, dial):
    seen: list[bytes] = []
    server = await serve(answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n", seen))
    transport = dial()
    for _ in range(2):
        async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
            await response.read(0)
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"x-unknown"])
async def test_a_compressed_answer_is_refused(serve, dial, encoding):
    body = gzip.compress(b"{}" * 100)
    server = await serve(
        answering(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body)) + body
        )
    )
    with pytest.raises(BrokenOff, match="compressed") as caught:
        async with dial().request("POST", server.url, headers={}, body=b"{}"):
            pass
    assert caught.value.reason == "protocol"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"x" * 11,
        CHUNKED + chunk(b"xxxxxx") + chunk(b"xxxxx") + b"0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
async def test_read_takes_so_much_and_no_more(serve, dial, answer):
    server = await serve(answering(answer))
    transport = dial()
    async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
        assert await response.read(11) == b"x" * 11
    async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
        with pytest.raises(BrokenOff, match="more than 10 bytes") as caught:
            await response.read(10)
    assert caught.value.reason == "too_large"


async def test_an_endless_body_is_cut_at_the_limit(serve, dial):
    async def script(peer):
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(chunk(b"x" * 65536))

    server = await serve(script)
    with pytest.raises(BrokenOff, match="more than 1000000 bytes"):
        async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
            await response.read(1_000_000)
    async with asyncio.timeout(10):
        await server.ended.wait()


async def test_a_large_body_arrives_whole(serve, dial):
    seen: list[bytes] = []
    server = await serve(answering(OK, seen))
    body = bytes(range(256)) * (20 * 4096)  # 20 MiB
    async with dial().request("POST", server.url, headers={}, body=body) as response:
        assert await response.read(10) == b"{}"
    assert seen[0].partition(b"\r\n\r\n")[2] == body


async def test_an_answer_may_come_before_the_upload_ends(serve, dial):
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await asyncio.Event().wait()

    server = await serve(script)
    transport = dial()
    for _ in range(2):
        async with transport.request("POST", server.url, headers={}, body=b"x" * (20 * 1024 * 1024)) as response:
            assert response.status == 413
            assert await response.read(10) == b"big"
    assert server.connections == 2  # the first one still had a body in the pipe


async def test_cancelling_stops_an_upload(serve, dial):
    """A polite close would first send the rest of the body."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    received = 0

    async def script(peer):
        nonlocal received
        await peer.reader.readuntil(b"\r\n\r\n")
        asked.set()
        await go_on.wait()
        while data := await peer.reader.read(1 << 20):
            received += len(data)

    server = await serve(script)
    transport = dial()
    body = b"x" * (20 * 1024 * 1024)

    async def call():
        async with transport.request("POST", server.url, headers={}, body=body):
            pass

    task = asyncio.create_task(call())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    async with asyncio.timeout(10):
        await server.ended.wait()
    assert received < len(body)


async def test_200_requests_at_once(serve, dial):
    everyone_is_here = asyncio.Event()
    waiting = 0

    async def script(peer):
        nonlocal waiting
        request = await peer.request()
        waiting += 1
        if waiting == 200:
            everyone_is_here.set()
        await everyone_is_here.wait()
        body = request.partition(b"\r\n\r\n")[2]
        await peer.send(CHUNKED + chunk(body) + chunk(body) + b"0\r\n\r\n")
        await peer.request()

    server = await serve(script)
    transport = dial()

    async def one(number: int) -> bytes:
        async with transport.request("POST", server.url, headers={}, body=b"%d;" % number) as response:
            return await response.read(100)

    answers = await asyncio.gather(*[one(number) for number in range(200)])
    assert answers == [b"%d;%d;" % (number, number) for number in range(200)]
    assert server.connections == 200


async def test_leaving_early_cuts_the_connection(serve, dial):
    noticed = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(CHUNKED + chunk(b"data: 1\n\n"))
        if await peer.reader.read() == b"":
            noticed.set()

    server = await serve(script)
    async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
        assert await anext(response.chunks()) == b"data: 1\n\n"
        assert not noticed.is_set()
    async with asyncio.timeout(5):
        await noticed.wait()


@pytest.mark.parametrize("moment", ["head", "body"])
async def test_cancelling_cuts_the_connection(serve, dial, moment):
    asked, noticed = asyncio.Event(), asyncio.Event()

    async def script(peer):
        await peer.request()
        if moment == "body":
            await peer.send(CHUNKED + chunk(b"x"))
        asked.set()
        await peer.reader.read()
        noticed.set()

    server = await serve(script)
    transport = dial()

    async def call():
        async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
            await response.read(100)

    task = asyncio.create_task(call())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await noticed.wait()


async def test_a_slow_reader_slows_the_sender(serve, dial):
    sent = 0

    async def script(peer):
        nonlocal sent
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        peer.writer.transport.set_write_buffer_limits(0)
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(4000):
            await peer.send(chunk(b"x" * 16000))
            sent += 16000
        await peer.send(b"0\r\n\r\n")
        await peer.request()

    server = await serve(script)
    async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
        chunks = response.chunks()
        received = len(await anext(chunks))
        before = -1
        while before != sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 16_000_000, "64 MB were on offer: the rest is held back at the sender, not in our memory"
        held = len(await anext(chunks))
        assert held <= 64 * 1024 + 256 * 1024 + 16000, "two marks of read-ahead and one recv"
        received += held + len(await collect(chunks))
    assert received == 64_000_000


async def test_nagle_is_off(serve, dial):
    server = await serve(answering(OK))
    transport = dial()
    async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
        [wire] = transport._pool._open
        sock = wire._socket.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await response.read(10)


@pytest.mark.parametrize("moment", ["head", "body"])
async def test_closing_the_transport_ends_what_runs(serve, dial, moment):
    asked = asyncio.Event()

    async def script(peer):
        await peer.request()
        if moment == "body":
            await peer.send(CHUNKED + chunk(b"x"))
        asked.set()
        await peer.reader.read()

    server = await serve(script)
    transport = dial()

    async def call():
        async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
            asked.set()
            await response.read(100)

    task = asyncio.create_task(call())
    await asked.wait()
    await asyncio.sleep(0)
    await transport.close()
    async with asyncio.timeout(5):
        with pytest.raises(BrokenOff) as caught:
            await task
    assert caught.value.reason == "eof"
