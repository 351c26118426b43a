"""The official gigachat SDK against contract v2, and against what the vendor offers beside chats."""

import asyncio
import base64
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gigachat
import gigachat.context
import httpx
import pydantic
import pytest
import trustme
from gigachat.exceptions import (
    AuthenticationError,
    ForbiddenError,
    NotFoundError,
    ResponseError,
    UnprocessableEntityError,
)

from xrouter.simulators import server
from xrouter.simulators.gigachat_files import PICTURE

MODEL = "GigaChat-2-Max"
STATUS = {
    "name": "get_order_status",
    "description": "Статус заказа",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
}
TOOLS = [{"functions": {"specifications": [STATUS]}}]


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def said(answer: Any) -> str:
    """The text of what an assistant says in an answer, or in a list of chunks."""
    messages = (
        answer.messages if hasattr(answer, "messages") else [one for chunk in answer for one in chunk.messages or ()]
    )
    parts = [part for message in messages if message.role == "assistant" for part in message.content or ()]
    return "".join(part.text or "" for part in parts)


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def connect(vendors: Any, credentials: Callable[..., str]) -> Callable[..., Any]:
    @asynccontextmanager
    async def connected(client: str = "demo", **more: Any) -> AsyncIterator[gigachat.GigaChat]:
        if not more.keys() & {"user", "access_token"}:
            more.setdefault("credentials", credentials(client))
        async with gigachat.GigaChat(
            base_url=f"{vendors.url}/gigachat/v1",
            auth_url=f"{vendors.url}/gigachat/api/v2/oauth",
            **{"scope": "GIGACHAT_API_CORP", **more},
        ) as chat:
            yield chat

    return connected


@pytest.fixture
async def chat(connect: Callable[..., Any]) -> AsyncIterator[gigachat.GigaChat]:
    async with connect() as client:
        yield client


async def test_an_answer_of_messages(chat: gigachat.GigaChat) -> None:
    answer = await chat.achat.create(ask("echo: Привет, мир"))
    assert said(answer) == "Привет, мир"
    assert answer.finish_reason == "stop"
    assert answer.usage.output_tokens == 3
    assert answer.usage.input_tokens_details.prompt_tokens == answer.usage.input_tokens
    assert answer.model.startswith(f"{MODEL}:")


async def test_a_stream_of_named_events(chat: gigachat.GigaChat) -> None:
    question = ask("Расскажи о погоде. Скажи 60 слов")
    whole = await chat.achat.create(question)
    chunks = [chunk async for chunk in chat.achat.stream(question)]
    assert said(chunks) == said(whole)
    assert [chunk.event for chunk in chunks] == ["response.message.delta"] * (len(chunks) - 1) + [
        "response.message.done"
    ]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


async def test_the_bytes_of_a_stream(vendors: Any) -> None:
    token = await vendors.token()
    status, raw = await vendors.post(
        "/gigachat/v2/chat/completions",
        {"model": MODEL, "messages": [{"role": "user", "content": [{"text": "echo: да"}]}], "stream": True},
        Authorization=f"Bearer {token}",
    )
    assert status == 200
    first, last, rest = raw.decode().split("\n\n")
    assert first.startswith('event: response.message.delta\ndata: {"model":"GigaChat-2-Max:2.0.28.2","created_at":')
    assert first.endswith('"messages":[{"role":"assistant","content":[{"text":"да"}]}]}')
    assert last.startswith("event: response.message.done\ndata: {")
    assert '"finish_reason":"stop","usage":{"input_tokens":' in last
    assert rest == ""


async def test_a_tool_and_its_result_with_the_state_between_them(chat: gigachat.GigaChat) -> None:
    question = ask("Где заказ?", tools=TOOLS)
    answer = await chat.achat.create(question)
    message = answer.messages[-1]
    (part,) = message.content
    assert answer.finish_reason == "function_call"
    assert part.function_call.name == "get_order_status"
    assert uuid.UUID(message.tools_state_id)
    chunks = [chunk async for chunk in chat.achat.stream(question)]
    streamed = [one for chunk in chunks for one in chunk.messages or ()]
    assert streamed[0].content[0].function_call == part.function_call
    assert streamed[0].tools_state_id == message.tools_state_id

    result = {"role": "tool", "content": [{"function_result": {"name": "get_order_status", "result": "в пути"}}]}
    state = {"tools_state_id": message.tools_state_id}
    called = {"role": "assistant", "content": [{"function_call": part.function_call.model_dump()}]}
    history = [*question["messages"], {**called, **state}, {**result, **state}]
    last = await chat.achat.create({**question, "messages": history})
    assert "в пути" in said(last)
    unknown = {"tools_state_id": str(uuid.uuid4())}
    with pytest.raises(UnprocessableEntityError, match="unknown"):
        await chat.achat.create({**question, "messages": [*question["messages"], {**called, **unknown}]})


@pytest.mark.parametrize(
    ("config", "called"),
    [
        (None, True),
        ({"mode": "auto"}, True),
        ({"mode": "none"}, False),
        ({"mode": "forced", "function_name": "get_order_status"}, True),
    ],
)
async def test_tool_config(chat: gigachat.GigaChat, config: Any, called: bool) -> None:
    more = {} if config is None else {"tool_config": config}
    answer = await chat.achat.create(ask("Где заказ?", tools=TOOLS, **more))
    assert (answer.finish_reason == "function_call") is called


async def test_reasoning_has_a_message_of_its_own(chat: gigachat.GigaChat) -> None:
    answer = await chat.achat.create(ask("echo: ok", model_options={"reasoning": {"effort": "high"}}))
    assert [message.role for message in answer.messages] == ["reasoning", "assistant"]
    assert said(answer) == "ok"
    off = await chat.achat.create(ask("echo: ok", model_options={"reasoning": {"effort": "off"}}))
    assert [message.role for message in off.messages] == ["assistant"]


async def test_structured_output_is_parsed(chat: gigachat.GigaChat) -> None:
    _, person = await chat.achat.parse(ask("кто?"), response_format=Person)
    assert isinstance(person, Person)
    _, same = await chat.achat_parse(ask("кто?"), response_format=Person)
    assert isinstance(same, Person)
    for refused in (chat.achat_parse, chat.achat.parse):
        with pytest.raises(UnprocessableEntityError, match="response_format is not supported"):
            await refused({**ask("кто?"), "model": "GigaChat-Plus"}, response_format=Person)


async def test_logprobs(chat: gigachat.GigaChat) -> None:
    answer = await chat.achat.create(ask("echo: Привет, мир", model_options={"top_logprobs": 2}))
    tokens = answer.messages[0].logprobs
    assert "".join(place.chosen.token for place in tokens) == "Привет, мир"
    assert {len(place.top) for place in tokens} == {2}


async def test_web_search_marks_its_sources(chat: gigachat.GigaChat) -> None:
    question = ask("Найди глубокое озеро", tools=["web_search"])
    answer = await chat.achat.create(question)
    assert "[sources=[1, 2]]" in said(answer)
    (sources,) = [part.inline_data.sources for part in answer.messages[0].content if part.inline_data]
    assert sources["1"].url.startswith("https://")
    chunks = [chunk async for chunk in chat.achat.stream(question)]
    assert [chunk.event for chunk in chunks][:2] == ["response.tool.in_progress", "response.tool.completed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "function", "content": [{"text": "a"}]}]}, "role"),
        ({"messages": [{"role": "user", "content": "plain"}]}, "non-empty array"),
        ({"messages": [{"role": "user", "content": [{"text": "a", "files": []}]}]}, "exactly one"),
        ({"messages": [{"role": "tool", "content": [{"text": "a"}]}]}, "function_result"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"text": "a"}]},
                    {"role": "system", "content": [{"text": "b"}]},
                ]
            },
            "system message must be the first message",
        ),
        ({"model_options": {"temperature": 0}}, "temperature"),
        ({"model_options": {"top_logprobs": 6}}, "top_logprobs"),
        ({"model_options": {"reasoning": {"effort": "xhigh"}}}, "effort"),
        ({"tools": [{"telepathy": {}}]}, "unknown tool"),
        ({"tool_config": {"mode": "tool"}}, "mode"),
        ({"tool_config": {"mode": "forced"}}, "function_name"),
        ({"tool_config": {"mode": "forced", "tool_name": "web_search"}}, "not in tools"),
        ({"tools": TOOLS, "tool_config": {"mode": "forced", "function_name": "other"}}, "not in functions"),
        ({"disable_filter": "yes"}, "disable_filter"),
        ({"flags": "yes"}, "flags"),
        ({"assistant_id": "a"}, "assistant_id"),
    ],
)
async def test_refusals(vendors: Any, change: dict[str, Any], words: str) -> None:
    token = await vendors.token()
    body = {"model": MODEL, "messages": [{"role": "user", "content": [{"text": "hi"}]}], **change}
    status, answer = await vendors.post("/gigachat/v2/chat/completions", body, Authorization=f"Bearer {token}")
    assert (status, answer["status"]) == (422, 422)
    assert words in answer["message"]


async def test_both_contracts_share_the_accounts_places(vendors: Any) -> None:
    token = await vendors.token("one", "GIGACHAT_API_PERS")
    headers = {"Authorization": f"Bearer {token}"}
    body = {"model": f"{MODEL}+stall-1", "messages": [{"role": "user", "content": [{"text": "hi"}]}], "stream": True}
    held = await vendors.session.post(f"{vendors.url}/gigachat/v2/chat/completions", json=body, headers=headers)
    assert held.status == 200
    for path, asked in (("chat/completions", ask("hi")), ("embeddings", {"model": "Embeddings", "input": ["a"]})):
        status, answer = await vendors.post(f"/gigachat/v1/{path}", asked, **headers)
        assert (status, answer["message"]) == (429, "Too Many Requests")
    held.close()


# ── files and pictures ───────────────────────────────────────────────────────────────────────────────────


async def test_a_picture_is_drawn_and_fetched(chat: gigachat.GigaChat) -> None:
    token = gigachat.context.client_id_cvar.set("client-7")
    try:
        answer = await chat.achat(ask("Нарисуй кота", function_call="auto"))
        content = answer.choices[0].message.content
        assert content.startswith('<img src="')
        picture = await chat.aget_image(content.split('"')[1])
        assert base64.b64decode(picture.content) == PICTURE
        roles = [chunk.choices[0].delta.role async for chunk in chat.astream(ask("Нарисуй кота", function_call="auto"))]
        assert roles[:2] == ["function_in_progress", "assistant"]
    finally:
        gigachat.context.client_id_cvar.reset(token)
    with pytest.raises(ResponseError) as caught:  # whoever did not have it drawn
        await chat.aget_image(content.split('"')[1])
    assert caught.value.status_code == 403
    assert "<img" not in (await chat.achat(ask("Нарисуй кота"))).choices[0].message.content


async def test_a_picture_of_contract_v2(chat: gigachat.GigaChat) -> None:
    forced = {"mode": "forced", "tool_name": "image_generate"}
    answer = await chat.achat.create(ask("кот", tools=["image_generate"], tool_config=forced))
    (file,) = answer.messages[0].content[0].files
    assert (file.mime, file.target) == ("image/jpeg", "image")
    assert base64.b64decode((await chat.aget_image(file.id_)).content) == PICTURE
    chunks = [chunk async for chunk in chat.achat.stream(ask("кот", tools=["image_generate"], tool_config=forced))]
    execution = chunks[0].messages[0].content[0].tool_execution
    assert (chunks[0].event, execution.name) == ("response.tool.in_progress", "image_generate")


async def test_files_belong_to_their_account_and_must_exist(connect: Callable[..., Any]) -> None:
    async with connect("one") as one, connect("two") as two:
        stored = await one.aupload_file(("cat.png", b"\x89PNG", "image/png"))
        seen = {"role": "user", "content": "echo: вижу", "attachments": [stored.id_]}
        answer = await one.achat({"model": MODEL, "messages": [seen]})
        assert answer.choices[0].message.content == "вижу"
        parts = [{"text": "echo: вижу"}, {"files": [{"id": stored.id_}]}]
        assert (
            said(await one.achat.create({"model": MODEL, "messages": [{"role": "user", "content": parts}]})) == "вижу"
        )
        assert (await two.aget_files()).data == []
        for refused in (two.achat({"model": MODEL, "messages": [seen]}), two.aget_file(stored.id_)):
            with pytest.raises(NotFoundError, match="No such file"):
                await refused
        with pytest.raises(UnprocessableEntityError, match="not supported"):
            await one.aupload_file(("a.exe", b"MZ", "application/octet-stream"))
        twice = {**seen, "attachments": [stored.id_] * 2}
        with pytest.raises(UnprocessableEntityError, match="one image per message"):
            await one.achat({"model": MODEL, "messages": [twice]})
        with pytest.raises(UnprocessableEntityError, match="at most 10"):
            await one.achat({"model": MODEL, "messages": [seen] * 11})


# ── the small services ───────────────────────────────────────────────────────────────────────────────────


async def test_functions_out_of_openapi(chat: gigachat.GigaChat) -> None:
    document = """
openapi: 3.0.0
paths:
  /orders/{id}:
    get:
      operationId: get_order
      summary: Shows an order
      parameters:
        - {name: id, in: path, required: true, schema: {type: string}, description: Its number}
  /orders:
    post:
      description: Makes an order
      requestBody:
        content:
          application/json:
            schema: {type: object, properties: {what: {type: string}}, required: [what]}
"""
    found = (await chat.aopenapi_function_convert(document)).functions
    assert [(function.name, function.description) for function in found] == [
        ("get_order", "Shows an order"),
        ("post_orders", "Makes an order"),
    ]
    assert found[0].parameters.required == ["id"]
    assert set(found[1].parameters.properties) == {"what"}
    with pytest.raises(ResponseError):
        await chat.aopenapi_function_convert("{")


async def test_was_it_a_machine(chat: gigachat.GigaChat) -> None:
    machine = "Простое решение легче проверить, чем сложное."
    human = "Я сам это написал."
    found = {}
    for name, text in (("ai", machine), ("human", human), ("mixed", f"{human} {machine}")):
        found[name] = await chat.acheck_ai(text, "GigaCheckDetection")
        assert found[name].category == name
    assert found["mixed"].ai_intervals == [[len(human) + 1, len(human) + 1 + len(machine)]]
    assert (await chat.acheck_ai(machine, "GigaCheckClassification")).ai_intervals is None


async def test_is_it_profane(vendors: Any) -> None:
    token = await vendors.token()
    for text, profane in (("о погоде", False), ("Про запретную тему", True)):
        body = {"model": "GigaFilter", "messages": [{"role": "user", "content": text}]}
        status, answer = await vendors.post("/gigachat/v1/filter/check", body, Authorization=f"Bearer {token}")
        assert (status, answer["is_profane"]) == (200, profane)
        assert answer["usage"]["filter_tokens"] > 0


async def test_a_batch(vendors: Any) -> None:
    headers = {"Authorization": f"Bearer {await vendors.token('corp-b', 'GIGACHAT_API_CORP')}"}
    url = f"{vendors.url}/gigachat/v1/batches"
    lines = [
        {"id": "1", "request": ask("echo: раз")},
        {"id": "2", "request": {**ask("echo: два"), "model": "no-such"}},
    ]
    body = "\n".join(json.dumps(line) for line in lines)
    async with vendors.session.post(f"{url}?method=chat_completions", data=body, headers=headers) as made:
        batch = await made.json()
    assert (made.status, batch["status"], batch["request_counts"]) == (200, "created", {"total": 2})
    looks = [
        (await vendors.get(f"/gigachat/v1/batches?batch_id={batch['id']}", **headers))[1]["batches"][0] for _ in "12"
    ]
    assert [look["status"] for look in looks] == ["in_progress", "completed"]
    output = f"{vendors.url}/gigachat/v1/files/{looks[-1]['output_file_id']}/content"
    async with vendors.session.get(output, headers=headers) as response:
        first, second = [json.loads(line) for line in (await response.text()).splitlines()]
    assert first["result"]["choices"][0]["message"]["content"] == "раз"
    assert second == {"id": "2", "error": {"status": 404, "message": "No such model"}}
    poor = {"Authorization": f"Bearer {await vendors.token('demo')}"}
    async with vendors.session.post(f"{url}?method=embedder", data=body, headers=poor) as refused:
        assert refused.status == 403
    async with vendors.session.post(f"{url}?method=telepathy", data=body, headers=headers) as refused:
        assert refused.status == 422


# ── ways in ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_user_with_a_password(connect: Callable[..., Any], vendors: Any) -> None:
    async with connect(user="ivan", password="secret") as chat:
        assert (await chat.aget_token()).expires_at > 10**12
        assert (await chat.achat(ask("echo: ok"))).choices[0].message.content == "ok"
        await vendors.post("/control/expire-tokens", {})
        assert await chat.achat(ask("echo: ok"))
    async with connect(user="ivan", password="wrong") as chat:
        with pytest.raises(AuthenticationError):
            await chat.achat(ask("hi"))


async def test_a_ready_token(connect: Callable[..., Any], vendors: Any) -> None:
    async with connect(access_token=await vendors.token()) as chat:
        assert (await chat.achat(ask("echo: ok"))).choices[0].message.content == "ok"
    async with connect(access_token="nonsense") as chat:
        with pytest.raises(AuthenticationError):
            await chat.achat(ask("hi"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    bundle = tmp_path_factory.mktemp("ca") / "root.pem"
    ca.cert_pem.write_to_path(str(bundle))
    return ca, bundle


async def test_a_private_authority(authority: tuple[trustme.CA, Path], credentials: Callable[..., str]) -> None:
    ca, bundle = authority
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    async with server.running(server.build(7), tls=tls) as port:
        given = {
            "base_url": f"https://127.0.0.1:{port}/gigachat/v1",
            "auth_url": f"https://127.0.0.1:{port}/gigachat/api/v2/oauth",
            "credentials": credentials(),
            "scope": "GIGACHAT_API_B2B",
        }
        async with gigachat.GigaChat(**given, ssl_context=ssl.create_default_context(cafile=bundle)) as chat:
            assert (await chat.achat(ask("echo: ok"))).choices[0].message.content == "ok"
        async with gigachat.GigaChat(**given) as chat:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await chat.achat(ask("hi"))


# ── the blocking client says the same ────────────────────────────────────────────────────────────────────


@pytest.fixture
def blocking(vendors: Any, credentials: Callable[..., str]) -> Iterator[gigachat.GigaChat]:
    with gigachat.GigaChat(
        base_url=f"{vendors.url}/gigachat/v1",
        auth_url=f"{vendors.url}/gigachat/api/v2/oauth",
        credentials=credentials("blocking"),
        scope="GIGACHAT_API_B2B",
    ) as client:
        yield client


async def test_the_blocking_client(blocking: gigachat.GigaChat) -> None:
    def everything() -> None:
        assert blocking.chat(ask("echo: ok")).choices[0].message.content == "ok"
        assert "".join(c.choices[0].delta.content or "" for c in blocking.stream(ask("echo: ok"))) == "ok"
        assert said(blocking.chat.create(ask("echo: ok"))) == "ok"
        assert said(list(blocking.chat.stream(ask("echo: ok")))) == "ok"
        assert isinstance(blocking.chat.parse(ask("кто?"), response_format=Person)[1], Person)
        assert isinstance(blocking.chat_parse(ask("кто?"), response_format=Person)[1], Person)
        assert MODEL in [model.id_ for model in blocking.get_models().data]
        assert blocking.get_model(MODEL).id_ == MODEL
        assert len(blocking.embeddings(["a"]).data[0].embedding) == 1024
        assert blocking.tokens_count(["слово"], model=MODEL)[0].tokens == 2
        assert blocking.get_balance().balance
        assert blocking.get_token().access_token
        stored = blocking.upload_file(("a.txt", b"abc", "text/plain"))
        assert blocking.get_file(stored.id_).bytes_ == 3
        assert [file.id_ for file in blocking.get_files().data] == [stored.id_]
        assert blocking.get_image(stored.id_).content == "YWJj"
        assert blocking.delete_file(stored.id_).deleted
        assert blocking.openapi_function_convert('{"paths": {}}').functions == []
        assert blocking.check_ai("x", "GigaCheckDetection").category == "human"

    await asyncio.to_thread(everything)


async def test_the_balance_of_who_pays_afterwards(chat: gigachat.GigaChat) -> None:
    with pytest.raises(ForbiddenError):
        await chat.aget_balance()
