"""The whole product in processes of its own: simulators and gateways, started once for each pytest process.

`place` is one gateway process, `pair` one with two workers and a default model; both stand before the same
`vendors`. `sdk` is the official client, once blocking and once not, with strict validation.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from campaigns.stage import Gateway, Simulators, config_for, gateway, simulators
from openai import AsyncOpenAI, OpenAI
from tests.edge.corpus import HOSTS

GIGACHAT = "gigachat/GigaChat-2"
GIGACHAT_V2 = "second/GigaChat-2"
TBANK = "tbank/t-pro-it-2.1"
BOTH = (GIGACHAT, TBANK)
FORMS = (*BOTH, GIGACHAT_V2)
YANDEX_FOLDER = "b1gsimulatedfolder00"
# Every way in which a provider of the stage is asked, and those that may call several tools at once.
EVERYBODY = {
    "gigachat v1": "gigachat/GigaChat-2",
    "gigachat v2": "second/GigaChat-2",
    "yandexgpt": "yandexgpt/yandexgpt/latest",
    "yandexgpt hosted": "yandexgpt/qwen3-235b-a22b-fp8/latest",
    "yandexgpt native": "native/yandexgpt/latest",
    "mts": "mts/t-pro-it-2.1",
    "tbank": "tbank/t-pro-it-2.1",
    "anthropic": "anthropic/claude-sonnet-5-5",
}
AT_ONCE = {way: model for way, model in EVERYBODY.items() if not way.startswith("gigachat")}
MAX_BODY_BYTES = 256 * 1024

ENVIRONMENT = {
    "XROUTER_ALLOWED_HOSTS": ",".join(HOSTS),
    "XROUTER_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    "XROUTER_DRAIN_MAX_S": "2",
}


def mts_and_anthropic(simulators_url: str) -> dict[str, Any]:
    """An account at each of the two simulators that have no options to try."""
    mts = {"kind": "mts", "base_url": f"{simulators_url}/mts/projects/demo/openai/v1", "api_key": "any"}
    anthropic = {"kind": "anthropic", "base_url": f"{simulators_url}/anthropic", "api_key": "any"}
    return {"mts": mts | {"models": ["t-pro-it-2.1"]}, "anthropic": anthropic | {"models": ["claude-sonnet-5-5"]}}


def account(simulators_url: str, client: str, scope: str = "GIGACHAT_API_CORP") -> dict[str, Any]:
    """A further GigaChat account. The simulators count under the name `client`."""
    base: dict[str, Any] = config_for(simulators_url)["providers"]["gigachat"]
    return base | {"api_key": basic(client), "scope": scope}


def basic(client: str) -> str:
    """An authorization key that the simulated login takes."""
    return base64.b64encode(f"{client}:secret".encode()).decode()


@pytest.fixture(scope="session")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    with simulators(tmp_path_factory.mktemp("vendors")) as running:
        yield running


@pytest.fixture(autouse=True)
def _calm_vendors(request: pytest.FixtureRequest) -> None:
    """No test inherits another one's faults and switches."""
    if "vendors" in request.fixturenames or {"place", "pair", "everybody"} & set(request.fixturenames):
        request.getfixturevalue("vendors").control("reset")


@pytest.fixture(scope="session")
def place(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for(vendors.url)
    config["providers"] |= {
        "pers": account(vendors.url, "pers-one", "GIGACHAT_API_PERS"),
        "fresh": account(vendors.url, "fresh"),
        "barred": account(vendors.url, "barred"),  # a refused login takes the whole account out for minutes
        "second": account(vendors.url, "second") | {"options": {"contract": "v2"}},
    }
    with gateway(tmp_path_factory.mktemp("place"), config, environment=ENVIRONMENT) as running:
        yield running


@pytest.fixture(scope="session")
def pair(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for(vendors.url)
    config["providers"]["pers"] = account(vendors.url, "pers-two", "GIGACHAT_API_PERS")
    environment = ENVIRONMENT | {"XROUTER_DEFAULT_MODEL": TBANK}
    with gateway(tmp_path_factory.mktemp("pair"), config, workers=2, environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def everybody(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway process before all vendors: the models of `EVERYBODY`."""
    config = config_for(vendors.url)
    yandex = {
        "kind": "yandexgpt",
        "base_url": f"{vendors.url}/yandex/v1",
        "api_key": "AQVNeverybody",
        "models": ["yandexgpt/latest", "qwen3-235b-a22b-fp8/latest"],
    }
    folder = {"folder": YANDEX_FOLDER}
    config["providers"] |= {
        "gigachat": account(vendors.url, "everybody") | {"models": ["GigaChat-2", "GigaChat-Plus"]},
        "second": account(vendors.url, "everybody-two") | {"options": {"contract": "v2"}},
        "yandexgpt": yandex | {"options": folder},
        "native": yandex | {"models": ["yandexgpt/latest"], "options": folder | {"surface": "native"}},
        **mts_and_anthropic(vendors.url),
    }
    with gateway(tmp_path_factory.mktemp("everybody"), config | {"aliases": {}}, environment=ENVIRONMENT) as running:
        yield running


class Sdk:
    """The official client, whichever of the two: `run` awaits what a call gives."""

    def __init__(self, client: OpenAI | AsyncOpenAI) -> None:
        self.client = client

    async def run(self, work: Callable[[Any], Any]) -> Any:
        if isinstance(self.client, AsyncOpenAI):
            return await work(self.client)
        return await asyncio.to_thread(work, self.client)

    async def chat(self, model: str, text: str | None = None, **more: Any) -> Any:
        """A whole completion."""
        if text is not None:
            more["messages"] = [{"role": "user", "content": text}]
        return await self.run(lambda client: client.chat.completions.create(model=model, **more))

    async def parse(self, model: str, text: str, **more: Any) -> Any:
        messages = [{"role": "user", "content": text}]
        return await self.run(lambda client: client.chat.completions.parse(model=model, messages=messages, **more))

    async def raw(self, model: str, text: str, **more: Any) -> Any:
        """The answer with its headers."""
        messages = [{"role": "user", "content": text}]
        return await self.run(
            lambda client: client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)
        )

    async def stream(self, model: str, text: str | None = None, **more: Any) -> list[Any]:
        """All chunks of a stream."""
        found = await self.chat(model, text, stream=True, **more)
        if isinstance(self.client, AsyncOpenAI):
            return [chunk async for chunk in found]
        return await asyncio.to_thread(list, found)


Connect = Callable[..., Sdk]


@pytest_asyncio.fixture(params=["blocking", "asyncio"])
async def connect(request: pytest.FixtureRequest, place: Gateway) -> AsyncIterator[Connect]:
    """Makes clients of `place` that are closed at the end; `key=` and the like as in the SDK."""
    async with AsyncExitStack() as stack:

        def make(**more: Any) -> Sdk:
            given: dict[str, Any] = {
                "base_url": f"{place.url}/v1",
                "api_key": place.key,
                "max_retries": 0,
                "timeout": 30,
                "_strict_response_validation": True,
            }
            given |= more
            if request.param == "blocking":
                return Sdk(stack.enter_context(OpenAI(**given)))
            client = AsyncOpenAI(**given)
            stack.push_async_callback(client.close)
            return Sdk(client)

        yield make


@pytest.fixture
def sdk(connect: Connect) -> Sdk:
    return connect()


@pytest.fixture(params=BOTH)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
