"""Every way in which an upstream can fail after the request has left. Each one ends promptly, with its reason."""

import asyncio

import pytest

from xrouter.transport import BrokenOff

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

RST, FIN, HOLD = "rst", "fin", "hold"


def playing(*steps):
    """A server that reads a request and plays bytes, pauses, and at last an end (FIN unless told otherwise)."""

    async def script(peer):
        await peer.request()
        for step in steps:
            if step == RST:
                peer.reset()
            elif step == HOLD:
                await peer.reader.read()
            elif isinstance(step, bytes):
                await peer.send(step)
            else:
                await step(peer)

    return script


class Pause:
    """Lets the client take what was sent so far before the script goes on."""

    def __init__(self):
        self.go_on = asyncio.Event()

    async def __call__(self, peer):
        await self.go_on.wait()


async def fail(dial, server):
    """The BrokenOff that a call ends with, and what it received before."""
    received: list[object] = []
    async with asyncio.timeout(10):
        with pytest.raises(BrokenOff) as caught:
            async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
                received.append(response.status)
                async for chunk in response.chunks():
                    received.append(chunk)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    return caught.value, received


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([RST], "reset"),
        ([FIN], "eof"),
        ([b"HTTP/1.1 200 OK\r\nContent-", FIN], "eof"),
        ([b"HTTP/1.1 200 OK\r\nContent-", RST], "reset"),
        ([b"hello\r\n\r\n", HOLD], "protocol"),
        ([b"\x15\x03\x01\x00\x02\x02\x28", HOLD], "protocol"),
        ([b"HTTP/1.1 2x0 OK\r\n\r\n", HOLD], "protocol"),
        ([b"HTTP/9.9 200 OK\r\n\r\n", HOLD], "protocol"),
        ([HEAD + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", HOLD], "protocol"),
        ([HEAD + b"Content-Length: -1\r\n\r\n", HOLD], "protocol"),
        ([HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HOLD], "protocol"),
        ([HEAD + b"bad header\r\n\r\n", HOLD], "protocol"),
        ([HEAD + b"X: " + b"a" * 10_000 + b"\r\n\r\n", HOLD], "protocol"),
        ([HEAD + b"X" * 10_000 + b": a\r\n\r\n", HOLD], "protocol"),
        ([b"HTTP/1.1 200 " + b"K" * 10_000 + b"\r\n\r\n", HOLD], "protocol"),
        ([HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n", HOLD], "protocol"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, HOLD], "protocol"),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9, HOLD], "protocol"),
        ([b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", HOLD], "protocol"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", RST], "reset"),
    ],
)
async def test_before_the_status_line(serve, dial, steps, reason):
    error, received = await fail(dial, await serve(playing(*steps)))
    assert error.reason == reason
    assert received == []


async def test_an_endless_header_block_ends(serve, dial):
    async def flood(peer):
        while True:
            await peer.send(b"X-Bomb: " + b"a" * 4000 + b"\r\n")

    error, _ = await fail(dial, await serve(playing(HEAD, flood)))
    assert error.reason == "protocol"


async def test_an_endless_row_of_interim_answers_ends(serve, dial):
    async def flood(peer):
        while True:
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    error, _ = await fail(dial, await serve(playing(flood)))
    assert error.reason == "protocol"


async def test_interim_answers_are_passed_over(serve, dial):
    server = await serve(
        playing(
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        )
    )
    async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
        assert (response.status, await response.read(10)) == (200, b"{}")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (HEAD + b"Content-Length: 100\r\n\r\nhello", FIN, "eof"),
        (HEAD + b"Content-Length: 100\r\n\r\nhello", RST, "reset"),
        (CHUNKED + b"5\r\nhello\r\n", FIN, "eof"),
        (CHUNKED + b"5\r\nhello\r\n", RST, "reset"),
        (CHUNKED + b"5\r\nhello", FIN, "eof"),
        (CHUNKED + b"5\r\nhello\r\n", b"ZZZ\r\nxx", "protocol"),
        (CHUNKED + b"5\r\nhello\r\n", b"5\r\nhelloX\r\n", "protocol"),
        (HEAD + b"\r\nhello", RST, "reset"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", RST, "reset"),
    ],
    ids=[
        "length-fin",
        "length-rst",
        "chunked-fin",
        "chunked-rst",
        "chunk-fin",
        "chunk-size-garbage",
        "chunk-end-garbage",
        "unframed-rst",
        "http10-rst",
    ],
)
async def test_in_mid_body(serve, dial, first, second, reason):
    pause = Pause()
    server = await serve(playing(first, pause, second, HOLD))
    received = b""
    async with asyncio.timeout(10):
        with pytest.raises(BrokenOff) as caught:
            async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
                async for chunk in response.chunks():
                    received += chunk
                    pause.go_on.set()
    assert caught.value.reason == reason
    assert received.startswith(b"hello")


@pytest.mark.parametrize("head", [HEAD + b"Content-Length: 5\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
async def test_a_reset_after_the_last_byte_takes_nothing_back(serve, dial, head):
    pause = Pause()
    server = await serve(playing(head, pause, RST))
    transport = dial()
    async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
        pause.go_on.set()
        async with asyncio.timeout(5):
            while next(iter(transport._pool._open), None) is not None:
                await asyncio.sleep(0.001)
        assert await response.read(100) == b"hello"


async def test_read_fails_like_chunks(serve, dial):
    server = await serve(playing(HEAD + b"Content-Length: 100\r\n\r\nhello", FIN))
    with pytest.raises(BrokenOff) as caught:
        async with dial().request("POST", server.url, headers={}, body=b"{}") as response:
            await response.read(1000)
    assert caught.value.reason == "eof"


async def test_the_words_do_not_quote_the_upstream(serve, dial):
    error, _ = await fail(dial, await serve(playing(b"HTTP/1.1 2x0 secret-token\r\n\r\n", HOLD)))
    assert "secret-token" not in str(error)


async def test_a_broken_connection_is_not_used_again(serve, dial):
    async def script(peer):
        await peer.request()
        if peer.number == 0:
            await peer.send(CHUNKED + b"5\r\nhello\r\nZZZ\r\n")
        else:
            await peer.send(HEAD + b"Content-Length: 2\r\n\r\n{}")
        await peer.request()

    server = await serve(script)
    transport = dial()
    with pytest.raises(BrokenOff):
        async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
            await response.read(100)
    async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
        assert await response.read(100) == b"{}"
    assert server.connections == 2


async def test_connection_close_is_honoured(serve, dial):
    async def script(peer):
        await peer.request()
        await peer.send(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
        await peer.request()

    server = await serve(script)
    transport = dial()
    for _ in range(2):
        async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
            assert await response.read(100) == b"{}"
    assert server.connections == 2
