"""The vendor's own SDK asks the vendor, the official openai SDK asks the gateway: both must hear the same."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from campaigns.stage import Simulators
from gigachat import GigaChat
from tests.journey.conftest import GIGACHAT, Sdk, basic

MODEL = "GigaChat-2"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def vendor(vendors: Simulators) -> Iterator[GigaChat]:
    with GigaChat(
        base_url=f"{vendors.url}/gigachat/v1",
        auth_url=f"{vendors.url}/gigachat/api/v2/oauth",
        credentials=basic("vendors-own"),
        scope="GIGACHAT_API_CORP",
    ) as client:
        yield client


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


async def test_the_same_words_and_the_same_tokens(vendor: GigaChat, sdk: Sdk) -> None:
    theirs = vendor.chat(question("Расскажи о реке"))
    ours = await sdk.chat(GIGACHAT, "Расскажи о реке")
    assert ours.choices[0].message.content == theirs.choices[0].message.content
    assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens
    assert ours.usage.completion_tokens == theirs.usage.completion_tokens

    chunks = await sdk.stream(GIGACHAT, "Расскажи о реке")
    told = "".join(chunk.choices[0].delta.content or "" for chunk in vendor.stream(question("Расскажи о реке")))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == told


async def test_a_function_call_is_a_tool_call(vendor: GigaChat, sdk: Sdk) -> None:
    function = {"name": "get_weather", "description": "Погода", "parameters": PARAMETERS}
    theirs = vendor.chat(question("Какая погода?", functions=[function], function_call="auto"))
    ours = await sdk.chat(GIGACHAT, "Какая погода?", tools=[{"type": "function", "function": function}])

    call = theirs.choices[0].message.function_call
    assert call is not None
    (made,) = ours.choices[0].message.tool_calls
    assert made.function.name == call.name
    assert json.loads(made.function.arguments) == call.arguments
    assert (theirs.choices[0].finish_reason, ours.choices[0].finish_reason) == ("function_call", "tool_calls")
