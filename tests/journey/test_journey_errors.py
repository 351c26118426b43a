"""Every error class of the official SDK, each with a message that says who failed and why."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from campaigns.stage import Gateway, Simulators, http
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.journey.conftest import GIGACHAT, MAX_BODY_BYTES, TBANK, Connect, Sdk

from xrouter.core.clock import SystemClock


def provider_of(model: str) -> str:
    return model.partition("/")[0]


def patience(fault: str) -> dict[str, str]:
    """A deadline that is soon over where nothing comes, and elsewhere spares us the second that a 429 costs."""
    return {"x-xrouter-timeout-ms": "400" if fault == "slow-headers" else "1900"}


async def test_a_bad_request_names_the_field(sdk: Sdk, model: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        await sdk.chat(model, "hi", temperature=3)
    error = caught.value
    assert error.param == "temperature"
    assert error.code == "invalid_value"
    assert error.type == "invalid_request_error"
    assert "temperature" in error.message
    assert error.request_id.startswith("req_")


@pytest.mark.parametrize("key", ["sk-nobody", "sk-xr-v1-0000000000-" + "0" * 43 + "-000000"])
async def test_a_wrong_key_is_an_authentication_error(connect: Connect, key: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await connect(api_key=key).chat(TBANK, "hi")
    assert caught.value.code == "invalid_api_key"


def test_no_key_is_told_apart_from_a_wrong_one(place: Gateway) -> None:
    status, body = http("POST", f"{place.url}/v1/chat/completions", {})
    assert status == 401
    assert body["error"]["code"] == "missing_api_key"
    assert "Authorization: Bearer" in body["error"]["message"]


async def test_a_key_for_models_may_not_administer(connect: Connect, place: Gateway) -> None:
    status, made = http("POST", f"{place.url}/admin/keys", {"name": "for models"}, place.key)
    assert status == 201
    for_models = connect(api_key=made["key"])

    answer = await for_models.chat(TBANK, "echo: allowed")
    assert answer.choices[0].message.content == "allowed"
    with pytest.raises(PermissionDeniedError) as caught:
        await for_models.run(
            lambda client: client.with_options(base_url=f"{place.url}/admin").get("/attempts", cast_to=object)
        )
    assert caught.value.code == "insufficient_permissions"
    assert "admin" in caught.value.message


async def test_an_unknown_model_lists_near_names(sdk: Sdk) -> None:
    for wrong, near in (("gigachat/GigaChat2", GIGACHAT), ("t-pro-it-2.1", TBANK), ("tbank/t-pro-it-21", TBANK)):
        with pytest.raises(NotFoundError) as caught:
            await sdk.chat(wrong, "hi")
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
        assert near in caught.value.message


async def test_an_unknown_model_in_the_list_is_named_by_its_place(sdk: Sdk) -> None:
    with pytest.raises(NotFoundError) as caught:
        await sdk.chat(TBANK, "hi", extra_body={"models": [GIGACHAT, "tbank/no-such"]})
    assert caught.value.param == "models[1]"


async def test_a_body_above_the_limit_is_413(sdk: Sdk) -> None:
    with pytest.raises(APIStatusError) as caught:
        await sdk.chat(TBANK, "x" * (MAX_BODY_BYTES + 1))
    assert caught.value.status_code == 413
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("status-400", 400, "400"),
        ("status-404", 404, "404"),
        ("status-413", 413, "413"),
        ("status-422", 400, "422"),
        ("status-401", 502, "401"),
        ("status-402", 502, "402"),
        ("status-403", 502, "403"),
        ("status-429", 503, "429"),
        ("status-500", 502, "500"),
        ("html-502", 502, "HTML page"),
        ("redirect", 502, "redirect not followed"),
        ("reset-0", 502, "broke off"),
        ("empty", 502, ""),
        ("error-0", 502, "broke off its answer"),
        ("slow-headers", 504, "deadline"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendors_failure_has_its_status_and_says_who_and_why(
    sdk: Sdk, model: str, fault: str, status: int, words: str, stream: bool
) -> None:
    kinds: dict[int, type[APIStatusError]] = {400: BadRequestError, 404: NotFoundError, 413: APIStatusError}
    with pytest.raises(kinds.get(status, InternalServerError)) as caught:
        ask = sdk.stream if stream else sdk.chat
        await ask(f"{model}+{fault}", "hi", extra_headers=patience(fault))
    error = caught.value
    assert error.status_code == status
    assert provider_of(model) in error.message
    assert words in error.message
    told: Any = error.body
    assert told["metadata"]["provider"] == provider_of(model)
    assert told["metadata"]["request_id"] == error.request_id
    assert told["metadata"]["attempts"]
    assert {"message", "type", "param", "code"} <= told.keys()
    if status == 503:
        assert int(error.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("fault", ["status-503", "status-429", "reset-0", "slow-headers"])
async def test_the_sdk_does_not_repeat_what_the_gateway_has_tried(
    connect: Connect, place: Gateway, model: str, fault: str
) -> None:
    ours = f"once-{uuid4()}"
    with pytest.raises(InternalServerError) as caught:
        await connect(max_retries=2).chat(
            f"{model}+{fault}", "hi", extra_headers={"x-request-id": ours, **patience(fault)}
        )
    assert caught.value.response.headers["x-should-retry"] == "false"
    clock = SystemClock()
    until = clock.monotonic() + 5
    while not (rows := place.attempts(client_request_id=ours)) and clock.monotonic() < until:
        await asyncio.sleep(0.02)
    assert len({row["call_id"] for row in rows}) == 1


@pytest.mark.parametrize("fault", ["reset-2", "eof-2", "clean-end-2", "broken-json-2", "error-2"])
async def test_a_stream_that_breaks_after_content_raises_and_names_the_provider(
    sdk: Sdk, model: str, fault: str
) -> None:
    with pytest.raises(APIError) as caught:
        await sdk.stream(f"{model}+{fault}", "say 30 words")
    assert not isinstance(caught.value, APIConnectionError)
    assert provider_of(model) in caught.value.message
    told: Any = caught.value.body
    assert told["metadata"]["provider"] == provider_of(model)


async def test_the_vendors_wrong_login_is_not_the_clients_401(sdk: Sdk, vendors: Simulators) -> None:
    vendors.control("expire-tokens")
    vendors.control("faults", model="oauth", fault="status-401")
    with pytest.raises(InternalServerError) as caught:
        await sdk.chat("barred/GigaChat-2", "hi")
    assert caught.value.status_code == 502
    assert "barred login" in caught.value.message
    assert caught.value.code == "provider_auth_error"
