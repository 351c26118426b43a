"""The openai SDK with `functions`, the form before tools, through the gateway to every wire: it gets that form back."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from campaigns.stage import Simulators, config_for, gateway
from openai import OpenAI
from tests.journey.conftest import account, mts_and_anthropic

from xrouter.simulators.yandex_login import FOLDER

MODELS = (
    "gigachat/GigaChat-2",
    "second/GigaChat-2",
    "tbank/t-pro-it-2.1",
    "vllm/t-pro-it-2.1",
    "mts/t-pro-it-2.1",
    "anthropic/claude-sonnet-5-5",
    "yandex/yandexgpt",
    "yandex/gpt-oss-120b",
    "native/yandexgpt",
)
FUNCTIONS: Any = [
    {
        "name": name,
        "description": f"Does {name}.",
        "parameters": {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]},
    }
    for name, field in (("get_weather", "city"), ("get_rate", "currency"))
]


@pytest.fixture(scope="module")
def client(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    config = config_for(vendors.url)
    yandex = {"kind": "yandexgpt", "base_url": f"{vendors.url}/yandex/v1", "api_key": "AQVNtest"}
    config["providers"] |= {
        "second": account(vendors.url, "legacy") | {"options": {"contract": "v2"}},
        "vllm": {"kind": "vllm", "base_url": f"{vendors.url}/openai/v1", "models": ["t-pro-it-2.1"]},
        **mts_and_anthropic(vendors.url),
        "yandex": yandex | {"models": ["yandexgpt", "gpt-oss-120b"], "options": {"folder": FOLDER}},
        "native": yandex | {"models": ["yandexgpt"], "options": {"folder": FOLDER, "surface": "native"}},
    }
    with (
        gateway(tmp_path_factory.mktemp("legacy"), config) as place,
        OpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=0, _strict_response_validation=True) as sdk,
    ):
        yield sdk


def streamed(client: OpenAI, **asked: Any) -> tuple[str, str, str, Any]:
    """Name, arguments, text and finish reason of a stream, put together as a client of that form does it."""
    name = arguments = text = ""
    reason = None
    for chunk in client.chat.completions.create(stream=True, **asked):
        for choice in chunk.choices:
            assert not choice.delta.tool_calls
            piece = choice.delta.function_call
            if piece is not None:
                name += piece.name or ""
                arguments += piece.arguments or ""
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return name, arguments, text, reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_a_function_is_called_and_its_result_told(client: OpenAI, model: str, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "Please call get weather and get rate"}]
    asked: Any = {"model": model, "messages": messages, "functions": FUNCTIONS, "function_call": "auto"}
    if stream:
        name, arguments, _, reason = streamed(client, **asked)
    else:
        (choice,) = client.chat.completions.create(**asked).choices
        call, reason = choice.message.function_call, choice.finish_reason
        assert call is not None
        assert choice.message.tool_calls is None
        name, arguments = call.name, call.arguments
    assert (name, reason) == ("get_weather", "function_call")
    assert set(json.loads(arguments)) == {"city"}

    messages += [
        {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": arguments}},
        {"role": "function", "name": name, "content": '{"degrees": "plus 27"}'},
    ]
    if stream:
        _, _, text, reason = streamed(client, **asked)
    else:
        (choice,) = client.chat.completions.create(**asked).choices
        text, reason = choice.message.content or "", choice.finish_reason
    assert "plus 27" in text
    assert reason == "stop"


@pytest.mark.parametrize("model", MODELS)
def test_the_choice_is_the_functions_too(client: OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "What is the rate?"}]
    forced: Any = client.chat.completions.create(
        model=model, messages=messages, functions=FUNCTIONS, function_call={"name": "get_rate"}
    )
    assert forced.choices[0].message.function_call.name == "get_rate"
    silent: Any = client.chat.completions.create(
        model=model, messages=messages, functions=FUNCTIONS, function_call="none"
    )
    assert silent.choices[0].message.function_call is None
    assert silent.choices[0].message.content
