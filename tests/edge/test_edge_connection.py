"""What happens to the connection around a request: limits, slow and absent clients, answers before the body."""

import asyncio
import contextlib
import json
import os
import socket

import psutil
import pytest
from tests.edge.echo_server import MAX_BODY, Server, responses, serve

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\n"


async def _closed_after(server: Server, data: bytes, *, timeout_s: float = 5.0) -> bytes:
    answer, closed = await server.exchange(data, timeout_s=timeout_s)
    assert closed, "the connection stayed open"
    return answer


async def test_two_requests_share_a_connection() -> None:
    async with serve() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number in range(3):
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{%d" % number)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["body"] == f"{{{number}"
        writer.close()


async def test_every_answer_has_the_security_headers_and_none_names_the_server() -> None:
    async with serve() as server:
        for data in (HEAD + b"Connection: close\r\n\r\n", HEAD + b"Host: gw.test\r\n\r\n", b"nonsense\r\n\r\n"):
            (response,) = responses(await _closed_after(server, data))
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["referrer-policy"] == "no-referrer"
            assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert "server" not in response.headers
            assert "strict-transport-security" not in response.headers


async def test_refusals_say_what_is_wrong() -> None:
    cases = {
        b"Content-Length: 99999999\r\n\r\n": (413, "request_too_large"),
        b"Content-Encoding: br\r\n\r\n": (415, "unsupported_encoding"),
        b"X-A: " + b"a" * 33_000 + b"\r\n\r\n": (431, "headers_too_large"),
        b"Host: gw.test\r\n\r\n": (400, "duplicate_header"),
        b"X A: b\r\n\r\n": (400, "invalid_http"),
    }
    async with serve() as server:
        for rest, wanted in cases.items():
            (response,) = responses(await _closed_after(server, HEAD + rest))
            assert (response.status, response.code()) == wanted
        (response,) = responses(
            await _closed_after(server, b"GET /?" + b"a" * 8_200 + b" HTTP/1.1\r\nHost: gw.test\r\n\r\n")
        )
        assert (response.status, response.code()) == (414, "url_too_long")
        (response,) = responses(await _closed_after(server, b"TRACE / HTTP/1.1\r\nHost: gw.test\r\n\r\n"))
        assert (response.status, response.code()) == (405, "method_not_allowed")


async def test_a_body_that_is_exactly_as_large_as_allowed_passes_and_one_byte_more_does_not() -> None:
    async with serve() as server:
        for extra, status in ((0, 200), (1, 413)):
            size = MAX_BODY + extra
            declared = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size
            chunked = (
                HEAD
                + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"%x\r\n" % size
                + b"a" * size
                + b"\r\n0\r\n\r\n"
            )
            for data in (declared, chunked):
                (response,) = responses(await _closed_after(server, data))
                assert response.status == status


def _write_all_then_read(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(data)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
        return answer


async def test_too_large_a_body_is_refused_at_its_header_and_the_client_can_read_why() -> None:
    """The client sends its whole body before it reads: without a linger a reset would eat the answer."""
    size = 3 * 1024 * 1024
    async with serve(linger_s=3.0) as server:
        data = HEAD + b"Content-Length: %d\r\n\r\n" % size + b"a" * size
        (response,) = responses(await asyncio.to_thread(_write_all_then_read, server.port, data))
        assert (response.status, response.code()) == (413, "request_too_large")
        assert server.echo.seen == []


async def test_a_body_that_turns_to_nonsense_after_its_answer_gets_no_second_one() -> None:
    async with serve(linger_s=3.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /unread HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"xyz\r\n")
            answer += await reader.read()
        writer.close()
        assert [response.status for response in responses(answer)] == [200]
        assert answer.count(b"HTTP/1.1") == 1


async def test_a_client_that_waits_for_100_continue_gets_it_only_when_its_body_is_wanted() -> None:
    async with serve() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        answer = await _closed_after(server, HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413")


async def test_an_answer_before_the_body_closes_the_connection() -> None:
    """What is left of the body must not be taken for the next request."""
    data = (
        b"POST /unread HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 60000\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n"
    )
    async with serve() as server:
        (response,) = responses(await _closed_after(server, data))
        assert response.status == 200
        assert response.headers["connection"] == "close"
        assert server.echo.seen == ["/unread"]


async def test_slow_headers_are_cut_off() -> None:
    async with serve(head_timeout_s=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(b"X-A: b\r\n")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.02):
                            answer = await reader.read(65_536)
                            break
        writer.close()
        assert responses(answer)[0].status == 408


async def test_a_connection_that_never_asks_is_closed() -> None:
    async with serve(head_timeout_s=0.2) as server:
        assert await _closed_after(server, b"") == b""


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n"])
async def test_empty_lines_do_not_keep_a_connection(before: bytes) -> None:
    async with serve(head_timeout_s=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(5):
            if before:
                writer.write(before)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"\r\n")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.02):
                            if await reader.read(65_536) == b"":
                                break
        writer.close()


async def test_a_slow_second_request_does_not_cut_the_answer_before_it() -> None:
    async with serve(head_timeout_s=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: gw.test\r\n\r\n" + b"GET /second HTTP/1.1\r\n")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                assert await reader.read(1) == b"never", "the running request was cut"
        server.echo.release.set()
        writer.write(b"Host: gw.test\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            found = responses(await reader.read())
        assert [json.loads(response.body)["path"] for response in found] == ["/slow", "/second"]
        writer.close()


async def test_nonsense_after_a_good_request_does_not_spoil_its_answer() -> None:
    async with serve() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: gw.test\r\n\r\n" + b"\x00nonsense\r\n\r\n")
        async with asyncio.timeout(5):
            while not server.echo.seen:
                await asyncio.sleep(0.005)
            server.echo.release.set()
            answer = await reader.read()
        writer.close()
        (response,) = responses(answer)
        assert response.status == 200
        assert json.loads(response.body)["path"] == "/slow"


async def test_a_body_that_turns_to_nonsense_is_refused_at_once() -> None:
    async with serve(body_timeout_s=30.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        async with asyncio.timeout(5):
            while not server.echo.seen:
                await asyncio.sleep(0.005)
            writer.write(b"xyz\r\n")
            answer = await reader.read()
        writer.close()
        assert responses(answer)[0].code() == "invalid_http"
        assert server.echo.ended == ["gone"]


async def test_a_slow_body_is_cut_off_with_408() -> None:
    async with serve(body_timeout_s=0.2) as server:
        answer = await _closed_after(server, HEAD + b"Content-Length: 10\r\n\r\n{")
        (response,) = responses(answer)
        assert (response.status, response.code()) == (408, "request_timeout")
        assert response.headers["connection"] == "close"


async def test_a_client_that_leaves_in_its_body_is_noticed() -> None:
    async with serve() as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD + b"Content-Length: 10\r\n\r\n{")
        async with asyncio.timeout(5):
            while not server.echo.seen:
                await asyncio.sleep(0.005)
            writer.close()
            while server.echo.ended != ["gone"]:
                await asyncio.sleep(0.005)


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with serve(write_timeout_s=0.2) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /endless HTTP/1.1\r\nHost: gw.test\r\n\r\n")
        async with asyncio.timeout(10):
            while server.echo.ended != ["written"]:  # sending into a cut connection does not wait
                await asyncio.sleep(0.01)
        writer.close()


async def test_one_endless_header_does_not_fill_the_memory() -> None:
    process = psutil.Process(os.getpid())
    async with serve() as server:
        before = process.memory_info().rss
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HEAD + b"X-A: ")
        sent = 0
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while sent < 64 * 1024 * 1024:
                    writer.write(b"a" * 65_536)
                    sent += 65_536
                    await writer.drain()
        writer.close()
        assert sent < 32 * 1024 * 1024, "the server took it all"
        assert process.memory_info().rss - before < 32 * 1024 * 1024


async def test_trailers_do_not_become_headers() -> None:
    async with serve() as server:
        data = HEAD + (
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\nHost: evil.test\r\n\r\n"
        )
        (response,) = responses(await _closed_after(server, data))
        assert response.status == 200
        names = [name for name, _ in json.loads(response.body)["headers"]]
        assert "authorization" not in names
        assert names.count("host") == 1
