"""The official gigachat SDK against the GigaChat form."""

import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gigachat
import gigachat.context
import pytest
from gigachat.exceptions import (
    AuthenticationError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    RequestEntityTooLargeError,
    ResponseError,
    ServerError,
    UnprocessableEntityError,
)

MODEL = "GigaChat-2-Max"
B2B = "GIGACHAT_API_B2B"
WEATHER = {
    "name": "get_weather",
    "description": "Погода",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
        "required": ["city", "unit"],
    },
}


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def connect(vendors: Any, credentials: Callable[..., str]) -> Callable[..., Any]:
    @asynccontextmanager
    async def connected(client: str = "demo", scope: str = B2B, **more: Any) -> AsyncIterator[gigachat.GigaChat]:
        more.setdefault("credentials", credentials(client))
        async with gigachat.GigaChat(
            base_url=f"{vendors.url}/gigachat/v1",
            auth_url=f"{vendors.url}/gigachat/api/v2/oauth",
            scope=scope,
            **more,
        ) as chat:
            yield chat

    return connected


@pytest.fixture
async def chat(connect: Callable[..., Any]) -> AsyncIterator[gigachat.GigaChat]:
    async with connect() as client:
        yield client


async def test_chat(chat: gigachat.GigaChat) -> None:
    answer = await chat.achat(ask("echo: Привет, мир"))
    assert answer.choices[0].message.content == "Привет, мир"
    assert answer.choices[0].finish_reason == "stop"
    assert re.fullmatch(MODEL + r":[\d.]+", answer.model)
    assert answer.object_ == "chat.completion"
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3


async def test_stream(chat: gigachat.GigaChat) -> None:
    question = ask("Расскажи о погоде. Скажи 60 слов")
    whole = await chat.achat(question)
    chunks = [chunk async for chunk in chat.astream(question)]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert len(text.split()) == 60
    assert 5 < len(chunks) < 40
    assert [chunk.choices[0].delta.role is not None for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage == whole.usage


async def test_stream_bytes(vendors: Any) -> None:
    token = await vendors.token()
    status, raw = await vendors.post(
        "/gigachat/v1/chat/completions", ask("echo: да", stream=True), Authorization=f"Bearer {token}"
    )
    assert status == 200
    first, last, done, rest = raw.decode().split("\n\n")
    assert first.startswith('data: {"choices":[{"delta":{"content":"да","role":"assistant"},"index":0}],"created":')
    assert first.endswith(f'"model":"{MODEL}:2.0.28.2","object":"chat.completion"}}')
    assert '"id"' not in raw.decode()
    assert '{"delta":{"content":""},"index":0,"finish_reason":"stop"}' in last
    assert (done, rest) == ("data: [DONE]", "")


@pytest.mark.parametrize(
    "system",
    ["Ответь одним объектом JSON: без пояснений.", "You are kind. Reply with a JSON object.", "Верни JSON-объект"],
)
async def test_a_json_object_asked_for_in_words(chat: gigachat.GigaChat, system: str) -> None:
    async def said(words: str, text: str) -> str:
        messages = [{"role": "system", "content": words}, {"role": "user", "content": text}]
        return str((await chat.achat({"model": MODEL, "messages": messages})).choices[0].message.content)

    assert isinstance(json.loads(await said(system, "Кто ты?")), dict)
    assert await said(system, "echo: [1]") == "[1]"
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(await said("Расскажи о JSON", "Кто ты?"))


async def test_update_interval_makes_bigger_pieces(chat: gigachat.GigaChat) -> None:
    plain = [chunk async for chunk in chat.astream(ask("say 90 words"))]
    merged = [chunk async for chunk in chat.astream(ask("say 90 words", update_interval=1))]
    assert len(merged) == 2
    assert len(plain) > 10


async def test_functions(chat: gigachat.GigaChat) -> None:
    question = ask("Какая погода?", functions=[WEATHER], function_call="auto")
    answer = await chat.achat(question)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "function_call"
    assert message.function_call.name == "get_weather"
    assert message.function_call.arguments["unit"] in ("c", "f")
    assert uuid.UUID(message.functions_state_id)
    streamed = [chunk.choices[0] async for chunk in chat.astream(question)]
    calls = [choice.delta.function_call for choice in streamed if choice.delta.function_call]
    assert calls == [message.function_call]
    assert streamed[-1].finish_reason == "function_call"

    history = [
        *question["messages"],
        message.model_dump(exclude_none=True),
        {"role": "function", "name": "get_weather", "content": '{"t": 27}'},
    ]
    last = await chat.achat({**question, "messages": history})
    assert '{"t": 27}' in last.choices[0].message.content
    assert last.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("model", "call", "called"),
    [
        (MODEL, None, False),
        (MODEL, "none", False),
        (MODEL, "auto", True),
        ("GigaChat-3-Ultra", None, True),
        (MODEL, {"name": "get_weather", "partial_arguments": {"city": "Томск"}}, True),
    ],
)
async def test_when_functions_are_called(chat: gigachat.GigaChat, model: str, call: Any, called: bool) -> None:
    more = {} if call is None else {"function_call": call}
    answer = await chat.achat({**ask("Погода?", functions=[WEATHER], **more), "model": model})
    made = answer.choices[0].message.function_call
    assert (made is not None) is called
    if isinstance(call, dict):
        assert made.arguments["city"] == "Томск"


async def test_json_schema(chat: gigachat.GigaChat) -> None:
    schema = {
        "type": "object",
        "properties": {
            "ok": {"const": True},
            "items": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 2},
        },
        "required": ["ok", "items"],
        "$defs": {"n": {"type": "integer", "minimum": 3, "maximum": 4}},
    }
    answer = await chat.achat(ask("дай", response_format={"type": "json_schema", "schema": schema, "strict": True}))
    value = json.loads(answer.choices[0].message.content)
    assert value["ok"] is True
    assert set(value["items"]) <= {3, 4}


async def test_other_endings(chat: gigachat.GigaChat) -> None:
    short = await chat.achat(ask("say 90 words", max_tokens=5))
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 5)
    banned = await chat.achat(ask("Поговорим про запретную тему"))
    assert banned.choices[0].finish_reason == "blacklist"
    broken = await chat.achat(ask("broken arguments", functions=[WEATHER], function_call="auto"))
    assert broken.choices[0].finish_reason == "error"
    thoughtful = await chat.achat(ask("echo: ok", reasoning_effort="low"))
    assert thoughtful.choices[0].message.reasoning_content
    assert thoughtful.choices[0].message.content == "ok"


async def test_models(chat: gigachat.GigaChat) -> None:
    models = await chat.aget_models()
    assert {MODEL, "Embeddings"} <= {model.id_ for model in models.data}
    assert (await chat.aget_model(MODEL)).owned_by == "salutedevices"
    with pytest.raises(NotFoundError) as caught:
        await chat.aget_model("no-such")
    assert json.loads(caught.value.content) == {"status": 404, "message": "No such model"}


async def test_embeddings_and_tokens(chat: gigachat.GigaChat) -> None:
    vectors = await chat.aembeddings(["а", "Привет, мир"])
    assert [len(row.embedding) for row in vectors.data] == [1024, 1024]
    assert [row.usage.prompt_tokens for row in vectors.data] == [1, 3]
    counts = await chat.atokens_count(["а", "Привет, мир"], model=MODEL)
    assert [(count.tokens, count.characters) for count in counts] == [(1, 1), (3, 11)]


async def test_balance(connect: Callable[..., Any]) -> None:
    async with connect() as packages:
        assert (await packages.aget_balance()).balance[0].value == 50_000
    async with connect(scope="GIGACHAT_API_CORP") as later, connect(scope="GIGACHAT_API_CORP") as again:
        with pytest.raises(ForbiddenError) as caught:
            await later.aget_balance()
        assert json.loads(caught.value.content) == {"status": 403, "message": "Permission denied"}
        assert await again.achat(ask("hi"))


async def test_files(chat: gigachat.GigaChat) -> None:
    stored = await chat.aupload_file(("a.txt", b"abc", "text/plain"))
    assert (stored.bytes_, stored.filename) == (3, "a.txt")
    assert [file.id_ for file in (await chat.aget_files()).data] == [stored.id_]
    assert (await chat.aget_file(stored.id_)).purpose == "general"
    assert (await chat.aget_image(stored.id_)).content == "YWJj"
    assert (await chat.adelete_file(stored.id_)).deleted
    with pytest.raises(NotFoundError):
        await chat.aget_file(stored.id_)


async def test_session_header_is_echoed_and_caches_the_prompt(chat: gigachat.GigaChat, vendors: Any) -> None:
    first = ask("a long question about the weather in Moscow")
    token = gigachat.context.session_id_cvar.set("session-1")
    try:
        cold = await chat.achat(first)
        more = [*first["messages"], {"role": "assistant", "content": "x"}, {"role": "user", "content": "and now?"}]
        warm = await chat.achat({**first, "messages": more})
    finally:
        gigachat.context.session_id_cvar.reset(token)
    assert cold.usage.precached_prompt_tokens == 0
    assert warm.usage.precached_prompt_tokens == cold.usage.prompt_tokens
    assert cold.x_headers["x-session-id"] == "session-1"
    assert uuid.UUID(cold.x_headers["x-request-id"])


async def test_expired_token_is_renewed_once(chat: gigachat.GigaChat, vendors: Any) -> None:
    await chat.achat(ask("hi"))
    assert (await vendors.post("/control/expire-tokens", {}))[1] == {"expired": 1}
    assert await chat.achat(ask("hi"))
    state = await vendors.state()
    assert state["totals"]["logins"] == 2
    assert state["totals"]["by_status"] == {"200": 4, "401": 1}


async def test_a_stillborn_token_that_claims_to_live(connect: Callable[..., Any], vendors: Any) -> None:
    await vendors.settings(token_ttl_s=-1, token_claim_s=1800)
    async with connect() as chat:
        with pytest.raises(AuthenticationError) as caught:
            await chat.achat(ask("hi"))
    assert json.loads(caught.value.content) == {"status": 401, "message": "Token has expired"}


async def test_a_token_that_is_short_of_life_is_fetched_each_time(connect: Callable[..., Any], vendors: Any) -> None:
    await vendors.settings(token_ttl_s=30)
    async with connect() as chat:
        await chat.achat(ask("hi"))
        await chat.achat(ask("hi"))
    assert (await vendors.state())["totals"]["logins"] == 2


async def test_token_form(vendors: Any) -> None:
    status, answer = await vendors.login()
    assert status == 200
    assert answer["access_token"].count(".") == 4
    assert 900 < len(answer["access_token"]) < 1400
    assert answer["expires_at"] > 10**12


@pytest.mark.parametrize(
    ("headers", "scope", "client", "status", "code"),
    [
        ({"Authorization": "Bearer x"}, B2B, "demo", 401, 4),
        ({"Authorization": "Basic %%%"}, B2B, "demo", 401, 4),
        ({"Authorization": "Basic ZGVtbzp3cm9uZw=="}, B2B, "demo", 401, 6),
        ({"RqUID": "1"}, B2B, "demo", 400, 3),
        ({"RqUID": str(uuid.uuid1())}, B2B, "demo", 400, 3),
        ({}, "", "demo", 400, 5),
        ({}, "GIGACHAT", "demo", 400, 1),
        ({}, B2B, "pers-demo", 400, 7),
    ],
)
async def test_login_refusals(
    vendors: Any, headers: dict[str, str], scope: str, client: str, status: int, code: int
) -> None:
    given, answer = await vendors.login(client, scope, **headers)
    assert (given, answer["code"]) == (status, code)
    assert set(answer) == {"code", "message"}


async def test_logins_are_limited_per_second(vendors: Any) -> None:
    await vendors.settings(logins_per_s=2)
    answers = [(await vendors.login())[0] for _ in range(12)]
    # Twelve logins may straddle a few seconds, but not six.
    assert 429 in answers
    assert answers[:2] == [200, 200]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, ResponseError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (413, RequestEntityTooLargeError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
    ],
)
async def test_error_classes(chat: gigachat.GigaChat, status: int, error: type[ResponseError]) -> None:
    with pytest.raises(error) as caught:
        await chat.achat({**ask("hi"), "model": f"{MODEL}+status-{status}"})
    assert caught.value.status_code == status
    assert json.loads(caught.value.content)["status"] == status


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "no-such"}, 404, "No such model"),
        ({"model": "Embeddings"}, 404, "No such model"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, 422, "must be a string"),
        ({"messages": [{"role": "tool", "content": "a"}]}, 422, "role"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
            422,
            "system message must be the first message",
        ),
        (
            {"messages": [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}]},
            422,
            "system message must be the first message",
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "27"}]}, 422, "valid JSON object"),
        ({"messages": [{"role": "function", "content": "{}"}]}, 422, "name is required"),
        ({"temperature": 0}, 422, "temperature"),
        ({"top_p": 1.5}, 422, "top_p"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"repetition_penalty": 0}, 422, "repetition_penalty must be in range (0, +inf)"),
        ({"response_format": {"type": "json_object"}}, 422, "response_format"),
        ({"function_call": {"name": "other"}, "functions": [WEATHER]}, 422, "not in functions"),
        ({"functions": [{"name": "f", "parameters": {"type": "object"}}]}, 422, "needs properties"),
        (
            {"functions": [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"anyOf": []}}}}]},
            422,
            "anyOf",
        ),
        ({"messages": [{"role": "user", "content": "x" * 600_000}]}, 413, "Payload too large"),
    ],
)
async def test_refusals(vendors: Any, change: dict[str, Any], status: int, words: str) -> None:
    token = await vendors.token()
    given, answer = await vendors.post(
        "/gigachat/v1/chat/completions", {**ask("hi"), **change}, Authorization=f"Bearer {token}"
    )
    assert (given, answer["status"]) == (status, status)
    assert words in answer["message"]


async def test_bad_json_and_no_token(vendors: Any) -> None:
    token = await vendors.token()
    url = f"{vendors.url}/gigachat/v1/chat/completions"
    async with vendors.session.post(url, data=b'{"a":', headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 400
    status, answer = await vendors.post("/gigachat/v1/chat/completions", ask("hi"), Authorization="Bearer nonsense")
    assert (status, answer) == (401, {"status": 401, "message": "Unauthorized"})


@pytest.mark.parametrize(("scope", "limit"), [("GIGACHAT_API_PERS", 1), ("GIGACHAT_API_CORP", 10)])
async def test_an_account_has_so_many_places(vendors: Any, eventually: Any, scope: str, limit: int) -> None:
    tokens = [await vendors.token("same", scope) for _ in range(2)]
    url = f"{vendors.url}/gigachat/v1/chat/completions"
    held = []
    for number in range(limit):
        headers = {"Authorization": f"Bearer {tokens[number % 2]}"}
        body = {**ask("hi", stream=True), "model": f"{MODEL}+stall-1"}
        held.append(await vendors.session.post(url, json=body, headers=headers))
    assert {response.status for response in held} == {200}
    refused = await vendors.post("/gigachat/v1/chat/completions", ask("hi"), Authorization=f"Bearer {tokens[0]}")
    assert refused == (429, {"status": 429, "message": "Too Many Requests"})
    other = await vendors.token("other", scope)
    assert (await vendors.post("/gigachat/v1/chat/completions", ask("hi"), Authorization=f"Bearer {other}"))[0] == 200
    for response in held:
        response.close()

    async def free() -> bool:
        return (await vendors.state())["credentials"]["same"]["now"] == 0

    await eventually(free)
    assert (await vendors.state())["credentials"]["same"] == {"now": 0, "most": limit}
    again = await vendors.post("/gigachat/v1/chat/completions", ask("hi"), Authorization=f"Bearer {tokens[0]}")
    assert again[0] == 200
