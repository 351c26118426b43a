"""One answer out of bytes in any cut; the ends of TLS; one question for many connections."""

import asyncio
import contextlib
import gc
import ssl

import pytest

from xrouter.transport import BrokenOff
from xrouter.transport.answer import Answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
WHOLE = HEAD + b"Content-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz"
CHUNKED = (
    HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n17;x=y\r\ndefghijklmnopqrstuvwxyz\r\n0\r\nX-Trailer: t\r\n\r\n"
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Early: 1\r\n\r\n" + CHUNKED
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


def new_answer() -> Answer:
    return Answer(asyncio.get_running_loop(), "acme.test:443", lambda: None, lambda: None)


@pytest.mark.parametrize("size", range(1, 65))
@pytest.mark.parametrize("data", [WHOLE, CHUNKED, INTERIM], ids=["length", "chunked", "interim"])
async def test_every_cut_gives_the_same_answer(data: bytes, size: int) -> None:
    answer = new_answer()
    for place in range(0, len(data), size):
        answer.feed(data[place : place + size])
    await answer.begun()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain")
    assert "x-early" not in answer.headers
    assert "x-trailer" not in answer.headers
    assert await answer.read(26) == ALPHABET
    assert answer.reusable


async def test_what_comes_behind_the_end_spoils_the_connection() -> None:
    answer = new_answer()
    answer.feed(WHOLE + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    await answer.begun()
    assert await answer.read(100) == ALPHABET
    assert not answer.reusable


async def test_trailers_end() -> None:
    answer = new_answer()
    answer.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
    for _ in range(1000):
        answer.feed(b"X-Trailer: t\r\n" * 1000)
    await answer.begun()
    with pytest.raises(BrokenOff) as caught:
        await answer.read(100)
    assert caught.value.reason == "protocol"


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip"])
async def test_a_coded_transfer_is_refused(coding: bytes) -> None:
    answer = new_answer()
    answer.feed(HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n")
    with pytest.raises(BrokenOff, match="compressed"):
        await answer.begun()


async def test_an_answer_leaves_no_ring() -> None:
    gc.collect()
    before = {id(one) for one in gc.get_objects() if isinstance(one, Answer)}
    gc.disable()
    try:
        for _ in range(5):
            answer = new_answer()
            answer.feed(WHOLE)
            answer.release()
        del answer
        assert not [one for one in gc.get_objects() if isinstance(one, Answer) and id(one) not in before]
    finally:
        gc.enable()


@pytest.mark.parametrize("farewell", [True, False], ids=["close_notify", "cut"])
async def test_under_tls_only_a_farewell_ends_a_body_without_length(
    serve, dial, names, authority, server_tls, tmp_path, farewell
):
    """Without it, whoever sits between us and the vendor could shorten an answer (RFC 8446 section 6.1)."""

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        if farewell:
            peer.writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await peer.writer.wait_closed()
        else:
            peer.writer.transport.get_extra_info("socket")
            peer.writer.transport.abort()

    server = await serve(script, tls=server_tls(authority.issue_cert("api.example.test")))
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.cert_pem.bytes())
    transport = dial(
        lookup=names({"api.example.test": ["127.0.0.1"]}),
        trusted_hosts=frozenset({"api.example.test"}),
        ca_bundle=bundle,
    )
    url = f"https://api.example.test:{server.port}/v1"
    async with asyncio.timeout(10), transport.request("POST", url, headers={}, body=b"{}") as response:
        if farewell:
            assert await response.read(100) == b"abc"
        else:
            with pytest.raises(BrokenOff):
                await response.read(100)


async def test_large_bodies_pass_tls_in_both_directions(serve, dial, names, authority, server_tls, tmp_path):
    body = bytes(range(256)) * 12_000  # 3 MB, hundreds of records

    async def script(peer):
        while request := await peer.request():
            sent = request.partition(b"\r\n\r\n")[2]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)

    server = await serve(script, tls=server_tls(authority.issue_cert("api.example.test")))
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.cert_pem.bytes())
    transport = dial(
        lookup=names({"api.example.test": ["127.0.0.1"]}),
        trusted_hosts=frozenset({"api.example.test"}),
        ca_bundle=bundle,
    )
    for _ in range(2):
        async with transport.request(
            "POST", f"https://api.example.test:{server.port}/v1", headers={}, body=body
        ) as response:
            assert await response.read(len(body)) == body
    assert server.connections == 1


async def test_a_burst_of_connections_asks_for_the_name_once(serve, dial, names):
    async def script(peer):
        while await peer.request():
            await peer.send(WHOLE)

    server = await serve(script)
    lookup = names({"vllm.test": ["127.0.0.1"]})
    transport = dial(lookup=lookup, trusted_hosts=frozenset({"vllm.test"}))

    async def one():
        async with transport.request("POST", f"http://vllm.test:{server.port}/", headers={}, body=b"{}") as response:
            return await response.read(100)

    assert await asyncio.gather(*[one() for _ in range(20)]) == [ALPHABET] * 20
    assert lookup.asked == ["vllm.test"]
