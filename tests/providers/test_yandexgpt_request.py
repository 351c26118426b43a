"""YandexGPT's names and prices, and what goes out on its OpenAI surface."""

from decimal import Decimal
from typing import Any

import pytest
from tests.providers.scripted import (
    FIXTURES,
    OUR_KEY,
    Reply,
    ScriptedTransport,
    Sent,
    attempt_for,
    chat_request,
    collect,
    connect,
)

from xrouter.core.deployment import Deployment
from xrouter.core.errors import Invalid
from xrouter.core.operation import Operation
from xrouter.core.ports import EmbeddingsProvider, ImagesProvider
from xrouter.providers.yandexgpt import deployments
from xrouter.providers.yandexgpt.names import read_name
from xrouter.settings import ConfigError, ProviderSettings

FOLDER = "b1gfolderoftests00000"
ANSWER = (FIXTURES / "yandexgpt" / "text.json").read_bytes()
JSON = {"content-type": "application/json"}


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("yandexgpt", "gpt://F/yandexgpt/latest"),
        ("yandexgpt/latest", "gpt://F/yandexgpt/latest"),
        ("yandexgpt:latest", "gpt://F/yandexgpt/latest"),
        ("yandexgpt-lite:rc", "gpt://F/yandexgpt-lite/rc"),
        ("yandexgpt-lite/latest@tuned1", "gpt://F/yandexgpt-lite/latest@tuned1"),
        ("yandexgpt-lite@tuned1", "gpt://F/yandexgpt-lite/latest@tuned1"),
        ("aliceai-llm", "gpt://F/aliceai-llm"),
        ("deepseek-v32", "gpt://F/deepseek-v32/"),
        ("gpt://b1gother/qwen3-235b-a22b-fp8/latest", "gpt://b1gother/qwen3-235b-a22b-fp8/latest"),
        ("text-search-query", "emb://F/text-search-query/latest"),
        ("emb://b1gother/text-search-doc/latest", "emb://b1gother/text-search-doc/latest"),
        ("yandex-art", "art://F/yandex-art/latest"),
    ],
)
def test_names_become_uris(name: str, uri: str) -> None:
    found = read_name(name, "F")
    assert found.uri(found.operation) == uri
    assert read_name(uri, "").uri(found.operation) == uri


def test_the_scheme_of_a_short_name_follows_what_is_asked() -> None:
    assert read_name("my-embedder", "F").uri(Operation.EMBEDDINGS) == "emb://F/my-embedder/latest"


def account(**settings: Any) -> ProviderSettings:
    filled = {"kind": "yandexgpt", "api_key": "AQVN", "models": ["yandexgpt"], "options": {"folder": FOLDER}}
    return ProviderSettings.model_validate(filled | settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"options": {}},
            r"providers.y.models.yandexgpt: 'yandexgpt' needs the folder: set options.folder, or write gpt://",
        ),
        ({"models": ["cls://b1g/yandexgpt/latest"]}, "only gpt://, emb://, art:// are served"),
        ({"models": ["a/b/c"]}, "'a/b/c' is no model"),
        ({"options": {"folder": FOLDER, "surface": "grpc"}}, "providers.y.options.surface: invalid enum value 'grpc'"),
        ({"options": {"folders": FOLDER}}, r"did you mean 'folder'\?"),
    ],
)
def test_mistakes_are_told_at_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        deployments("y", account(**settings))


def test_full_names_need_no_folder() -> None:
    (one,) = deployments("y", account(options={}, models=["gpt://b1g/yandexgpt/latest"]))
    assert (one.id, one.upstream_model) == ("y/gpt://b1g/yandexgpt/latest", "gpt://b1g/yandexgpt/latest")


def test_deployments_know_what_they_serve_and_cost() -> None:
    models = [
        "yandexgpt",
        "yandexgpt:rc",
        f"gpt://{FOLDER}/yandexgpt-lite/latest",
        "yandexgpt-lite/latest@tuned",
        "aliceai-llm",
        "text-search-doc",
        "yandex-art",
        {"name": "my-embedder", "serves": ["embeddings"]},
    ]
    pro, rc, lite, tuned, alice, emb, art, own = deployments("y", account(models=models))
    for one, given, made in ((pro, 1200, 1200), (rc, 800, 800), (lite, 200, 200), (alice, 500, 1200)):
        assert one.price is not None
        assert (one.price.input_rub_per_1m, one.price.output_rub_per_1m) == (Decimal(given), Decimal(made))
    assert [one.price for one in (tuned, emb, art)] == [None] * 3
    assert [one.serves for one in (pro, emb, art, own)] == [
        {Operation.CHAT},
        {Operation.EMBEDDINGS},
        {Operation.IMAGES},
        {Operation.EMBEDDINGS},
    ]
    assert [one.max_concurrency for one in (pro, emb, art)] == [10, 0, 0]
    assert all(one.one_choice and one.one_input for one in (pro, emb, art))
    assert {one.max_concurrency for one in deployments("y", account(models=models, max_concurrency=3))} == {3}


def test_the_provider_makes_vectors_and_pictures_too() -> None:
    provider, _ = connect("yandexgpt", Reply())
    assert isinstance(provider, EmbeddingsProvider)
    assert isinstance(provider, ImagesProvider)


# ── what goes out ────────────────────────────────────────────────────────────────────────────────────────


async def sent_for(
    model: str = "yandexgpt", *, stream: bool = False, options: dict[str, Any] | None = None, **fields: Any
) -> tuple[Sent, tuple[str, ...]]:
    """What left for one request, and what was left out."""
    chunks = [(FIXTURES / "yandexgpt" / "text.sse").read_bytes() if stream else ANSWER]
    headers = {"content-type": "text/event-stream"} if stream else JSON
    provider, transport = connect(
        "yandexgpt", Reply(headers=headers, chunks=chunks), options={"folder": FOLDER, **(options or {})}
    )
    request = chat_request(stream=stream, **fields)
    attempt = attempt_for(request)
    attempt.deployment = Deployment(id=f"acme/{model}", provider="acme", kind="yandexgpt", upstream_model=model)
    await collect(provider, request, attempt)
    (sent,) = transport.sent
    return sent, attempt.dropped


async def test_the_request_as_the_vendor_wants_it() -> None:
    sent, _ = await sent_for("yandexgpt-lite:rc", stream=True, include_obfuscation=None)
    assert sent.url == "https://upstream.test/v1/chat/completions"
    assert sent.json() == {
        "model": f"gpt://{FOLDER}/yandexgpt-lite/rc",
        "stream": True,
        "messages": [{"role": "user", "content": "Привет"}],
    }
    assert sent.headers["Authorization"] == f"Api-Key {OUR_KEY}"
    assert sent.headers["OpenAI-Project"] == sent.headers["x-folder-id"] == FOLDER
    assert sent.headers["x-data-logging-enabled"] == "false"
    assert len(sent.headers["x-client-request-id"]) == 36
    assert sent.headers["Accept"] == "text/event-stream"


async def test_the_vendor_may_keep_requests_only_when_told_so() -> None:
    sent, _ = await sent_for(options={"data_logging": True})
    assert "x-data-logging-enabled" not in sent.headers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 1.7}, {"temperature": 1.0}),
        ({"temperature": 0.3}, {"temperature": 0.3}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}),
        ({"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "none"}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"stop": "END"}, {}),
        ({"n": 3, "store": False, "logprobs": False}, {}),
    ],
)
async def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    sent, dropped = await sent_for(**fields)
    body = sent.json()
    assert {name: value for name, value in body.items() if name not in ("model", "stream", "messages")} == expected
    assert dropped == ()


async def test_an_open_model_is_told_where_to_end() -> None:
    sent, _ = await sent_for("qwen3-235b-a22b-fp8", stop=["END"])
    assert sent.json()["stop"] == ["END"]


async def test_what_the_vendor_lacks_is_left_out_and_told() -> None:
    fields = {"seed": 1, "user": "u", "frequency_penalty": 1, "min_p": 0.1, "prediction": {}, "unheard_of": 1}
    sent, dropped = await sent_for(**fields)
    assert dropped == tuple(fields)
    assert not fields.keys() & sent.json().keys()


NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
ADD = {"type": "function", "function": {"name": "add", "strict": True, "unknown": 1}}
CLEAN_ADD = {"type": "function", "function": {"name": "add", "strict": True}}


@pytest.mark.parametrize(
    ("fields", "tools", "choice", "told"),
    [
        ({"tools": [NOW, ADD]}, [NOW, CLEAN_ADD], "auto", ()),
        ({"tools": [NOW], "tool_choice": "none"}, [NOW], "none", ()),
        ({"tools": [NOW, ADD], "tool_choice": "required"}, [NOW, CLEAN_ADD], "auto", ("tool_choice",)),
        (
            {"tools": [NOW, ADD], "tool_choice": {"type": "function", "function": {"name": "now"}}},
            [NOW],
            "auto",
            ("tool_choice",),
        ),
        (
            {
                "tools": [NOW, ADD],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [ADD]}},
            },
            [CLEAN_ADD],
            "auto",
            (),
        ),
    ],
)
async def test_tools(fields: dict[str, Any], tools: list[Any], choice: str, told: tuple[str, ...]) -> None:
    sent, dropped = await sent_for(**fields)
    body = sent.json()
    assert (body["tools"], body["tool_choice"], dropped) == (tools, choice, told)


def calls(*pairs: tuple[str, str]) -> dict[str, Any]:
    made = [{"id": i, "type": "function", "function": {"name": name, "arguments": "{}"}} for i, name in pairs]
    return {"role": "assistant", "content": None, "tool_calls": made, "reasoning_content": "hm", "refusal": None}


HISTORY = [
    {"role": "developer", "content": "Be brief"},
    {"role": "user", "content": "x", "name": "Ann"},
    calls(("call_1", "add"), ("call_2", "now")),
    {"role": "tool", "tool_call_id": "call_2", "content": "12:00"},
    {"role": "tool", "tool_call_id": "call_1", "content": "3"},
]


async def test_a_call_goes_by_its_functions_name_where_the_vendor_named_it_so() -> None:
    sent, _ = await sent_for("yandexgpt", messages=HISTORY)
    system, user, assistant, *results = sent.json()["messages"]
    assert system == {"role": "system", "content": "Be brief"}
    assert user == {"role": "user", "content": "x", "name": "Ann"}
    assert [call["id"] for call in assistant["tool_calls"]] == ["add", "now"]
    assert assistant.keys() == {"role", "content", "tool_calls"}
    assert [result["tool_call_id"] for result in results] == ["now", "add"]
    sent, _ = await sent_for("gpt-oss-120b", messages=HISTORY)
    _, _, assistant, *results = sent.json()["messages"]
    assert [call["id"] for call in assistant["tool_calls"]] == ["call_1", "call_2"]
    assert [result["tool_call_id"] for result in results] == ["call_2", "call_1"]


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


async def test_a_refusal_of_before_is_a_text() -> None:
    messages = [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]
    sent, _ = await sent_for(messages=messages)
    assert sent.json()["messages"] == [{"role": "assistant", "content": [{"type": "text", "text": "no"}]}]


async def test_pictures_go_to_models_that_see_only() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, PICTURE]}]
    sent, _ = await sent_for("gemma-3-27b-it", messages=messages)
    assert sent.json()["messages"] == messages
    sent, _ = await sent_for("my-own-eyes", options={"vision_models": ["my-own-eyes"]}, messages=messages)
    assert sent.json()["messages"] == messages


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tools": [NOW], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{}]}}}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "allowed_tools", "allowed_tools": [5]}}, "tool_choice"),
    ],
)
async def test_what_cannot_be_said_is_refused_before_anything_is_sent(fields: dict[str, Any], param: str) -> None:
    transport: ScriptedTransport
    provider, transport = connect("yandexgpt", Reply())
    with pytest.raises(Invalid) as caught:
        await collect(provider, chat_request(**fields))
    assert caught.value.param == param
    assert transport.sent == []


async def test_the_other_host_of_the_openai_surface() -> None:
    provider, transport = connect("yandexgpt", Reply(headers=JSON, chunks=[ANSWER]),
                                  base_url="https://ai.api.cloud.yandex.net/v1")  # fmt: skip
    await collect(provider, chat_request(stream=False))
    assert transport.sent[0].url == "https://ai.api.cloud.yandex.net/v1/chat/completions"
    native, transport = connect(
        "yandexgpt",
        Reply(headers=JSON, chunks=[(FIXTURES / "yandexgpt" / "native" / "text.json").read_bytes()]),
        base_url="https://ai.api.cloud.yandex.net/v1",
        options={"folder": FOLDER, "surface": "native"},
    )
    await collect(native, chat_request(stream=False))
    assert transport.sent[0].url == "https://llm.api.cloud.yandex.net/foundationModels/v1/completion"
