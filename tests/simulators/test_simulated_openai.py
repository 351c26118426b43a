"""The official openai SDK against the vLLM form, with its strict validation of every answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

MODEL = "t-lite-it-2.1"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def say(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
async def client(vendors: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{vendors.url}/openai/v1", api_key="any", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def collect(stream: Any) -> tuple[list[Any], str]:
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return chunks, text


async def test_echo_is_exact(client: openai.AsyncOpenAI) -> None:
    text = "  Привет,\n\tмир  "
    answer = await client.chat.completions.create(model=MODEL, messages=say(f"echo: {text}"))
    assert answer.choices[0].message.content == text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL


async def test_stream_says_the_same_as_one_body(client: openai.AsyncOpenAI) -> None:
    question = say("Расскажи о погоде")
    whole = await client.chat.completions.create(model=MODEL, messages=question)
    stream = await client.chat.completions.create(
        model=MODEL, messages=question, stream=True, stream_options={"include_usage": True}
    )
    chunks, text = await collect(stream)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.model_dump() == whole.usage.model_dump()
    assert whole.usage.completion_tokens == (len(text) + 3) // 4
    assert len({chunk.id for chunk in chunks}) == 1


async def test_tokens_of_calls_are_those_of_their_pieces(client: openai.AsyncOpenAI, vendors: Any) -> None:
    question = say("call get_weather and get time please")
    whole = await client.chat.completions.create(model=MODEL, messages=question, tools=[WEATHER, CLOCK], n=2)
    stream = await client.chat.completions.create(
        model=MODEL, messages=question, tools=[WEATHER, CLOCK], n=2, stream=True
    )
    chunks, _ = await collect(stream)
    first, second = await vendors.rows()
    assert first["completion_tokens"] == second["completion_tokens"] == whole.usage.completion_tokens
    assert second["chunks"] == sum(bool(chunk.choices[0].delta.tool_calls) for chunk in chunks)


async def test_usage_comes_in_streams_only_when_asked_for(client: openai.AsyncOpenAI) -> None:
    chunks, _ = await collect(await client.chat.completions.create(model=MODEL, messages=say("hi"), stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


async def test_length_in_words_and_in_tokens(client: openai.AsyncOpenAI) -> None:
    counted = await client.chat.completions.create(model=MODEL, messages=say("say 137 words"))
    assert len(counted.choices[0].message.content.split()) == 137
    russian = await client.chat.completions.create(model=MODEL, messages=say("Скажи 21 слово"))
    assert len(russian.choices[0].message.content.split()) == 21
    cut = await client.chat.completions.create(model=MODEL, messages=say("say 137 words"), max_tokens=9)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 9
    assert counted.choices[0].message.content.startswith(cut.choices[0].message.content)


async def test_stop_words(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=say("echo: one STOP two"), stop=["two", "STOP"])
    assert answer.choices[0].message.content == "one "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == "STOP"


async def test_several_choices(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model=MODEL, messages=say("hello"), n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    stream = await client.chat.completions.create(model=MODEL, messages=say("hello"), n=3, stream=True)
    texts = ["", "", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert len(set(texts)) > 1


async def test_tools_are_called_then_quoted(client: openai.AsyncOpenAI) -> None:
    messages = say("What is the weather?")
    answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert call.id.startswith("chatcmpl-tool-")
    arguments = json.loads(call.function.arguments)
    assert isinstance(arguments["city"], str)
    assert arguments["days"] in range(1, 6)

    result = {"role": "tool", "tool_call_id": call.id, "content": '{"t": 27}'}
    history = [*messages, choice.message.model_dump(exclude_none=True), result]
    last = await client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER])
    assert last.choices[0].finish_reason == "stop"
    assert "get_weather" in last.choices[0].message.content
    assert '{"t": 27}' in last.choices[0].message.content


async def test_two_tools_mentioned_are_called_in_parallel_and_streamed_in_pieces(client: openai.AsyncOpenAI) -> None:
    question = say("call get_weather and get time please")
    stream = await client.chat.completions.create(model=MODEL, messages=question, tools=[WEATHER, CLOCK], stream=True)
    calls: dict[int, list[Any]] = {}
    async for chunk in stream:
        for part in chunk.choices[0].delta.tool_calls or ():
            calls.setdefault(part.index, []).append(part)
        finish = chunk.choices[0].finish_reason
    assert finish == "tool_calls"
    assert [calls[index][0].function.name for index in (0, 1)] == ["get_weather", "get_time"]
    assert len(calls[0]) > 2
    assert calls[0][0].id != calls[1][0].id
    pieces = "".join(part.function.arguments or "" for part in calls[0])
    whole = await client.chat.completions.create(model=MODEL, messages=question, tools=[WEATHER, CLOCK])
    assert pieces == whole.choices[0].message.tool_calls[0].function.arguments
    alone = await client.chat.completions.create(
        model=MODEL, messages=question, tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )
    assert len(alone.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        ("auto", []),
        ("required", ["get_weather"]),
        ({"type": "function", "function": {"name": "get_time"}}, ["get_time"]),
    ],
)
async def test_tool_choice(client: openai.AsyncOpenAI, choice: Any, called: list[str]) -> None:
    answer = await client.chat.completions.create(
        model=MODEL, messages=say("echo: ok"), tools=[WEATHER, CLOCK], tool_choice=choice
    )
    assert [call.function.name for call in answer.choices[0].message.tool_calls or []] == called


async def test_json_formats(client: openai.AsyncOpenAI) -> None:
    free = await client.chat.completions.create(
        model=MODEL, messages=say("hi"), response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(free.choices[0].message.content), dict)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 40, "maximum": 40}},
        "required": ["n"],
    }
    strict = await client.chat.completions.create(
        model=MODEL,
        messages=say("hi"),
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
    )
    assert json.loads(strict.choices[0].message.content) == {"n": 40}


async def test_logprobs_cover_the_text(client: openai.AsyncOpenAI) -> None:
    ask = {"model": MODEL, "messages": say("echo: ten tokens or so, maybe"), "logprobs": True, "top_logprobs": 2}
    whole = await client.chat.completions.create(**ask)
    tokens = whole.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == whole.choices[0].message.content
    assert all(len(token.top_logprobs) == 2 for token in tokens)
    streamed = [
        token
        async for chunk in await client.chat.completions.create(**ask, stream=True)
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]
    assert [token.token for token in streamed] == [token.token for token in tokens]


@pytest.mark.parametrize(
    ("model", "field"), [("t-pro-it-2.1", "reasoning"), ("t-tech/T-pro-it-2.0", "reasoning_content")]
)
async def test_reasoning_in_a_field(client: openai.AsyncOpenAI, model: str, field: str) -> None:
    on = {"chat_template_kwargs": {"enable_thinking": True}}
    whole = await client.chat.completions.create(model=model, messages=say("echo: ok"), extra_body=on)
    assert whole.choices[0].message.content == "ok"
    assert getattr(whole.choices[0].message, field)
    stream = await client.chat.completions.create(model=model, messages=say("echo: ok"), extra_body=on, stream=True)
    chunks, text = await collect(stream)
    assert text == "ok"
    reasoning = "".join(getattr(chunk.choices[0].delta, field, None) or "" for chunk in chunks)
    assert reasoning == getattr(whole.choices[0].message, field)
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    quiet = await client.chat.completions.create(model=model, messages=say("echo: ok"), extra_body=off)
    assert getattr(quiet.choices[0].message, field) is None


async def test_reasoning_and_calls_as_text(client: openai.AsyncOpenAI) -> None:
    inline = await client.chat.completions.create(model="t-pro-it-2.0-inline", messages=say("echo: ok"))
    content = inline.choices[0].message.content
    assert content.startswith("<think>\n")
    assert content.endswith("</think>\n\nok")
    soft = await client.chat.completions.create(model="t-pro-it-2.0-inline", messages=say("echo: ok /no_think"))
    assert soft.choices[0].message.content == "ok"
    hermes = await client.chat.completions.create(
        model="t-lite-it-2.1-hermes", messages=say("weather"), tools=[WEATHER]
    )
    text = hermes.choices[0].message.content
    assert hermes.choices[0].finish_reason == "stop"
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert call["name"] == "get_weather"


async def test_the_reasoning_dialect_is_a_switch(client: openai.AsyncOpenAI, vendors: Any) -> None:
    await vendors.settings(reasoning="inline", models=["house-model"])
    answer = await client.chat.completions.create(model="house-model", messages=say("echo: ok"))
    assert answer.choices[0].message.content.startswith("<think>")


async def test_models_health_and_tokens(client: openai.AsyncOpenAI, vendors: Any) -> None:
    models = [model async for model in client.models.list()]
    assert {model.id: model.max_model_len for model in models}[MODEL] == 32_768
    assert (await client.models.retrieve(MODEL)).id == MODEL
    assert (await vendors.session.get(f"{vendors.url}/openai/health")).status == 200
    status, counted = await vendors.post("/openai/tokenize", {"model": MODEL, "prompt": "twelve chars"})
    assert (status, counted["count"], counted["max_model_len"]) == (200, 3, 32_768)


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    # The SDK asks for base64 by itself, and only then its strict validation refuses what it asked for.
    async with openai.AsyncOpenAI(base_url=client.base_url, api_key="any") as lenient:
        packed = await lenient.embeddings.create(model="text-embedder", input=["a", "b"])
    plain = await client.embeddings.create(model="text-embedder", input=["a", "b"], encoding_format="float")
    assert [row.embedding for row in packed.data] == [row.embedding for row in plain.data]
    assert len(packed.data[0].embedding) == 1024
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.total_tokens == 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "no-such"}, openai.NotFoundError, "The model `no-such` does not exist."),
        ({"model": "text-embedder"}, openai.BadRequestError, "does not support Chat Completions API"),
        ({"messages": []}, openai.BadRequestError, "Field required"),
        (
            {"messages": [*say("a"), {"role": "system", "content": "b"}]},
            openai.BadRequestError,
            "System message must be at the beginning.",
        ),
        ({"messages": [{"role": "developer", "content": "b"}]}, openai.BadRequestError, "Unexpected message role."),
        ({"temperature": -1}, openai.BadRequestError, "temperature must be non-negative"),
        ({"top_p": 0}, openai.BadRequestError, "top_p must be in"),
        ({"n": 0}, openai.BadRequestError, "n must be at least 1"),
        ({"top_logprobs": 2}, openai.BadRequestError, "`logprobs` must be set to true"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "stream=True"),
        ({"max_tokens": 40_000}, openai.BadRequestError, "maximum context length is 32768 tokens"),
        ({"messages": say("x" * 200_000)}, openai.BadRequestError, "maximum context length is 32768 tokens"),
        ({"tool_choice": "required"}, openai.BadRequestError, "`tools` must be set"),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            openai.BadRequestError,
            "does not match any of the specified `tools`",
        ),
    ],
)
async def test_refusals(client: openai.AsyncOpenAI, change: dict[str, Any], error: type[Exception], words: str) -> None:
    ask = {"model": MODEL, "messages": say("hi"), **change}
    with pytest.raises(error, match="Error code") as caught:
        await client.chat.completions.create(**ask)
    body = caught.value.body
    assert words in body["message"]
    assert body["code"] == caught.value.status_code
    assert set(body) == {"message", "type", "param", "code"}


async def test_key_and_old_error_form(client: openai.AsyncOpenAI, vendors: Any) -> None:
    await vendors.settings(api_key="secret", flat_errors=True)
    with pytest.raises(openai.AuthenticationError):
        await client.models.list()
    right = client.with_options(api_key="secret")
    assert await right.chat.completions.create(model=MODEL, messages=say("hi"))
    with pytest.raises(openai.NotFoundError) as caught:
        await right.chat.completions.create(model="no-such", messages=say("hi"))
    assert caught.value.body["object"] == "error"
    assert caught.value.body["code"] == 404


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_error_classes(client: openai.AsyncOpenAI, status: int, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        await client.chat.completions.create(model=f"{MODEL}+status-{status}", messages=say("hi"))
    assert caught.value.status_code == status


async def test_an_error_inside_a_stream_is_an_error_of_the_sdk(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model=f"{MODEL}+error-2", messages=say("hi"), stream=True)
    with pytest.raises(openai.APIError, match="The model failed"):
        await collect(stream)
