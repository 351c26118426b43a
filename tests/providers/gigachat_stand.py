"""GigaChat's simulator on a socket, and providers that speak to it by the real transport."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from xrouter.core.call import Attempt
from xrouter.core.chat import Answer, ChatRequest
from xrouter.core.clock import SystemClock
from xrouter.core.ids import ulid
from xrouter.providers import load
from xrouter.providers.gigachat import GigaChat
from xrouter.settings import ProviderSettings
from xrouter.simulators import server
from xrouter.transport.client import open_transport

from .scripted import attempt_for, chat_request, collect

MODEL = "GigaChat-2-Max"
V2 = {"contract": "v2"}


@dataclass
class Stand:
    """Where the simulator is, and what it saw."""

    port: int
    session: aiohttp.ClientSession
    stack: AsyncExitStack
    scheme: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def settings(self, client: str = "demo", **more: Any) -> ProviderSettings:
        """The settings of an account whose name at the simulator is `client`."""
        given: dict[str, Any] = {
            "kind": "gigachat",
            "base_url": f"{self.url}/gigachat/v1",
            "auth_url": f"{self.url}/gigachat/api/v2/oauth",
            "api_key": base64.b64encode(f"{client}:secret".encode()).decode(),
            "scope": "GIGACHAT_API_CORP",
            "models": [MODEL, "GigaChat-Plus", "Embeddings"],
        }
        return ProviderSettings.model_validate({**given, **more})

    def connect(self, client: str = "demo", **more: Any) -> GigaChat:
        """A provider with a transport of its own; both close with the stand."""
        settings = self.settings(client, **more)
        transport = open_transport(
            provider="acme",
            connect_timeout_s=5.0,
            ca_bundle=settings.ca_bundle,
            client_cert=settings.client_identity,
            proxy=None,
            allow_private=[],
            trusted_hosts=frozenset({"127.0.0.1"}),
        )
        self.stack.push_async_callback(transport.close)
        provider = load("gigachat").connect("acme", settings, transport, SystemClock())
        assert isinstance(provider, GigaChat)
        self.stack.push_async_callback(provider.close)
        return provider

    async def control(self, what: str, **values: Any) -> None:
        async with self.session.post(f"{self.url}/control/{what}", json=values) as response:
            assert response.status == 200, await response.text()

    async def rows(self, end: str = "") -> list[dict[str, Any]]:
        """Every request that was seen to a path that ends so, in order."""
        async with self.session.get(f"{self.url}/control/requests") as response:
            found: list[dict[str, Any]] = (await response.json())["data"]
        return [row for row in found if row["path"].endswith(end)]

    async def stored(self, client: str = "demo") -> list[dict[str, Any]]:
        """The files that an account has at the vendor."""
        basic = {"Authorization": f"Basic {base64.b64encode(f'{client}:secret'.encode()).decode()}"}
        async with self.session.post(f"{self.url}/gigachat/v1/token", headers=basic) as login:
            token = (await login.json())["tok"]
        bearer = {"Authorization": f"Bearer {token}"}
        async with self.session.get(f"{self.url}/gigachat/v1/files", headers=bearer) as response:
            found: list[dict[str, Any]] = (await response.json())["data"]
            return found


@asynccontextmanager
async def stand(tls: ssl.SSLContext | None = None) -> AsyncIterator[Stand]:
    """A simulator until the block ends. Over `tls` only providers reach it: `control` and the like do not."""
    async with (
        server.running(server.build(7), tls=tls) as port,
        aiohttp.ClientSession() as session,
        AsyncExitStack() as stack,
    ):
        yield Stand(port, session, stack, "https" if tls else "http")


def attempt(request: Any, model: str = MODEL) -> Attempt:
    """An attempt on one of the vendor's models, with an id of its own."""
    made = attempt_for(request)
    made.id = ulid()
    made.deployment = replace(made.deployment, upstream_model=model)
    return made


def asked(text: str = "echo: ok", *, stream: bool = False, **fields: Any) -> ChatRequest:
    fields.setdefault("messages", [{"role": "user", "content": text}])
    return chat_request(stream=stream, **fields)


async def answer(provider: GigaChat, request: ChatRequest, model: str = MODEL) -> Answer:
    """The answer to a call that is not streamed."""
    (found,) = await collect(provider, request, attempt(request, model))
    assert isinstance(found, Answer)
    return found


async def until(condition: Callable[[], Awaitable[bool]], deadline_s: float = 10.0) -> None:
    """Wait until `condition` holds; fail after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not await condition():
            await asyncio.sleep(0.01)
