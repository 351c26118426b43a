"""GigaChat's bad days and odd wishes in both contracts: every fault of a stream and a body, and two hundred schemas."""

import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from tests.providers.gigachat_stand import MODEL, V2, Stand, answer, asked, attempt, stand
from tests.providers.scripted import collect

from xrouter.core.chat import Finish, Usage
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
)
from xrouter.simulators.json_schema import accepts

BROKEN = {
    "status-400": ProviderRefused,
    "status-402": ProviderQuotaExhausted,
    "status-403": ProviderAuthFailed,
    "status-404": ProviderRefused,
    "status-413": ProviderRefused,
    "status-422": ProviderRefused,
    "status-429": ProviderRateLimited,
    "status-500": ProviderUnavailable,
    "html-502": ProviderUnavailable,
    "retry-after-seconds": ProviderRateLimited,
    "redirect": ProviderUnavailable,
    "reset-0": ProviderUnavailable,
    "reset-1": ProviderUnavailable,
    "eof-1": ProviderUnavailable,
    "chunked-cut-1": ProviderUnavailable,
    "clean-end-1": ProviderUnavailable,
    "broken-json-0": ProviderUnavailable,
    "error-1": ProviderUnavailable,
    "empty": ProviderUnavailable,
    "bad-utf8": ProviderUnavailable,
    "huge-line": ProviderUnavailable,
}


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
async def test_every_fault_of_contract_v2_becomes_its_error(place: Stand, fault: str, stream: bool) -> None:
    request = asked("say 40 words", stream=stream)
    if fault == "huge-line" and not stream:  # ten megabytes are no fault of a body
        assert await answer(place.connect(options=V2), request, f"{MODEL}+{fault}")
        return
    with pytest.raises(BROKEN[fault]) as caught:
        await collect(place.connect(options=V2), request, attempt(request, f"{MODEL}+{fault}"))
    assert caught.value.provider == "acme"
    if fault == "status-413":
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("contract", ["v1", "v2"])
@pytest.mark.parametrize("fault", ["no-usage", "wrong-usage", "no-done", "slow-1"])
async def test_faults_that_are_none(place: Stand, contract: str, fault: str) -> None:
    provider = place.connect(options={"contract": contract})
    request = asked("say 10 words", stream=True)
    events = await collect(provider, request, attempt(request, f"{MODEL}+{fault}"))
    assert [event.reason for event in events if isinstance(event, Finish)] == ["stop"]
    assert any(isinstance(event, Usage) for event in events) is not fault.endswith("usage")


def schema(rng: Random, depth: int = 0) -> dict[str, Any]:
    """A schema of the kinds that structured output is asked for with."""
    kinds = ["string", "integer", "number", "boolean", "enum"] + ["object", "array"] * (depth < 3)
    kind = "object" if depth == 0 else rng.choice(kinds)
    if kind == "enum" and rng.random() < 0.5:
        return rng.choice([{"enum": [1, 2, "3"]}, {"const": 7}, {"const": True}, {"$ref": "#/$defs/grade"}])
    if kind == "enum":
        return {"type": "string", "enum": rng.sample(["да", "нет", "не знаю", "позже"], rng.randint(1, 3))}
    if kind == "integer":
        return {"type": "integer", "minimum": rng.randint(-5, 0), "maximum": rng.randint(1, 9)}
    if kind == "array":
        return {"type": "array", "items": schema(rng, depth + 1), "minItems": rng.randint(0, 2), "maxItems": 3}
    if kind == "object":
        names = rng.sample(["a", "b", "город", "дата", "с пробелом"], rng.randint(1, 4))
        return {
            "type": "object",
            "properties": {name: schema(rng, depth + 1) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    return {"type": kind}


@pytest.mark.parametrize("model", [MODEL, "GigaChat-Plus"])
@pytest.mark.parametrize("contract", ["v1", "v2"])
async def test_answers_are_valid_for_two_hundred_schemas(place: Stand, contract: str, model: str) -> None:
    """By structured output, and by the function that stands in for it."""
    provider = place.connect(options={"contract": contract})
    rng = Random(f"{contract}{model}")
    for number in range(200):
        wanted = {**schema(rng), "$defs": {"grade": {"enum": [2.5, 3, False]}}}
        form = {"type": "json_schema", "json_schema": {"name": f"s{number}", "schema": wanted, "strict": True}}
        whole = await answer(provider, asked(f"Вопрос {number}", response_format=form), model)
        value = json.loads(whole.choices[0].message.content or "")
        assert accepts(wanted, value), (number, wanted, value)
