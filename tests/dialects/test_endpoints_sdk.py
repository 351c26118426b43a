"""The official openai SDK at every endpoint of both dialects, in strict validation wherever the SDK passes its own:
it asks for base64 and then wants a list, and its type for streamed completions has no `finish_reason: null`, which
OpenAI itself sends.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from tests.dialects.door import KEY, door
from tests.gateway.script import EVERYTHING, Maker, Script, World, answer, world

from xrouter.core.call import Attempt
from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    ChatRequest,
    Choice,
    Delta,
    Event,
    Finish,
    Reasoning,
    Start,
    Usage,
)
from xrouter.core.errors import ProviderUnavailable

BASES = ("/v1", "/api/v1")
TEXT: list[Event] = [Start(), Delta("При"), Delta("вет"), Finish("stop", native="eos"), Usage(7, 2)]
BROKEN: list[Any] = [Delta("При"), ProviderUnavailable("a broke", provider="a")]


class Strict(Script):
    """A provider that knows no `seed`."""

    async def chat(self, request: ChatRequest, attempt: Attempt) -> Any:
        attempt.drop(tuple(name for name in request.fields if name == "seed"))
        async for event in super().chat(request, attempt):
            yield event


@asynccontextmanager
async def client(place: World, base: str = "/v1", *, strict: bool = True) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        door(place) as url,
        openai.AsyncOpenAI(
            base_url=url + base, api_key=KEY, max_retries=0, timeout=20, _strict_response_validation=strict
        ) as found,
    ):
        yield found


def asked(place: World) -> list[Any]:
    return [attempt.request for attempt in place.books.intents]


# ── /completions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("base", BASES)
async def test_a_completion(base: str) -> None:
    place = world(a=Script([answer("and so on")]))
    async with client(place, base) as sdk:
        found = await sdk.completions.create(
            model="a/m", prompt="Once", max_tokens=5, temperature=0, echo=False, best_of=1, suffix=None
        )
    assert found.id.startswith("cmpl-")
    assert found.object == "text_completion"
    assert [(one.text, one.index, one.finish_reason) for one in found.choices] == [("and so on", 0, "stop")]
    assert found.usage is not None
    (request,) = asked(place)
    assert (request.prompt, request.prompts) == ("Once", ())
    assert [(one.role, one.content) for one in request.messages()] == [("user", "Once")]
    assert set(request.fields) == {"messages", "max_tokens", "temperature"}


@pytest.mark.parametrize("base", BASES)
async def test_a_streamed_completion(base: str) -> None:
    async with client(world(a=Script(TEXT)), base, strict=False) as sdk:
        stream = await sdk.completions.create(
            model="a/m", prompt="Once", stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Привет"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 9


async def test_several_prompts_with_several_choices() -> None:
    class Echo(Script):
        async def chat(self, request: ChatRequest, attempt: Attempt) -> Any:
            attempt.sending()
            attempt.answered(200, None)
            yield answer(f"{request.prompt}!")

    async with client(world(a=Echo(), one_choice=("a",))) as sdk:
        found = await sdk.completions.create(model="a/m", prompt=["one", "two"], n=2)
    assert [(one.index, one.text) for one in found.choices] == [(0, "one!"), (1, "one!"), (2, "two!"), (3, "two!")]


async def test_several_prompts_streamed() -> None:
    async with client(world(a=Script(TEXT)), strict=False) as sdk:
        stream = await sdk.completions.create(model="a/m", prompt=["one", "two"], stream=True)
        texts: dict[int, str] = {}
        async for chunk in stream:
            choice = chunk.choices[0]
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    assert texts == {0: "Привет", 1: "Привет"}


# ── /embeddings ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("form", [None, "float", "base64"])
@pytest.mark.parametrize("one_input", [(), ("a",)])
async def test_embeddings(base: str, form: Any, one_input: tuple[str, ...]) -> None:
    place = world(a=Maker(), serves=EVERYTHING, one_input=one_input)
    more: dict[str, Any] = {} if form is None else {"encoding_format": form}
    async with client(place, base, strict=form == "float") as sdk:
        raw = await sdk.embeddings.with_raw_response.create(
            model="a/m", input=["a", "bb", "ccc"], dimensions=2, user="u", **more
        )
    found = raw.parse()
    assert [one.index for one in found.data] == [0, 1, 2]
    packed = ["AACAPwAAgD8=", "AAAAQAAAAEA=", "AABAQAAAQEA="]
    numbers = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    assert [one.embedding for one in found.data] == (packed if form == "base64" else numbers)
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (6, 6)
    assert raw.headers["x-xrouter-attempts"] == ("3" if one_input else "1")
    assert raw.headers["x-xrouter-cost-rub"] == "0.00039"
    assert all(request.dimensions == 2 and set(request.fields) == {"user"} for request in asked(place))


async def test_one_text_is_a_list_of_one() -> None:
    async with client(world(a=Maker(), serves=EVERYTHING), strict=False) as sdk:
        found = await sdk.embeddings.create(model="a/m", input="four")
    assert [one.embedding for one in found.data] == [[4.0]]


# ── /images/generations ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("one_choice", [(), ("a",)])
async def test_pictures(one_choice: tuple[str, ...]) -> None:
    place = world(a=Maker(), serves=EVERYTHING, one_choice=one_choice)
    async with client(place) as sdk:
        found = await sdk.images.generate(
            model="a/m", prompt="a cat", n=2, size="1024x1024", quality="high", response_format="b64_json"
        )
    assert [(one.b64_json, one.revised_prompt) for one in found.data or ()] == [("aGk=", "a cat")] * 2
    assert found.output_format == "png"
    assert all(request.size == "1024x1024" and set(request.fields) == {"quality"} for request in asked(place))
    assert sum(attempt.units for attempt in place.books.ends) == 2


async def test_the_size_that_the_vendor_likes() -> None:
    place = world(a=Maker(), serves=EVERYTHING)
    async with client(place) as sdk:
        await sdk.images.generate(model="a/m", prompt="a cat", size="auto")
    assert asked(place)[0].size is None


# ── /rerank ──────────────────────────────────────────────────────────────────────────────────────────────

RERANK = {"model": "a/m", "query": "x", "documents": ["x", {"text": "xxx"}, "none", "xx"]}


@pytest.mark.parametrize(
    ("base", "more", "documents"),
    [("/v1", {}, False), ("/v1", {"return_documents": True}, True), ("/api/v1", {}, True)],
)
async def test_a_ranking(base: str, more: dict[str, Any], documents: bool) -> None:
    async with client(world(a=Maker(), serves=EVERYTHING), base) as sdk:
        found: Any = await sdk.post("/rerank", body=RERANK | {"top_n": 2} | more, cast_to=object)
    assert found["id"].startswith("rerank-")
    assert [(one["index"], one["relevance_score"]) for one in found["results"]] == [(1, 3.5), (3, 2.5)]
    assert ["document" in one for one in found["results"]] == [documents] * 2
    if documents:
        assert [one["document"]["text"] for one in found["results"]] == ["xxx", "xx"]
    assert found["usage"]["total_tokens"] == 9


# ── strictness ───────────────────────────────────────────────────────────────────────────────────────────

HI: Any = [{"role": "user", "content": "hi"}]
STRICT: list[dict[str, Any]] = [
    {"extra_headers": {"x-xrouter-strict-params": "true"}},
    {"extra_body": {"provider": {"require_parameters": True}}},
]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("how", STRICT)
async def test_a_strict_request_is_refused_or_served_by_who_knows_the_parameter(base: str, how: dict[str, Any]) -> None:
    place = world(a=Strict([answer("a")]), b=Script([answer("b")]))
    async with client(place, base) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="a/m", messages=HI, seed=1, **how)
        assert caught.value.param == "seed"
        assert "unsupported_parameter" in caught.value.response.text
        found = await sdk.chat.completions.create(model="any", messages=HI, seed=1, **how)
        assert found.choices[0].message.content == "b"
        assert (await sdk.chat.completions.create(model="a/m", messages=HI, **how)).choices[0].message.content == "a"


@pytest.mark.parametrize("how", [{}, {"extra_headers": {"x-xrouter-strict-params": "False"}}])
async def test_who_is_not_strict_is_told_what_was_dropped(how: dict[str, Any]) -> None:
    async with client(world(a=Strict([answer("a")]))) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(model="a/m", messages=HI, seed=1, **how)
    assert raw.headers["x-xrouter-dropped-params"] == "seed"


async def test_a_strictness_that_is_neither_is_refused() -> None:
    async with client(world(a=Script([answer("a")]))) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="a/m", messages=HI, extra_headers={"x-xrouter-strict-params": "1"})
    assert caught.value.param == "x-xrouter-strict-params"


async def test_other_preferences_stay_and_are_reported_by_whoever_cannot_follow_them() -> None:
    place = world(a=Script([answer("a")]))
    async with client(place) as sdk:
        wanted = {"provider": {"require_parameters": False, "only": ["A"], "quantizations": ["fp8"]}}
        await sdk.chat.completions.create(model="a/m", messages=HI, extra_body=wanted)
    assert asked(place)[0].field("provider") == {"quantizations": ["fp8"]}


# ── what OpenRouter adds ─────────────────────────────────────────────────────────────────────────────────


async def test_several_choices_of_a_vendor_that_gives_one() -> None:
    async with client(world(a=Script(TEXT), one_choice=("a",)), "/api/v1") as sdk:
        stream = await sdk.chat.completions.create(
            model="a/m", messages=HI, n=3, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in stream]
    texts: dict[int, str] = {}
    for chunk in chunks:
        choice = chunk.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert texts == dict.fromkeys(range(3), "Привет")
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (21, 6)
    assert {chunk.provider for chunk in chunks} == {"a"}  # type: ignore[attr-defined]


THOUGHT = Answer(
    (Choice(0, AnswerMessage("4", reasoning="2+2"), "stop", native_finish_reason="eos"),), usage=Usage(3, 4)
)
THINKING: list[Event] = [Reasoning("2+"), Reasoning("2"), Delta("4"), Finish("stop", native="eos"), Usage(3, 4)]


@pytest.mark.parametrize(
    ("more", "shown"),
    [({}, True), ({"include_reasoning": False}, False), ({"reasoning": {"exclude": True, "effort": "low"}}, False)],
)
async def test_reasoning_has_both_names_or_is_hidden(more: dict[str, Any], shown: bool) -> None:
    async with client(world(a=Script([THOUGHT])), "/api/v1") as sdk:
        whole: Any = await sdk.chat.completions.create(model="a/m", messages=HI, extra_body=more)
    said = whole.choices[0].message.model_dump()
    assert [said.get(name) for name in ("reasoning", "reasoning_content")] == (["2+2"] * 2 if shown else [None] * 2)
    assert (whole.provider, whole.choices[0].native_finish_reason) == ("a", "eos")
    async with client(world(a=Script(THINKING)), "/api/v1") as sdk:
        stream: Any = await sdk.chat.completions.create(model="a/m", messages=HI, stream=True, extra_body=more)
        chunks = [chunk.choices[0] async for chunk in stream if chunk.choices]
    for name in ("reasoning", "reasoning_content"):
        pieces = [one.delta.model_dump().get(name) for one in chunks]
        assert "".join(piece or "" for piece in pieces) == ("2+2" if shown else "")
    assert chunks[0].delta.role == "assistant"
    assert chunks[-1].native_finish_reason == "eos"


@pytest.mark.parametrize(
    ("more", "effort"),
    [
        ({"reasoning": {"effort": "xhigh"}}, "xhigh"),
        ({"reasoning": {"max_tokens": 0}}, "none"),
        ({"reasoning": {"max_tokens": 1024}}, "low"),
        ({"reasoning": {"max_tokens": 4096}}, "medium"),
        ({"reasoning": {"max_tokens": 9000}}, "high"),
        ({"reasoning": {"enabled": True}}, "medium"),
        ({"reasoning": {"enabled": False, "effort": "high"}}, "none"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "high"),
        ({"reasoning": {}}, None),
    ],
)
async def test_reasoning_is_asked_for_in_one_word(more: dict[str, Any], effort: str | None) -> None:
    place = world(a=Script([answer("x")]))
    async with client(place, "/api/v1") as sdk:
        await sdk.chat.completions.create(model="a/m", messages=HI, extra_body=more)
    (request,) = asked(place)
    assert request.field("reasoning_effort") == effort
    assert "reasoning" not in request.fields


async def test_what_is_about_the_gateway_goes_no_further() -> None:
    place = world(a=Script(TEXT))
    more = {"session_id": "s", "trace": {"trace_id": "t"}, "usage": {"include": True}, "models": ["a/m"]}
    async with door(place) as url, aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http:
        body = {"messages": HI, "stream": True, **more}
        async with http.post(f"{url}/api/v1/chat/completions", json=body) as reply:
            assert reply.status == 200
            assert b'"cost"' in await reply.read()
    (request,) = asked(place)
    assert set(request.fields) == {"messages", "prompt_cache_key"}
    assert request.field("prompt_cache_key") == "s"


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_stream_that_fails_under_openrouters_form_keeps_the_envelope(path: str) -> None:
    body = {"model": "a/m", "stream": True, "messages": HI, "prompt": "x"}
    body.pop("prompt" if path == "chat/completions" else "messages")
    async with door(world(a=Script(BROKEN))) as url:
        text = await post(f"{url}/api/v1/{path}", body)
    *_, last, done = [line.removeprefix("data: ") for line in text.strip().split("\n\n")]
    assert done == "[DONE]"
    chunk = msgspec.json.decode(last)
    assert chunk["choices"][0]["finish_reason"] == "error"
    assert {"id", "object", "created", "model", "provider"} <= chunk.keys()
    assert (chunk["error"]["code"], chunk["error"]["message"]) == (502, "a broke")
    assert chunk["error"]["metadata"]["code"] == "provider_unavailable"
    assert chunk["error"]["metadata"]["error_type"] == "provider_unavailable"


async def test_a_completion_that_fails_ends_without_done() -> None:
    async with door(world(a=Script(BROKEN))) as url:
        text = await post(f"{url}/v1/completions", {"model": "a/m", "stream": True, "prompt": "x"})
    assert "[DONE]" not in text
    assert msgspec.json.decode(text.strip().split("\n\n")[-1][6:])["error"]["code"] == "provider_unavailable"


@pytest.mark.parametrize(("base", "code"), [("/v1", "model_not_supported"), ("/api/v1", 400)])
async def test_a_model_for_something_else_is_refused_with_a_hint(base: str, code: Any) -> None:
    async with client(world(a=Script([answer("x")])), base) as sdk:
        with pytest.raises(openai.BadRequestError, match="does chat, not embeddings") as caught:
            await sdk.embeddings.create(model="a/m", input="x")
    told: Any = caught.value.body
    assert (told["code"], told["param"]) == (code, "model")


async def test_errors_under_openrouters_form_have_numbers() -> None:
    async with client(world(a=Script([answer("x")])), "/api/v1") as sdk:
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.chat.completions.create(model="a/n", messages=HI)
        with pytest.raises(openai.AuthenticationError) as stranger:
            await sdk.with_options(api_key="sk-wrong").chat.completions.create(model="a/m", messages=HI)
    told: Any = unknown.value.body
    assert (told["code"], told["param"], told["metadata"]["code"]) == (404, "model", "model_not_found")
    told = stranger.value.body
    assert (told["code"], told["metadata"]["error_type"]) == (401, "authentication")


async def test_a_vendors_failure_says_the_reason_itself() -> None:
    down = ProviderUnavailable("a said: out of memory", provider="a", upstream_status=500)
    async with client(world(a=Script([down])), "/api/v1") as sdk:
        with pytest.raises(openai.InternalServerError, match="out of memory") as caught:
            await sdk.chat.completions.create(model="a/m", messages=HI)
    told: Any = caught.value.body
    assert (told["code"], told["metadata"]["provider_name"], told["metadata"]["raw"]) == (502, "a", told["message"])


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_models_in_openrouters_form() -> None:
    place = world(a=Script([]), b=Maker(), serves=EVERYTHING)
    async with door(place) as url:
        first = msgspec.json.decode(await get(f"{url}/api/v1/models?limit=2"))
        second = msgspec.json.decode(await get(url + first["links"]["next"]))
        one = msgspec.json.decode(await get(f"{url}/api/v1/models/b/m"))
        same = msgspec.json.decode(await get(f"{url}/api/v1/model/b%2Fm"))
    assert [model["id"] for model in first["data"] + second["data"]] == ["a/m", "b/m", "any"]
    assert (first["total_count"], second["links"]) == (3, {"next": None})
    assert one == same == {"data": first["data"][1]}
    assert one["data"]["pricing"] == {"prompt": "0.000065", "completion": "0.000065", "currency": "RUB"}
    assert one["data"]["architecture"]["output_modalities"] == ["text", "embeddings", "image", "rerank"]


@pytest.mark.parametrize("query", ["offset=-1", "limit=0", "limit=x", "offset=1e3", f"limit={'9' * 40}"])
async def test_a_wrong_page_is_refused(query: str) -> None:
    async with door(world(a=Script([]))) as url:
        told = msgspec.json.decode(await get(f"{url}/api/v1/models?{query}", 400))
    assert told["error"]["param"] == query.split("=")[0]


async def test_the_sdk_lists_the_models_of_either_form() -> None:
    for base in BASES:
        async with client(world(a=Script([])), base, strict=base == "/v1") as sdk:  # OpenRouter's have no `object`
            assert [model.id async for model in sdk.models.list()] == ["a/m", "any"]


async def get(url: str, status: int = 200) -> bytes:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http, http.get(url) as reply:
        assert reply.status == status
        return await reply.read()


async def post(url: str, body: Any) -> str:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http,
        http.post(url, json=body) as reply,
    ):
        return await reply.text()
