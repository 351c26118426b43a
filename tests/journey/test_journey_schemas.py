"""Answers that must keep a JSON Schema, for every provider: checked by another library against the client's own."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from campaigns.stage import Gateway
from jsonschema import Draft202012Validator
from openai import AsyncOpenAI
from tests.journey.conftest import EVERYBODY
from tests.journey.schemas import schema_of

SCHEMAS = [schema_of(number) for number in range(200)]
STREAMED = range(0, 200, 5)
ARGUMENTS = range(0, 200, 10)
AT_ONCE = 8
WAYS = {**EVERYBODY, "gigachat, as arguments": "gigachat/GigaChat-Plus"}


@pytest_asyncio.fixture
async def client(everybody: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{everybody.url}/v1", api_key=everybody.key, max_retries=0, _strict_response_validation=True
    ) as opened:
        yield opened


def complaints(number: int, said: str) -> list[str]:
    """What the client's own schema has against an answer."""
    judge = Draft202012Validator(SCHEMAS[number], format_checker=Draft202012Validator.FORMAT_CHECKER)
    try:
        answer = json.loads(said)
    except ValueError:
        return [f"schema {number}: no JSON: {said!r}"]
    return [f"schema {number}: {error.json_path}: {error.message}" for error in judge.iter_errors(answer)]


def asked(model: str, number: int) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": f"shape_{number}", "schema": SCHEMAS[number]}}
    return {"model": model, "messages": [{"role": "user", "content": f"Case {number}?"}], "response_format": form}


async def whole(client: AsyncOpenAI, model: str, number: int) -> str:
    answer: Any = await client.chat.completions.create(**asked(model, number))
    assert answer.choices[0].finish_reason == "stop"
    return str(answer.choices[0].message.content)


async def streamed(client: AsyncOpenAI, model: str, number: int) -> str:
    chunks: Any = await client.chat.completions.create(**asked(model, number), stream=True)
    return "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])


async def as_arguments(client: AsyncOpenAI, model: str, number: int) -> str:
    tool = {"type": "function", "function": {"name": "shape", "parameters": SCHEMAS[number]}}
    answer: Any = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"Case {number}?"}],
        tools=[tool],  # type: ignore[list-item]
        tool_choice={"type": "function", "function": {"name": "shape"}},
    )
    (call,) = answer.choices[0].message.tool_calls
    return str(call.function.arguments)


def test_the_schemas_are_what_clients_write() -> None:
    texts = [json.dumps(schema["properties"]) for schema in SCHEMAS]
    assert len(set(texts)) > 190
    for schema in SCHEMAS[::8]:
        Draft202012Validator.check_schema(schema)
    for word in ("$ref", "anyOf", '"null"', "enum", "const", "format", "pattern", "minimum", "multipleOf", "items"):
        assert sum(word in text for text in texts) >= 20, word
    assert complaints(0, "[]")
    assert complaints(0, "not JSON")


@pytest.mark.parametrize("way", WAYS)
async def test_answers_keep_the_clients_schema(client: AsyncOpenAI, way: str) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def judged(ask: Any, number: int) -> list[str]:
        async with turn:
            said = await ask(client, WAYS[way], number)
        return [f"{ask.__name__}: {complaint}: {said}" for complaint in complaints(number, said)]

    found = await asyncio.gather(
        *(judged(whole, number) for number in range(len(SCHEMAS))),
        *(judged(streamed, number) for number in STREAMED),
        *(judged(as_arguments, number) for number in ARGUMENTS),
    )
    assert [complaint for complaints in found for complaint in complaints] == []
