"""The model list as the official SDK reads it."""

import pytest
from campaigns.stage import Gateway, http
from openai import NotFoundError
from tests.journey.conftest import GIGACHAT, TBANK, Sdk

from xrouter.core.clock import SystemClock
from xrouter.providers import load
from xrouter.settings import ProviderSettings


async def test_models_and_aliases_are_listed(sdk: Sdk) -> None:
    page = await sdk.run(lambda client: client.models.list())
    found = {model.id: model for model in page.data}
    assert {GIGACHAT, TBANK, "both", "both-reversed"} <= found.keys()
    assert found[GIGACHAT].owned_by == "gigachat"
    assert found["both"].owned_by == "xrouter"
    assert found[TBANK].pricing == {
        "currency": "RUB",
        "input_per_1m": "35",
        "output_per_1m": "70",
        "vat_percent": "22",
    }


def test_the_list_says_since_when_and_what_a_model_takes(everybody: Gateway) -> None:
    for base in ("/v1", "/api/v1"):
        status, page = http("GET", f"{everybody.url}{base}/models", key=everybody.key)
        assert status == 200
        assert {SystemClock().now() - model["created"] < 3600 for model in page["data"]} == {True}
    found = {model["id"]: model for model in page["data"]}
    giga, tbank = found["gigachat/GigaChat-2"], found["tbank/t-pro-it-2.1"]
    assert giga["context_length"] == giga["top_provider"]["context_length"] == 128_000
    assert {"temperature", "tools", "tool_choice", "stop", "reasoning"} <= set(giga["supported_parameters"])
    assert {"seed", "top_k", "logprobs"}.isdisjoint(giga["supported_parameters"])
    assert "logprobs" in found["second/GigaChat-2"]["supported_parameters"]
    assert {"seed", "top_k", "structured_outputs"} <= set(tbank["supported_parameters"])
    assert tbank["context_length"] is None
    assert giga["architecture"]["input_modalities"] == ["text"]
    assert found["anthropic/claude-sonnet-5-5"]["architecture"]["modality"] == "text+image->text"


def test_what_gigachat_2_max_reads_is_known_and_the_file_goes_before_it() -> None:
    models = [
        "GigaChat-2-Max",
        {"name": "GigaChat-2", "context_tokens": 8192, "inputs": ["text", "image"]},
        "Embeddings",
    ]
    settings = ProviderSettings.model_validate({"kind": "gigachat", "api_key": "aTpz", "models": models})
    largest, own, embeddings = load("gigachat").deployments("a", settings)
    assert (largest.context_tokens, largest.inputs) == (128_000, {"text", "image", "file", "audio"})
    assert (own.context_tokens, own.inputs) == (8192, {"text", "image"})
    assert (embeddings.context_tokens, embeddings.parameters) == (None, frozenset())


async def test_one_model_is_found_by_its_id(sdk: Sdk, model: str) -> None:
    found = await sdk.run(lambda client: client.models.retrieve(model))
    assert found.id == model
    assert found.object == "model"


def test_an_id_may_be_plain_or_encoded(place: Gateway) -> None:
    plain = http("GET", f"{place.url}/v1/models/{TBANK}", key=place.key)
    assert plain[0] == 200
    assert plain == http("GET", f"{place.url}/v1/models/{TBANK.replace('/', '%2F')}", key=place.key)
    assert plain == http("GET", f"{place.url}/v1/models/{TBANK.replace('/', '%2f')}", key=place.key)


async def test_an_unknown_id_lists_near_ones(sdk: Sdk) -> None:
    with pytest.raises(NotFoundError) as caught:
        await sdk.run(lambda client: client.models.retrieve("gigachat/GigaChat-22"))
    assert GIGACHAT in caught.value.message


async def test_what_is_listed_answers(sdk: Sdk) -> None:
    page = await sdk.run(lambda client: client.models.list())
    for model in page.data:
        answer = await sdk.chat(model.id, "echo: here")
        assert answer.choices[0].message.content == "here"
        assert answer.model == model.id
