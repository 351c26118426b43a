"""Whatever a vendor says, our own credentials do not reach the client, wherever the vendor repeats them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.providers.scripted import (
    OUR_KEY,
    OUR_TOKEN,
    TOKEN,
    Reply,
    Sent,
    Wire,
    chat_request,
    collect,
    connect,
    wire_of,
)

from xrouter.core.clock import ManualClock
from xrouter.core.errors import UpstreamError
from xrouter.core.secret import Secret
from xrouter.providers import kinds
from xrouter.providers._http import Exchange

JSON = {"content-type": "application/json"}


def with_status(wire: Wire, said: str) -> Reply:
    return Reply(401, JSON, [wire.error_body(said)])


def with_odd_status(wire: Wire, said: str) -> Reply:
    return Reply(418, {"content-type": "text/plain"}, [said.encode()])


def in_band(wire: Wire, said: str) -> Reply:
    return Reply(headers={"content-type": wire.stream_type}, chunks=[wire.framed(wire.error_body(said))])


def instead_of_a_stream(wire: Wire, said: str) -> Reply:
    return Reply(headers=JSON, chunks=[wire.error_body(said)])


def by_a_proxy_before_it(wire: Wire, said: str) -> Reply:
    return Reply(400, JSON, [b'{"error":{"message":"%s","param":"%s","code":"%s"}}' % ((said.encode(),) * 3)])


ECHOES = [with_status, with_odd_status, instead_of_a_stream, by_a_proxy_before_it]


async def refused(kind: str, answer: Callable[[Sent], Reply], *, stream: bool = True) -> UpstreamError:
    provider, _ = connect(kind, answer)
    with pytest.raises(UpstreamError) as caught:
        await collect(provider, chat_request(stream=stream))
    return caught.value


@pytest.mark.parametrize(
    ("stream", "echo"), [(True, in_band), *((stream, echo) for stream in (True, False) for echo in ECHOES)]
)
@pytest.mark.parametrize("kind", kinds())
async def test_a_vendor_that_repeats_our_credential_does_not_publish_it(
    kind: str, stream: bool, echo: Callable[[Wire, str], Reply]
) -> None:
    repeated: list[str] = []

    def answer(sent: Sent) -> Reply:
        if sent.url.endswith("/oauth"):
            return Reply(chunks=[TOKEN])
        everything = " ".join([sent.url, *sent.headers.values(), sent.body.decode()])
        repeated[:] = [secret for secret in (OUR_KEY, OUR_TOKEN) if secret in everything]
        return echo(wire_of(kind), f"the key <{'> <'.join(repeated)}> is wrong")

    error = await refused(kind, answer, stream=stream)
    assert repeated, "no credential of ours was sent"
    shown = " ".join(map(str, (error.message, error.args, error.param, error.code, error.metadata)))
    assert "the key <***> is wrong" in error.message
    assert not any(secret in shown for secret in repeated)


@pytest.mark.parametrize("kind", kinds())
async def test_a_login_that_repeats_our_credential_does_not_publish_it(kind: str) -> None:
    def answer(sent: Sent) -> Reply:
        said = sent.headers.get("Authorization", OUR_KEY).rpartition(" ")[2]
        return Reply(400, JSON, [wire_of(kind).error_body(f"the key <{said}> is wrong")])

    error = await refused(kind, answer)
    assert "the key <***> is wrong" in error.message


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({"Authorization": "Bearer plain-secret"}, "plain-secret"),
        ({"authorization": "plain-secret"}, "plain-secret"),
        ({"X-Vendor-Key": "plain-secret"}, "plain-secret"),
        ({"Authorization": "Api-Key plain-secret"}, "plain-secret"),
        ({"Api-Key": "plain-secret", "X-Folder": "folder-of-ours"}, "folder-of-ours"),
        ({}, "secret-in-the-body"),
    ],
)
@pytest.mark.parametrize("place", ["status", "band"])
async def test_a_credential_is_hidden_wherever_it_travels(headers: dict[str, str], secret: str, place: str) -> None:
    _, transport = connect("openai_compatible", Reply(401 if place == "status" else 200, JSON, [secret.encode()]))
    exchange = Exchange("acme", transport, ManualClock(), secrets=(Secret("secret-in-the-body"),))
    if place == "status":
        with pytest.raises(UpstreamError) as caught:
            async with exchange.post("https://h/v1", headers=headers, body=b""):
                pass
        error = caught.value
    else:
        async with exchange.post("https://h/v1", headers=headers, body=b"") as reply:
            error = reply.in_band({"message": f"say {secret} again"})
    assert secret not in error.message
    assert "***" in error.message


async def test_each_call_hides_its_own_credential_while_others_run() -> None:
    _, transport = connect("openai_compatible", Reply())
    exchange, together = Exchange("acme", transport, ManualClock()), asyncio.Barrier(2)

    async def ask(secret: str) -> str:
        async with exchange.post("https://h/v1", headers={"X-Key": secret}, body=b"") as reply:
            await together.wait()
            return reply.in_band({"message": f"{secret} is wrong"}).message

    for said in await asyncio.gather(ask("first-secret"), ask("other-secret")):
        assert said == "acme broke off its answer: *** is wrong"


@pytest.mark.parametrize("body", [b"null", b"[]", b"[1]", b'"text"', b"5", b'{"error":null}', b"{}", b"\xff", b""])
@pytest.mark.parametrize("kind", kinds())
async def test_no_shape_of_an_error_body_breaks_the_reading(kind: str, body: bytes) -> None:
    def answer(sent: Sent) -> Reply:
        return Reply(chunks=[TOKEN]) if sent.url.endswith("/oauth") else Reply(503, JSON, [body])

    error: Any = await refused(kind, answer)
    assert error.upstream_status == 503
