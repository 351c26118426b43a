"""The model list as the official SDK reads it."""

import pytest
from campaigns.stage import Gateway, http
from openai import NotFoundError
from tests.journey.conftest import GIGACHAT, TBANK, Sdk


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
