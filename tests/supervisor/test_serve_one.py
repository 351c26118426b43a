"""One serving process, from outside: drain, signals, exit codes."""

import asyncio
import json
import signal
import socket

import aiohttp
import pytest
import uvloop

from xrouter.supervisor.http_server import HttpServer
from xrouter.supervisor.listening import bind, url_of
from xrouter.supervisor.protocol import GuardedProtocol, guarded


async def _text(http, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


async def _accepts(url: str) -> bool:
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_sigterm_serves_on_while_not_ready_then_ends_with_0(start, http, until):
    server = await start("fake_single.py", drain_delay_s=2.0, drain_max_s=30)
    stream = await http.get(f"{server.url}/stream?events=250")
    server.signal(signal.SIGTERM)
    await until(lambda: server.life_of(server.process.pid) == ["drain_begin"])

    async with http.get(f"{server.url}/health/ready") as answer:  # a new connection, still accepted
        assert answer.status == 503
        assert answer.headers["connection"] == "close"

    text = await stream.text()  # 2.5 s, longer than the delay, shorter than the limit
    assert text.endswith("data: [DONE]\n\n")
    assert await server.exit_code() == 0
    assert server.life_of(server.process.pid) == ["drain_begin", "close"]
    assert not await _accepts(server.url)


async def test_streams_that_outlast_the_drain_get_the_error_event(start, http):
    server = await start("fake_single.py")
    streams = [await http.get(f"{server.url}/stream") for _ in range(5)]
    server.signal(signal.SIGTERM)
    for stream in streams:
        assert (await stream.text()).endswith("event: error\ndata: server_shutdown\n\n")
    assert await server.exit_code() == 0
    assert server.life_of(server.process.pid) == ["drain_begin", "drain_end", "close"]


async def test_idle_connections_do_not_hold_up_the_end(start):
    server = await start("fake_single.py", drain_max_s=60)
    async with aiohttp.ClientSession() as session:
        await _text(session, server.url)  # leaves its connection open
        server.signal(signal.SIGTERM)
        assert await server.exit_code(10) == 0


async def test_ctrl_c_has_no_delay(start, http):
    server = await start("fake_single.py", drain_delay_s=60)
    stream = await http.get(f"{server.url}/stream?events=20")
    server.signal(signal.SIGINT)
    assert (await stream.text()).endswith("data: [DONE]\n\n")
    assert await server.exit_code(10) == 0


async def test_a_second_ctrl_c_waits_for_nothing(start, http, until):
    server = await start("fake_single.py", drain_max_s=60)
    stream = await http.get(f"{server.url}/stream")
    server.signal(signal.SIGINT)
    await until(lambda: server.life_of(server.process.pid) == ["drain_begin"])
    server.signal(signal.SIGINT)
    assert await server.exit_code(10) == 130
    assert (await stream.text()).endswith("event: error\ndata: server_shutdown\n\n")
    assert server.life_of(server.process.pid) == ["drain_begin", "drain_end", "close"]


async def test_log_of_a_drain_is_json(start):
    server = await start("fake_single.py", drain_delay_s=0)
    server.signal(signal.SIGTERM)
    assert await server.exit_code() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert [line["event"] for line in lines if line["event"].startswith("drain")] == ["draining", "drained"]


async def test_an_address_in_use_is_said_in_plain_words(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await start("fake_single.py", port=port)


async def test_answers_name_no_server_and_carry_one_date(start, http):
    server = await start("fake_single.py")
    async with http.get(server.url) as answer:
        assert "server" not in answer.headers
        assert len(answer.headers.getall("date")) == 1


def test_client_sockets_send_without_delay():
    """Nagle's algorithm with delayed ACKs costs streams 40 ms an event."""
    nodelay: list[int] = []

    class Recording(guarded(max_head_bytes=32768)):
        def connection_made(self, transport):
            nodelay.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> None:
        assert issubclass(Recording, GuardedProtocol)
        listener = await bind("127.0.0.1", 0)
        server = HttpServer(app, listener, Recording)
        url = url_of(listener)
        await server.open()
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            assert answer.status == 204
        server.stop_listening()
        assert await server.close(5) == 0

    uvloop.run(ask())
    assert nodelay == [1]
