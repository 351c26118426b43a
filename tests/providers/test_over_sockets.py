"""Every kind once over a real local socket and the real transport."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.providers.scripted import TOKEN, attempt_for, chat_request, collect, plain

from xrouter.core.chat import Answer, Finish
from xrouter.core.clock import SystemClock
from xrouter.core.errors import ProviderRateLimited, ProviderUnavailable
from xrouter.core.ports import ChatProvider
from xrouter.providers import kinds, load
from xrouter.providers.openai_compatible import row_names
from xrouter.settings import ProviderSettings
from xrouter.transport.aiohttp_client import open_transport

FIXTURES = Path(__file__).parent / "fixtures"


def recorded(kind: str, case: str) -> bytes:
    return (FIXTURES / ("openai_compatible" if kind in row_names() else kind) / case).read_bytes()


class Upstream:
    """A small vendor: the model's name says how it answers."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.cut = asyncio.Event()
        self.peers: set[object] = set()

    async def login(self, request: web.Request) -> web.Response:
        return web.Response(body=TOKEN, content_type="application/json")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        if asked["model"] == "busy":
            return web.Response(status=429, headers={"Retry-After": "3"}, text='{"status":429,"message":"busy"}')
        if not asked.get("stream"):
            return web.Response(body=recorded(self.kind, "text.json"), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        events = recorded(self.kind, "text.sse").split(b"\n\n")
        for event in events[:2] if asked["model"] != "whole" else events[:-1]:
            await response.write(event + b"\n\n")
        if asked["model"] == "hangs":
            try:
                while True:
                    await response.write(b": ping\n\n")
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.CancelledError):
                self.cut.set()
                raise
        if asked["model"] == "aborts":
            request.transport.abort()
        return response


@asynccontextmanager
async def running(kind: str) -> AsyncIterator[tuple[Upstream, ChatProvider]]:
    upstream = Upstream(kind)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.chat)
    app.router.add_post("/oauth", upstream.login)
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
            {"kind": kind, "base_url": f"{base}/v1", "auth_url": f"{base}/oauth", "api_key": "k", "models": ["m"]}
        )
        try:
            yield upstream, load(kind).connect("acme", settings, transport, SystemClock())
        finally:
            await transport.close()


async def ask(provider: ChatProvider, model: str, *, stream: bool = True) -> object:
    request = chat_request(stream=stream, reasoning_effort="none")
    attempt = attempt_for(request)
    attempt.deployment = type(attempt.deployment)(id="acme/m", provider="acme", kind="", upstream_model=model)
    return await collect(provider, request, attempt)


@pytest.mark.parametrize("kind", kinds())
async def test_every_kind_over_a_socket(kind: str) -> None:
    async with running(kind) as (upstream, provider), asyncio.timeout(30):
        for _ in range(3):
            events = await ask(provider, "whole")
            assert isinstance(events, list)
            assert any(isinstance(event, Finish) for event in events), plain(events)
        assert len(upstream.peers) == 1  # a stream read to its end gives its connection back
        (answer,) = await ask(provider, "whole", stream=False)  # type: ignore[misc]  # a list
        assert isinstance(answer, Answer)
        for model in ("ends", "aborts"):
            with pytest.raises(ProviderUnavailable):
                await ask(provider, model)
        with pytest.raises(ProviderRateLimited) as caught:
            await ask(provider, "busy")
        assert caught.value.retry_after_s == 3.0


@pytest.mark.parametrize("kind", kinds())
async def test_closing_cuts_the_vendor_off(kind: str) -> None:
    async with running(kind) as (upstream, provider), asyncio.timeout(30):
        request = chat_request(reasoning_effort="none")
        attempt = attempt_for(request)
        attempt.deployment = type(attempt.deployment)(id="acme/m", provider="acme", kind="", upstream_model="hangs")
        events = provider.chat(request, attempt)
        await anext(events)
        await events.aclose()
        await upstream.cut.wait()
