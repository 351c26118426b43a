"""`on_sending` stands exactly between "a connection is held" and "the first byte leaves", and nothing is sent twice."""

import asyncio
import contextlib
import socket

import pytest
import uvicorn

from xrouter.transport import BrokenOff, CannotConnect
from xrouter.transport.pool import _KEEPALIVE_S

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def post(transport, url, on_sending=None, body=b"{}", method="POST"):
    async with transport.request(method, url, headers={}, body=body, on_sending=on_sending) as response:
        return await response.read(100)


def echo(events: list[str]):
    async def script(peer):
        while True:
            first = await peer.reader.read(1)
            if not first:
                return
            events.append("byte")
            await peer.request()
            await peer.send(OK)

    return script


@pytest.mark.parametrize("body", [b"{}", None], ids=["with body", "without"])
async def test_the_mark_comes_before_the_first_byte_on_new_and_on_kept_connections(serve, dial, body):
    events: list[str] = []
    server = await serve(echo(events))
    transport = dial()
    for _ in range(3):
        await post(transport, server.url, lambda: events.append("mark"), body)
    assert events == ["mark", "byte"] * 3
    assert server.connections == 1


async def test_the_mark_comes_only_when_the_connection_stands(serve, dial):
    """While the server does not speak TLS yet, nothing is held, so nothing is marked."""
    marks: list[str] = []
    stall = asyncio.Event()

    async def script(peer):
        await stall.wait()

    server = await serve(script)
    with pytest.raises(CannotConnect):
        await post(dial(connect_timeout_s=0.2), server.url.replace("http:", "https:"), lambda: marks.append("mark"))
    assert server.connections == 1
    assert marks == []


async def test_no_mark_without_connection(serve, dial):
    marks: list[str] = []
    with pytest.raises(CannotConnect):
        await post(dial(), "http://127.0.0.1:1/", lambda: marks.append("mark"))
    with pytest.raises(CannotConnect):
        await post(dial(), "https://10.0.0.1/", lambda: marks.append("mark"))
    assert marks == []


@pytest.mark.parametrize("problem", [OSError(28, "disk full"), RuntimeError("journal is closed")])
async def test_when_the_mark_fails_nothing_leaves(serve, dial, problem):
    received = asyncio.Event()

    async def script(peer):
        if await peer.reader.read(1):
            received.set()

    server = await serve(script)

    def refuse():
        raise problem

    with pytest.raises(type(problem)) as caught:
        await post(dial(), server.url, refuse)
    assert caught.value is problem
    async with asyncio.timeout(5):
        await server.ended.wait()
    assert not received.is_set()


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_nothing_is_ever_sent_twice(serve, dial, method, end):
    """The second request on a kept connection meets a server that reads it and goes: the trap for silent retries.

    Libraries' sessions repeat GET, PUT and DELETE here by themselves.
    """
    requests: list[bytes] = []

    async def script(peer):
        requests.append(await peer.request())
        await peer.send(OK)
        requests.append(await peer.request())
        if end == "rst":
            peer.reset()

    server = await serve(script)
    transport = dial()
    marks: list[str] = []
    await post(transport, server.url, method=method)
    with pytest.raises(BrokenOff) as caught:
        await post(transport, server.url, lambda: marks.append("mark"), method=method)
    assert caught.value.reason == {"fin": "eof", "rst": "reset"}[end]
    assert len([request for request in requests if request]) == 2
    assert server.connections == 1
    assert marks == ["mark"]


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("seen_by_loop", [True, False])
async def test_a_connection_the_peer_has_closed_is_passed_over(serve, dial, end, seen_by_loop):
    """No user sees an error, no request is lost, and the mark comes once."""
    closed = []

    async def script(peer):
        await peer.request()
        await peer.send(OK)
        if peer.number == 0:
            if end == "rst":
                peer.reset()
            else:
                peer.writer.close()
            closed.append(peer)
            return
        await peer.request()

    server = await serve(script)
    transport = dial()
    marks: list[str] = []
    await post(transport, server.url)
    async with asyncio.timeout(5):
        await server.ended.wait()
    if seen_by_loop:
        await asyncio.sleep(0.05)
    assert await post(transport, server.url, lambda: marks.append("mark")) == b"{}"
    assert marks == ["mark"]
    assert server.connections == 2


async def test_a_close_that_only_the_kernel_knows_of(dial):
    """The server is plain blocking code on this thread, so that our event loop cannot have seen its FIN."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    transport = dial()

    async def answer_one() -> socket.socket:
        peer, _ = await loop.sock_accept(listener)
        await loop.sock_recv(peer, 65536)
        await loop.sock_sendall(peer, OK)
        return peer

    first = asyncio.create_task(answer_one())
    await post(transport, url)
    peer = await first
    second = asyncio.create_task(answer_one())
    await asyncio.sleep(0)
    peer.close()  # from here to the write in `request` the loop does not look at its sockets
    marks: list[str] = []
    assert await post(transport, url, lambda: marks.append("mark")) == b"{}"
    assert marks == ["mark"]
    (await second).close()
    listener.close()


@pytest.mark.parametrize("seen_by_loop", [True, False])
async def test_an_answer_nobody_asked_for_does_not_answer_the_next_request(serve, dial, seen_by_loop):
    kept, poisoned = asyncio.Event(), asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(OK)
        if peer.number == 0:
            await kept.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            poisoned.set()
        await peer.request()
        await peer.send(OK)

    server = await serve(script)
    transport = dial()
    assert await post(transport, server.url) == b"{}"
    [[idle]] = transport._pool._idle.values()
    kept.set()
    await poisoned.wait()
    async with asyncio.timeout(5):
        while seen_by_loop and not idle._spoilt:
            await asyncio.sleep(0.001)
    assert await post(transport, server.url) == b"{}"
    assert server.connections == 2


async def test_an_unread_answer_does_not_answer_the_next_request(serve, dial):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfirst")
        await asyncio.sleep(0)
        await peer.send(b"!")
        await peer.request()
        await peer.send(OK)

    server = await serve(script)
    transport = dial()
    for _ in range(3):
        with contextlib.suppress(BrokenOff):
            async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
                assert response.status == 200
    async with transport.request("POST", server.url, headers={}, body=b"{}") as response:
        assert await response.read(100) in (b"first!", b"{}")


async def test_a_full_pool_waits_and_then_says_so(serve, dial):
    release = asyncio.Event()

    async def script(peer):
        while await peer.request():
            await release.wait()
            await peer.send(OK)

    server = await serve(script)
    transport = dial(max_connections=2, pool_wait_s=0.05)
    running = [asyncio.create_task(post(transport, server.url)) for _ in range(2)]
    while server.connections < 2:
        await asyncio.sleep(0.001)
    marks: list[str] = []
    with pytest.raises(CannotConnect, match="all 2 connections") as caught:
        await post(transport, server.url, lambda: marks.append("mark"))
    assert caught.value.reason == "pool"
    assert marks == []
    release.set()
    assert await asyncio.gather(*running) == [b"{}", b"{}"]
    assert await asyncio.gather(*[post(transport, server.url) for _ in range(20)]) == [b"{}"] * 20
    assert server.connections == 2


async def test_failures_give_their_place_in_the_pool_back(serve, dial):
    async def script(peer):
        await peer.request()

    server = await serve(script)
    transport = dial(max_connections=1, pool_wait_s=0.05)
    for _ in range(5):
        with pytest.raises(BrokenOff):
            await post(transport, server.url)
        with pytest.raises(CannotConnect) as caught:
            await post(transport, "http://127.0.0.1:1/")
        assert caught.value.reason == "refused"
        with pytest.raises(CannotConnect) as caught:
            await post(transport, "http://10.0.0.1/")
        assert caught.value.reason == "forbidden_address"


async def test_after_close_there_are_no_connections(serve, dial):
    transport = dial()
    await transport.close()
    with pytest.raises(CannotConnect) as caught:
        await post(transport, "http://127.0.0.1:1/")
    assert caught.value.reason == "pool"


async def test_idle_connections_are_given_up_before_the_server_does(serve, dial, monkeypatch):
    monkeypatch.setattr("xrouter.transport.pool._KEEPALIVE_S", 0.05)
    server = await serve(echo([]))
    transport = dial()
    await post(transport, server.url)
    async with asyncio.timeout(5):
        await server.ended.wait()
    await post(transport, server.url)
    assert server.connections == 2


def test_and_uvicorn_gives_them_up_after_five_seconds():
    assert uvicorn.Config("app").timeout_keep_alive > _KEEPALIVE_S
