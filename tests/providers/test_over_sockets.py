"""Every kind once over a real local socket and the real transport."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.providers.scripted import FIXTURES, SHARED, TOKEN, attempt_for, chat_request, collect, plain, wire_of

from xrouter.core.chat import Answer, Event, Finish
from xrouter.core.clock import SystemClock
from xrouter.core.errors import ProviderRateLimited, ProviderUnavailable
from xrouter.core.ports import ChatProvider
from xrouter.providers import kinds, load
from xrouter.providers.openai_compatible import row_names
from xrouter.settings import ProviderSettings
from xrouter.transport.client import open_transport


def recorded(kind: str, case: str) -> bytes:
    return (FIXTURES / (SHARED if kind in row_names() else kind) / case).read_bytes()


class Upstream:
    """A small vendor. `mood` says how it answers: whole, ends, aborts, hangs, busy."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.wire = wire_of(kind)
        self.mood = "whole"
        self.cut = asyncio.Event()
        self.peers: set[object] = set()

    async def login(self, request: web.Request) -> web.Response:
        return web.Response(body=TOKEN, content_type="application/json")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        if self.mood == "busy":
            return web.Response(status=429, headers={"Retry-After": "3"}, body=self.wire.error_body("busy"))
        if self.mood == "not streamed":
            return web.Response(body=recorded(self.kind, "text.json"), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": self.wire.stream_type})
        await response.prepare(request)
        mark = self.wire.separator
        events = [event + mark for event in recorded(self.kind, "text.sse").split(mark) if event.strip()]
        for event in events if self.mood == "whole" else events[:1]:
            await response.write(event)
        if self.mood == "hangs":
            try:
                while True:
                    await response.write(b"\n")  # nothing, in any framing
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.CancelledError):
                self.cut.set()
                raise
        if self.mood == "aborts":
            request.transport.abort()
        return response


@asynccontextmanager
async def running(kind: str) -> AsyncIterator[tuple[Upstream, ChatProvider]]:
    upstream = Upstream(kind)
    app = web.Application()
    app.router.add_post("/oauth", upstream.login)
    app.router.add_post("/{path:.*}", upstream.chat)
    transport = open_transport(
        provider="acme",
        connect_timeout_s=2.0,
        ca_bundle=None,
        proxy=None,
        allow_private=[],
        trusted_hosts=frozenset({"127.0.0.1"}),
    )
    async with TestServer(app) as server:
        base = f"http://127.0.0.1:{server.port}"
        settings = ProviderSettings.model_validate(
            {
                "kind": kind,
                "base_url": f"{base}{upstream.wire.base_path}",
                "auth_url": f"{base}/oauth",
                "api_key": "k",
                "models": ["m"],
                "options": upstream.wire.options,
            }
        )
        try:
            yield upstream, load(kind).connect("acme", settings, transport, SystemClock())
        finally:
            await transport.close()


async def ask(upstream: Upstream, provider: ChatProvider, mood: str, *, stream: bool = True) -> list[Event]:
    upstream.mood = mood
    return await collect(provider, chat_request(stream=stream))


@pytest.mark.parametrize("kind", kinds())
async def test_every_kind_over_a_socket(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrouter.providers._http._DRAIN_S", 30.0)  # this machine may stall
    async with running(kind) as (upstream, provider), asyncio.timeout(30):
        for _ in range(3):
            events = await ask(upstream, provider, "whole")
            assert any(isinstance(event, Finish) for event in events), plain(events)
        assert len(upstream.peers) == 1  # a stream read to its end gives its connection back
        (answer,) = await ask(upstream, provider, "not streamed", stream=False)
        assert isinstance(answer, Answer)
        for mood in ("ends", "aborts"):
            with pytest.raises(ProviderUnavailable):
                await ask(upstream, provider, mood)
        with pytest.raises(ProviderRateLimited, match="busy") as caught:
            await ask(upstream, provider, "busy")
        assert caught.value.retry_after_s == 3.0


@pytest.mark.parametrize("kind", kinds())
async def test_closing_cuts_the_vendor_off(kind: str) -> None:
    async with running(kind) as (upstream, provider), asyncio.timeout(30):
        upstream.mood = "hangs"
        request = chat_request()
        events = provider.chat(request, attempt_for(request))
        await anext(events)
        await events.aclose()
        await upstream.cut.wait()
