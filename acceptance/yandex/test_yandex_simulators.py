"""yandex-ai-studio-sdk against the simulated Yandex AI Studio. If it reads the simulator, the simulator is right.

Its chat part speaks HTTP to the simulator itself; its native part speaks gRPC, over the bridge of conftest.py.
"""

import base64
import json
import os
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from yandex.cloud.ai.foundation_models.v1.embedding.embedding_service_pb2 import TextEmbeddingRequest
from yandex.cloud.ai.foundation_models.v1.image_generation.image_generation_service_pb2 import ImageGenerationRequest
from yandex.cloud.ai.foundation_models.v1.text_generation.text_generation_service_pb2 import (
    CompletionRequest,
    CompletionResponse,
)
from yandex_ai_studio_sdk import AIStudio
from yandex_ai_studio_sdk.auth import APIKeyAuth, IAMTokenAuth, OAuthTokenAuth
from yandex_ai_studio_sdk.exceptions import AioRpcError
from yandexcloud._auth_fabric import ServiceAccountAuth

FOLDER = "b1gsimulatedfolder00"
BASE = f"{os.environ['XROUTER_ACCEPTANCE_SIMULATORS']}/yandex"
SENT = Path(__file__).parents[2] / "tests" / "providers" / "fixtures" / "yandexgpt" / "sent"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}

Connect = Callable[..., AIStudio]


@pytest.fixture
def connect(bridge: str) -> Connect:
    def connected(auth: Any = None, folder: str = FOLDER) -> AIStudio:
        return AIStudio(
            folder_id=folder,
            auth=auth or APIKeyAuth("AQVNacceptance"),
            endpoint=None,
            verify=False,
            enable_server_data_logging=False,
            service_map={
                "ai-foundation-models": bridge,
                "operation": bridge,
                "iam": bridge,
                "http_completions": f"{BASE}/v1/",
            },
        )

    return connected


@pytest.fixture
def sdk(connect: Connect) -> AIStudio:
    return connect()


def post(path: str, body: Any, **headers: str) -> Any:
    request = urllib.request.Request(f"{BASE}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


# ── the HTTP part ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["yandexgpt", "qwen3-235b-a22b-fp8"])
def test_chat(sdk: AIStudio, model: str) -> None:
    result = sdk.chat.completions(model).run("echo: Привет")
    assert result.text == "Привет"
    assert result.usage.completion_tokens == 2
    assert result.alternatives[0].status.name == "FINAL"


@pytest.mark.parametrize("model", ["yandexgpt", "qwen3-235b-a22b-fp8", "gpt-oss-120b"])
def test_chat_stream(sdk: AIStudio, model: str) -> None:
    results = list(sdk.chat.completions(model).run_stream("скажи 40 слов"))
    texts = [result.text for result in results if result.text]
    assert len(texts[-1].split()) == 40
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert any(result.usage for result in results) == (model != "yandexgpt")
    if model == "gpt-oss-120b":
        assert any(result.alternatives[0].reasoning_text for result in results if result.alternatives)


@pytest.mark.parametrize("model", ["yandexgpt", "qwen3-235b-a22b-fp8"])
def test_chat_tools_round_trip(sdk: AIStudio, model: str) -> None:
    tool = sdk.tools.function(SCHEMA, name="get_weather")
    chat = sdk.chat.completions(model).configure(tools=tool)
    for result in (chat.run("get weather"), list(chat.run_stream("get weather"))[-1 if model == "yandexgpt" else -2]):
        (call,) = result.tool_calls
        assert call.function.name == "get_weather"
        assert call.function.arguments.keys() == {"city", "days"}
    history = [
        {"role": "user", "text": "get weather"},
        result,
        {"tool_results": [{"name": "get_weather", "content": "27 градусов", "id": call.id, "tool_call_id": call.id}]},
    ]
    assert "27 градусов" in chat.configure(tool_choice="none").run(history).text


def test_chat_structured_output(sdk: AIStudio) -> None:
    answer = (
        sdk.chat.completions("yandexgpt")
        .configure(
            response_format={"name": "weather", "json_schema": SCHEMA},
        )
        .run("what?")
    )
    assert json.loads(answer.text).keys() == {"city", "days"}


def test_models_and_vectors(sdk: AIStudio) -> None:
    listed = {model.uri for model in sdk.chat.completions.list()}
    assert f"gpt://{FOLDER}/yandexgpt/latest" in listed
    vector = sdk.chat.text_embeddings("text-search-doc").run("текст")
    assert len(vector) == 256


# ── the native part ──────────────────────────────────────────────────────────────────────────────────────


def test_completion(sdk: AIStudio) -> None:
    result = sdk.models.completions("yandexgpt").configure(temperature=0.5, max_tokens=100).run("echo: Привет")
    assert (result.text, result.status.name) == ("Привет", "FINAL")
    assert (result.usage.completion_tokens, result.model_version) == (2, "09.02.2025")
    short = sdk.models.completions("yandexgpt-lite", model_version="rc").configure(max_tokens=3).run("say 30 words")
    assert short.status.name == "TRUNCATED_FINAL"


def test_completion_stream(sdk: AIStudio) -> None:
    results = list(sdk.models.completions("yandexgpt").run_stream("скажи 40 слов"))
    assert len(results) > 5
    assert [result.status.name for result in results[-2:]] == ["PARTIAL", "FINAL"]
    assert results[-1].text.startswith(results[-2].text)
    assert len(results[-1].text.split()) == 40


def test_filter_and_hidden_reasoning(sdk: AIStudio) -> None:
    assert sdk.models.completions("yandexgpt").run("запретная тема").status.name == "CONTENT_FILTER"
    hidden = sdk.models.completions("yandexgpt").configure(reasoning_mode="enabled_hidden").run("echo: 42")
    assert (hidden.text, hidden.usage.reasoning_tokens > 0) == ("42", True)


def test_tools_round_trip(sdk: AIStudio) -> None:
    tool = sdk.tools.function(SCHEMA, name="get_weather")
    model = sdk.models.completions("yandexgpt").configure(tools=tool, tool_choice="required")
    result = model.run("echo: nothing")
    assert result.status.name == "TOOL_CALLS"
    (call,) = result.tool_calls
    assert call.function.arguments.keys() == {"city", "days"}
    history = ["get weather", result, {"tool_results": [{"name": "get_weather", "content": "27 градусов"}]}]
    assert "27 градусов" in sdk.models.completions("yandexgpt").run(history).text


def test_structured_output(sdk: AIStudio) -> None:
    model = sdk.models.completions("yandexgpt").configure(response_format={"json_schema": SCHEMA})
    assert json.loads(model.run("what?").text).keys() == {"city", "days"}
    assert json.loads(sdk.models.completions("yandexgpt").configure(response_format="json").run("what?").text)


def test_deferred_completion(sdk: AIStudio) -> None:
    operation = sdk.models.completions("yandexgpt").run_deferred("echo: потом")
    assert operation.wait(poll_interval=0.02, timeout=30).text == "потом"


def test_tokens_vectors_pictures(sdk: AIStudio) -> None:
    tokens = sdk.models.completions("yandexgpt").tokenize("восемь б")
    assert [token.special for token in tokens] == [True, False, False]
    vector = sdk.models.text_embeddings("doc").run("текст")
    assert (len(vector), vector.num_tokens) == (256, 2)
    operation = (
        sdk.models.image_generation("yandex-art")
        .configure(seed=7, width_ratio=2, height_ratio=1)
        .run_deferred("рыжий кот")
    )
    assert operation.wait(poll_interval=0.02, timeout=30).image_bytes.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("model", "auth", "code"),
    [
        ("gpt://b1gother/yandexgpt/latest", None, "INVALID_ARGUMENT"),
        ("no-such-model", None, "INVALID_ARGUMENT"),
        ("yandexgpt", APIKeyAuth("wrong"), "UNAUTHENTICATED"),
        ("yandexgpt", APIKeyAuth("norole"), "PERMISSION_DENIED"),
        (f"gpt://{FOLDER}/yandexgpt/latest+status-429", None, "RESOURCE_EXHAUSTED"),
    ],
)
def test_errors(connect: Connect, model: str, auth: Any, code: str) -> None:
    with pytest.raises(AioRpcError) as caught:
        connect(auth).models.completions(model).run("x", timeout=20)
    assert caught.value.code().name == code


# ── logins ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")
def test_a_service_account_by_the_vendors_own_signature(connect: Connect) -> None:
    made = post("/iam/v1/keys", {"serviceAccountId": "ajeacceptance"})
    pem = made["privateKey"][made["privateKey"].index("-----BEGIN") :]
    key = {"id": made["key"]["id"], "service_account_id": "ajeacceptance", "private_key": pem}
    request = json_format.MessageToDict(ServiceAccountAuth(key).get_token_request())
    token = post("/iam/v1/tokens", request)["iamToken"]
    assert connect(IAMTokenAuth(token)).models.completions("yandexgpt").run("echo: ok").text == "ok"


@pytest.mark.filterwarnings("ignore:(?s).*Sharing your personal OAuth token")
def test_an_oauth_token_is_exchanged(connect: Connect) -> None:
    assert connect(OAuthTokenAuth("y0_acceptance")).models.completions("yandexgpt").run("echo: ok").text == "ok"


# ── the JSON against the vendor's messages ───────────────────────────────────────────────────────────────

MESSAGES = {
    "completion": CompletionRequest,
    "completion_with_tools": CompletionRequest,
    "embedding": TextEmbeddingRequest,
    "picture": ImageGenerationRequest,
}


@pytest.mark.parametrize("path", sorted(SENT.glob("*.json")), ids=lambda path: path.stem)
def test_what_our_adapter_sends_is_the_vendors_message(path: Path) -> None:
    message = json_format.Parse(path.read_text(), MESSAGES[path.stem]())
    again = json_format.MessageToDict(message)
    assert again["modelUri"] == json.loads(path.read_text())["modelUri"]
    assert len(again) == len(json.loads(path.read_text()))


def test_every_request_of_our_adapter_is_checked() -> None:
    assert {path.stem for path in SENT.glob("*.json")} == MESSAGES.keys()


def test_what_the_simulator_answers_is_the_vendors_message() -> None:
    body = {"modelUri": f"gpt://{FOLDER}/yandexgpt/latest", "messages": [{"role": "user", "text": "say 9 words"}]}
    answer = post("/foundationModels/v1/completion", body, Authorization="Api-Key AQVNacceptance")
    message: Message = json_format.ParseDict(answer["result"], CompletionResponse())
    shown = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    assert shown == answer["result"]
    with pytest.raises(json_format.ParseError, match="no field named"):
        json_format.ParseDict({**answer["result"], "created": 1}, CompletionResponse())


def test_a_picture_travels_as_bytes() -> None:
    order = {"modelUri": f"art://{FOLDER}/yandex-art/latest", "messages": [{"text": "кот", "weight": "1"}]}
    operation = post("/foundationModels/v1/imageGenerationAsync", order, Authorization="Api-Key AQVNacceptance")
    request = urllib.request.Request(
        f"{BASE}/operations/{operation['id']}", headers={"Authorization": "Api-Key AQVNacceptance"}
    )
    for _ in range(1000):
        with urllib.request.urlopen(request, timeout=30) as response:
            found = json.load(response)
        if found["done"]:
            break
    assert base64.b64decode(found["response"]["image"]).endswith(b"\xff\xd9")
