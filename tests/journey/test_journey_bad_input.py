"""Wrong bodies: always a 4xx in OpenAI's shape that names the field, never a 5xx, and memory stays flat."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from campaigns.stage import Gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.journey.calls import CHAT
from tests.journey.conftest import GIGACHAT, MAX_BODY_BYTES, TBANK

from xrouter.dialects.openai import completions, embeddings, images, rerank
from xrouter.dialects.openrouter import chat_request

HI = [{"role": "user", "content": "hi"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FUNCTION = {"type": "function", "function": {"name": "f"}}
DEEP = "[" * 70 + "]" * 70


def good(**more: Any) -> dict[str, Any]:
    return {"model": TBANK, "messages": HI, **more}


def said(*messages: Any) -> dict[str, Any]:
    return {"model": TBANK, "messages": list(messages)}


# name -> (body, the field that the error names). Text and bytes go out as they are.
WRONG: dict[str, tuple[Any, str | None]] = {
    # ── not a JSON object at all ──
    "empty body": (b"", None),
    "not JSON": ("{model", None),
    "JSON with a tail": (json.dumps(good()) + "}", None),
    "two objects": (json.dumps(good()) * 2, None),
    "cut in the middle": (json.dumps(good())[:-4], None),
    "a list": ("[]", None),
    "a string": ('"hi"', None),
    "a number": ("1", None),
    "null": ("null", None),
    "NaN": ('{"model": "m", "messages": [], "temperature": NaN}', None),
    "single quotes": (str(good()), None),
    "a comment": ('{"model": "m" /* why */}', None),
    "a trailing comma": ('{"model": "m",}', None),
    "not UTF-8": (b'{"model": "\xff\xfe", "messages": []}', None),
    "UTF-16": (json.dumps(good()).encode("utf-16"), None),
    "a lone surrogate": ('{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', None),
    "a raw control character": ('{"model": "a\nb", "messages": []}', None),
    "too deep": (f'{{"model": "m", "messages": {DEEP}}}', None),
    "too deep where nobody looks": (f'{{"model": "m", "messages": [], "x": {DEEP}}}', None),
    "above the limit": (b'{"model": "' + b"x" * MAX_BODY_BYTES + b'"}', None),
    # ── what is missing ──
    "no fields": ({}, "model"),
    "no model": ({"messages": HI}, "model"),
    "no messages": ({"model": TBANK}, "messages"),
    "null model": ({"model": None, "messages": HI}, "model"),
    "no messages in the list": (said(), "messages"),
    "message without role": (said({"content": "hi"}), "messages[0].role"),
    "message without content": (said({"role": "user"}), "messages[0].content"),
    "tool call without a function name": (
        said(*HI, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {}}]}),
        "messages[1].tool_calls[0].function.name",
    ),
    "tool result without id": (
        said(*HI, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}),
        "messages[2].tool_call_id",
    ),
    "tool without function": (good(tools=[{"type": "function"}]), "tools[0].function"),
    "function without name": (good(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    "tool without type": (good(tools=[{"function": {"name": "f"}}]), "tools[0].type"),
    "schema missing": (good(response_format={"type": "json_schema"}), "response_format.json_schema"),
    "schema without name": (
        good(response_format={"type": "json_schema", "json_schema": {}}),
        "response_format.json_schema.name",
    ),
    # ── wrong types ──
    "model a number": (good(model=1), "model"),
    "model a list": (good(model=[TBANK]), "model"),
    "model empty": (good(model=""), "model"),
    "model too long": (good(model="m" * 600), "model"),
    "models a text": (good(models=TBANK), "models"),
    "models of numbers": (good(models=[1]), "models[0]"),
    "too many models": (good(models=[TBANK] * 17), "models"),
    "messages a text": (good(messages="hi"), "messages"),
    "messages an object": (good(messages={"role": "user"}), "messages"),
    "message a text": (said("hi"), "messages[0]"),
    "message null": (said(None), "messages[0]"),
    "second message a number": (said(*HI, 1), "messages[1]"),
    "content a number": (said({"role": "user", "content": 1}), "messages[0].content"),
    "content an object": (said({"role": "user", "content": {"text": "hi"}}), "messages[0].content"),
    "part a text": (said({"role": "user", "content": ["hi"]}), "messages[0].content[0]"),
    "text part without text": (said({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
    "text part of null": (
        said({"role": "user", "content": [{"type": "text", "text": None}]}),
        "messages[0].content[0].text",
    ),
    "image as text": (
        said({"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}),
        "messages[0].content[0].image_url",
    ),
    "name a number": (said({"role": "user", "content": "hi", "name": 1}), "messages[0].name"),
    "arguments an object": (
        said(*HI, {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": {}}}]}),
        "messages[1].tool_calls[0].function.arguments",
    ),
    "stream a text": (good(stream="yes"), "stream"),
    "stream a number": (good(stream=1), "stream"),
    "stream_options a list": (good(stream=True, stream_options=[]), "stream_options"),
    "include_usage a text": (
        good(stream=True, stream_options={"include_usage": "yes"}),
        "stream_options.include_usage",
    ),
    "temperature a text": (good(temperature="hot"), "temperature"),
    "max_tokens a fraction": (good(max_tokens=1.5), "max_tokens"),
    "stop a number": (good(stop=1), "stop"),
    "stop of numbers": (good(stop=[1]), "stop[0]"),
    "tools an object": (good(tools={}), "tools"),
    "parameters a text": (
        good(tools=[{"type": "function", "function": {"name": "f", "parameters": "{}"}}]),
        "tools[0].function.parameters",
    ),
    "tool_choice a number": (good(tools=[FUNCTION], tool_choice=1), "tool_choice"),
    "response_format a text": (good(response_format="json"), "response_format"),
    "logit_bias a list": (good(logit_bias=[1]), "logit_bias"),
    "seed a text": (good(seed="1"), "seed"),
    "metadata of numbers": (good(metadata={"a": 1}), "metadata"),
    "user a number": (good(user=1), "user"),
    "logprobs a number": (good(logprobs=2), "logprobs"),
    # ── out of range, or words that do not exist ──
    "temperature below": (good(temperature=-0.1), "temperature"),
    "temperature above": (good(temperature=2.1), "temperature"),
    "top_p above": (good(top_p=1.1), "top_p"),
    "penalty above": (good(presence_penalty=2.5), "presence_penalty"),
    "max_tokens zero": (good(max_tokens=0), "max_tokens"),
    "max_completion_tokens huge": (good(max_completion_tokens=10**12), "max_completion_tokens"),
    "n zero": (good(n=0), "n"),
    "n huge": (good(n=10**6), "n"),
    "too many stops": (good(stop=list("abcde")), "stop"),
    "top_logprobs above": (good(logprobs=True, top_logprobs=21), "top_logprobs"),
    "unknown role": (said({"role": "robot", "content": "hi"}), "messages[0].role"),
    "unknown part": (said({"role": "user", "content": [{"type": "smell"}]}), "messages[0].content[0].type"),
    "unknown tool_choice": (good(tools=[FUNCTION], tool_choice="maybe"), "tool_choice"),
    "unknown response format": (good(response_format={"type": "xml"}), "response_format.type"),
    "unknown effort": (good(reasoning_effort="heroic"), "reasoning_effort"),
    "function name with a space": (
        good(tools=[{"type": "function", "function": {"name": "a b"}}]),
        "tools[0].function.name",
    ),
    # ── fields that contradict each other ──
    "stream_options without stream": (good(stream_options={"include_usage": True}), "stream_options"),
    "tool_choice without tools": (good(tool_choice="required"), "tool_choice"),
    "forced tool that is not offered": (
        good(tools=[FUNCTION], tool_choice={"type": "function", "function": {"name": "g"}}),
        "tool_choice",
    ),
    "result of no call": (said(*HI, {"role": "tool", "tool_call_id": "x", "content": "1"}), "messages[1].tool_call_id"),
    "the user calls a tool": (said({"role": "user", "content": "", "tool_calls": [CALL]}), "messages[0].tool_calls"),
    "unknown model": (good(model="nobody/nothing"), "model"),
    "unknown model in the list": (good(models=[TBANK, "nobody/nothing"]), "models[1]"),
    # ── what one vendor cannot ──
    "too many choices": (good(model=GIGACHAT, n=129), "n"),
    "an image for GigaChat": (
        {
            "model": GIGACHAT,
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        },
        "messages[0].content[0].image_url.url",
    ),
}  # fmt: skip


COMPLETIONS, EMBEDDINGS, IMAGES, RERANK = "/completions", "/embeddings", "/images/generations", "/rerank"
RIGHT: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "hi"},
    EMBEDDINGS: {"input": "hi"},
    IMAGES: {"prompt": "a cat"},
    RERANK: {"query": "hi", "documents": ["a", "b"]},
}
# endpoint -> the wrong fields of a body that is right otherwise, and the field that the error names
WRONG_ELSEWHERE: list[tuple[str, dict[str, Any], str]] = [
    *[(path, {"model": model}, "model") for path in RIGHT for model in (None, 1, "", "m" * 600, "nobody/nothing")],
    *[(path, {"models": models}, "models") for path in RIGHT for models in ("x", ["m"] * 17)],
    *[(path, {"models": [1]}, "models[0]") for path in RIGHT],
    *[(path, {"user": user}, "user") for path in RIGHT for user in (1, "x" * 600)],
    *[(path, {"provider": provider}, "provider") for path in RIGHT for provider in ("x", [])],
    *[(path, {"provider": {"require_parameters": 1}}, "provider.require_parameters") for path in RIGHT],
    *[(path, {}, "model") for path in (EMBEDDINGS, IMAGES, RERANK)],  # a model that chats
    *[
        (path, {name: wrong}, name)
        for path, name in ((COMPLETIONS, "prompt"), (EMBEDDINGS, "input"))
        for wrong in (None, 1, True, {}, "", [], [1, 2], [[1, 2], [3]], ["a"] * 2049)
    ],
    *[
        (path, {name: wrong}, f"{name}[1]")
        for path, name in ((COMPLETIONS, "prompt"), (EMBEDDINGS, "input"))
        for wrong in (["a", ""], ["a", None], ["a", {}], ["a", 1.5], ["a", True])
    ],
    (COMPLETIONS, {"echo": True}, "echo"),
    (COMPLETIONS, {"echo": "no"}, "echo"),
    (COMPLETIONS, {"suffix": "."}, "suffix"),
    (COMPLETIONS, {"suffix": 1}, "suffix"),
    (COMPLETIONS, {"best_of": 2}, "best_of"),
    (COMPLETIONS, {"best_of": 21}, "best_of"),
    (COMPLETIONS, {"logprobs": 0}, "logprobs"),
    (COMPLETIONS, {"logprobs": 6}, "logprobs"),
    (COMPLETIONS, {"logprobs": True}, "logprobs"),
    (COMPLETIONS, {"max_tokens": 0}, "max_tokens"),
    (COMPLETIONS, {"temperature": 2.1}, "temperature"),
    (COMPLETIONS, {"top_p": "1"}, "top_p"),
    (COMPLETIONS, {"presence_penalty": -3}, "presence_penalty"),
    (COMPLETIONS, {"frequency_penalty": 3}, "frequency_penalty"),
    (COMPLETIONS, {"logit_bias": []}, "logit_bias"),
    (COMPLETIONS, {"n": 0}, "n"),
    (COMPLETIONS, {"n": 128, "prompt": ["a", "b"]}, "n"),
    (COMPLETIONS, {"stop": list("abcde")}, "stop"),
    (COMPLETIONS, {"seed": 1.5}, "seed"),
    (COMPLETIONS, {"stream": 1}, "stream"),
    (COMPLETIONS, {"stream_options": {"include_usage": True}}, "stream_options"),
    (COMPLETIONS, {"stream": True, "stream_options": 1}, "stream_options"),
    (EMBEDDINGS, {"encoding_format": "hex"}, "encoding_format"),
    (EMBEDDINGS, {"dimensions": 0}, "dimensions"),
    (EMBEDDINGS, {"dimensions": 65_537}, "dimensions"),
    (EMBEDDINGS, {"dimensions": "8"}, "dimensions"),
    (IMAGES, {"prompt": None}, "prompt"),
    (IMAGES, {"prompt": ""}, "prompt"),
    (IMAGES, {"prompt": ["a"]}, "prompt"),
    (IMAGES, {"prompt": "x" * 32_001}, "prompt"),
    (IMAGES, {"n": 0}, "n"),
    (IMAGES, {"n": 11}, "n"),
    *[(IMAGES, {"size": size}, "size") for size in ("large", "0x0", "1024", "1024x", 1024, "1024x1024x3", "9x9")],
    (IMAGES, {"response_format": "url"}, "response_format"),
    (IMAGES, {"response_format": "png"}, "response_format"),
    (IMAGES, {"stream": True}, "stream"),
    (IMAGES, {"partial_images": 1}, "partial_images"),
    (IMAGES, {"partial_images": 4}, "partial_images"),
    (IMAGES, {"quality": "best"}, "quality"),
    (IMAGES, {"style": "bold"}, "style"),
    (IMAGES, {"background": "pink"}, "background"),
    (IMAGES, {"moderation": "none"}, "moderation"),
    (IMAGES, {"output_format": "bmp"}, "output_format"),
    (IMAGES, {"output_compression": 101}, "output_compression"),
    (RERANK, {"query": None}, "query"),
    (RERANK, {"query": ""}, "query"),
    (RERANK, {"query": ["a"]}, "query"),
    (RERANK, {"documents": None}, "documents"),
    (RERANK, {"documents": []}, "documents"),
    (RERANK, {"documents": "a"}, "documents"),
    (RERANK, {"documents": ["a"] * 2049}, "documents"),
    (RERANK, {"documents": ["a", 1]}, "documents[1]"),
    (RERANK, {"documents": ["a", {}]}, "documents[1].text"),
    (RERANK, {"documents": ["a", {"text": 1}]}, "documents[1].text"),
    (RERANK, {"documents": ["a", ""]}, "documents[1]"),
    (RERANK, {"top_n": 0}, "top_n"),
    (RERANK, {"top_n": 1.5}, "top_n"),
    (RERANK, {"return_documents": "yes"}, "return_documents"),
    (RERANK, {"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
]
# the fields that only OpenRouter's form knows
WRONG_SUPERSET: list[tuple[dict[str, Any], str]] = [
    ({"reasoning": "high"}, "reasoning"),
    ({"reasoning": {"effort": "heroic"}}, "reasoning.effort"),
    ({"reasoning": {"max_tokens": -1}}, "reasoning.max_tokens"),
    ({"reasoning": {"max_tokens": 5, "effort": "low"}}, "reasoning"),
    ({"reasoning": {"exclude": 1}}, "reasoning.exclude"),
    ({"include_reasoning": "no"}, "include_reasoning"),
    ({"usage": True}, "usage"),
    ({"usage": {"include": "yes"}}, "usage.include"),
    ({"session_id": 5}, "session_id"),
    ({"trace": []}, "trace"),
    ({"plugins": {}}, "plugins"),
    ({"plugins": ["web"]}, "plugins[0]"),
    ({"transforms": "middle-out"}, "transforms"),
    ({"route": 1}, "route"),
    ({"top_a": 2}, "top_a"),
    ({"provider": {"require_parameters": "yes"}}, "provider.require_parameters"),
    ({"model": None}, "model"),
    ({"model": None, "models": []}, "model"),
    ({"messages": None}, "messages"),
    ({"temperature": 3}, "temperature"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
]


class Line:
    """One kept-alive connection, for many small requests in a row."""

    def __init__(self, place: Gateway) -> None:
        self._place = place
        self._http = http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)

    def post(self, body: Any, path: str = CHAT) -> tuple[int, Any]:
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        headers = {"Authorization": f"Bearer {self._place.key}", "Content-Type": "application/json"}
        try:
            self._http.request("POST", path, data, headers)
            answer = self._http.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):  # closed after a refusal: begin again
            self._http.close()
            self._http.request("POST", path, data, headers)
            answer = self._http.getresponse()
        text = answer.read()
        if answer.getheader("content-type") == "text/event-stream; charset=utf-8":
            return answer.status, None
        return answer.status, json.loads(text)

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def line(place: Gateway) -> Iterator[Line]:
    made = Line(place)
    yield made
    made.close()


def test_the_table_is_large() -> None:
    assert len(WRONG) >= 60


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_body_is_refused_and_the_field_is_named(line: Line, name: str) -> None:
    body, param = WRONG[name]
    status, answer = line.post(body)
    assert 400 <= status < 500, answer
    error = answer["error"]
    assert {"message", "type", "param", "code", "metadata"} <= error.keys()
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["code"]
    assert error["metadata"]["request_id"].startswith("req_")
    assert error["param"] == param, error
    if param is not None:
        assert param.split("[")[0].split(".")[0] in error["message"]


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
@pytest.mark.parametrize(("path", "wrong", "param"), WRONG_ELSEWHERE)
def test_a_wrong_body_is_refused_at_every_endpoint(
    line: Line, base: str, path: str, wrong: dict[str, Any], param: str
) -> None:
    _is_refused(*line.post({"model": TBANK, **RIGHT[path], **wrong}, base + path), base, param)


@pytest.mark.parametrize(("wrong", "param"), WRONG_SUPERSET)
def test_a_wrong_field_of_the_superset_is_refused(line: Line, wrong: dict[str, Any], param: str) -> None:
    _is_refused(*line.post(good(**wrong), "/api/v1/chat/completions"), "/api/v1", param)


def _is_refused(status: int, answer: Any, base: str, param: str) -> None:
    assert status in (400, 404), answer
    error = answer["error"]
    assert error["param"] == param, error
    assert param.split("[")[0].split(".")[0] in error["message"]
    assert error["code"] == status if base == "/api/v1" else isinstance(error["code"], str)


@pytest.mark.parametrize("name", ["empty body", "a list", "not UTF-8", "too deep", "a lone surrogate", "NaN"])
@pytest.mark.parametrize("path", [f"{base}{path}" for base in ("/v1", "/api/v1") for path in RIGHT])
def test_what_is_no_json_object_is_refused_at_every_endpoint(line: Line, path: str, name: str) -> None:
    status, answer = line.post(WRONG[name][0], path)
    assert status == 400
    assert answer["error"]["message"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "model", "models", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "n", "stop",
    "tools", "tool_choice", "functions", "function_call", "response_format", "logit_bias", "logprobs", "top_logprobs",
    "seed", "user", "metadata", "reasoning_effort", "chat_template_kwargs", "top_k", "modalities", "prompt_cache_key",
    "parallel_tool_calls", "verbosity", "guided_json", "extra_body", "update_interval", "profanity_check",
]  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | JSON,
        "content": st.text(max_size=20) | st.lists(st.fixed_dictionaries({"type": st.just("text")}) | JSON) | JSON,
        "name": JSON,
        "tool_calls": st.lists(st.just(CALL) | JSON, max_size=2) | JSON,
        "function_call": st.just(CALL["function"]) | JSON,
        "tool_call_id": st.just("call_1") | JSON,
        "reasoning_content": JSON,
    },
)
NEARLY_GOOD = st.builds(
    lambda base, more: base | more,
    st.fixed_dictionaries(
        {
            "model": st.sampled_from([GIGACHAT, TBANK, "both"]),
            "messages": st.lists(MESSAGE, min_size=1, max_size=4) | st.just(HI),
        }
    ),
    st.dictionaries(st.sampled_from(FIELDS[3:]), JSON, max_size=2),
)


ELSEWHERE_FIELDS = sorted({*completions.TYPES, *embeddings.TYPES, *images.TYPES, *rerank.TYPES, "unknown"})


@settings(max_examples=300)
@given(
    path=st.sampled_from([f"{base}{path}" for base in ("/v1", "/api/v1") for path in RIGHT]),
    more=st.dictionaries(st.sampled_from(ELSEWHERE_FIELDS), JSON, max_size=3),
)
def test_whatever_comes_at_another_endpoint_it_is_no_fault_of_ours(line: Line, path: str, more: dict[str, Any]) -> None:
    right = RIGHT[path.removeprefix("/api").removeprefix("/v1")]
    _check(line, {"model": TBANK, **right, **more}, path)


SUPERSET_FIELDS = sorted(chat_request.TYPES)


@settings(max_examples=200)
@given(body=NEARLY_GOOD, more=st.dictionaries(st.sampled_from(SUPERSET_FIELDS), JSON, max_size=2))
def test_whatever_superset_comes_it_is_no_fault_of_ours(line: Line, body: Any, more: dict[str, Any]) -> None:
    _check(line, body | more, "/api/v1/chat/completions")


def _check(line: Line, body: Any, path: str = CHAT) -> None:
    status, answer = line.post(body, path)
    assert status == 200 or 400 <= status < 500, (status, answer)
    if status != 200:
        assert {"message", "type", "param", "code"} <= answer["error"].keys()


@settings(max_examples=200)
@given(body=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=6) | JSON)
def test_whatever_json_comes_it_is_no_fault_of_ours(line: Line, body: Any) -> None:
    _check(line, body)


@settings(max_examples=300)
@given(body=NEARLY_GOOD)
def test_whatever_nearly_good_request_comes_it_is_no_fault_of_ours(line: Line, body: Any) -> None:
    _check(line, body)


@settings(max_examples=150)
@given(data=st.binary(max_size=200))
def test_whatever_bytes_come_they_are_no_fault_of_ours(line: Line, data: bytes) -> None:
    _check(line, data)


WARM_UP, REQUESTS, LINES = 1_000, 5_000, 8
MAX_GROWTH_BYTES = 24 * 1024 * 1024


async def test_memory_stays_flat_under_bad_input(place: Gateway) -> None:
    bodies = [
        body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        for name, (body, _) in WRONG.items()
        if name != "above the limit" and "GigaChat" not in name
    ]
    bodies.append(json.dumps(said({"role": "robot", "content": "x" * 100_000})).encode())
    assert place.process is not None
    gateway = psutil.Process(place.process.pid)
    await _send(place, bodies, WARM_UP)
    before = gateway.memory_info().rss
    await _send(place, bodies, REQUESTS)
    grown = gateway.memory_info().rss - before
    assert grown < MAX_GROWTH_BYTES, f"{grown / 2**20:.1f} MiB more after {REQUESTS} bad requests"


async def _send(place: Gateway, bodies: list[bytes], count: int) -> None:
    async def one(share: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        try:
            for number in range(share):
                body = bodies[number % len(bodies)]
                writer.write(
                    b"POST %b HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
                    % (CHAT.encode(), place.key.encode(), len(body), body)
                )
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert head.startswith(b"http/1.1 4"), head
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        finally:
            writer.close()

    await asyncio.gather(*(one(count // LINES) for _ in range(LINES)))
