"""The gigachat SDK against the simulated GigaChat itself. If it reads the simulator, the simulator is right."""

import asyncio
import base64
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import gigachat
import pydantic
import pytest
from gigachat.exceptions import (
    AuthenticationError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnprocessableEntityError,
)

MODEL = "GigaChat-2-Max"
SIMULATORS = os.environ["XROUTER_ACCEPTANCE_SIMULATORS"]
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

Connect = Callable[..., gigachat.GigaChat]


class Person(pydantic.BaseModel):
    name: str
    age: int


def control(what: str, **values: Any) -> Any:
    request = urllib.request.Request(f"{SIMULATORS}/control/{what}", json.dumps(values).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Clients of an account of their own, so that one test's logins do not slow another's."""
    account = request.node.name.replace(":", "")
    opened = []

    def connected(scope: str = "GIGACHAT_API_B2B", secret: str = "secret", **more: Any) -> gigachat.GigaChat:
        more.setdefault("credentials", base64.b64encode(f"{account}:{secret}".encode()).decode())
        client = gigachat.GigaChat(
            base_url=f"{SIMULATORS}/gigachat/v1", auth_url=f"{SIMULATORS}/gigachat/api/v2/oauth", scope=scope, **more
        )
        opened.append(client)
        return client

    yield connected
    for client in opened:
        client.close()


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def test_chat(connect: Connect) -> None:
    answer = connect().chat(ask("echo: Привет"))
    assert answer.choices[0].message.content == "Привет"
    assert answer.usage.completion_tokens == 2


def test_stream(connect: Connect) -> None:
    chunks = list(connect().stream(ask("скажи 40 слов")))
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()) == 40
    assert chunks[-1].usage is not None
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_function_round_trip(connect: Connect) -> None:
    client = connect()
    question = ask("Какая погода?", functions=[WEATHER], function_call="auto")
    message = client.chat(question).choices[0].message
    assert message.function_call is not None
    assert set(message.function_call.arguments or {}) == {"city"}
    history = [
        *question["messages"],
        message.model_dump(exclude_none=True),
        {"role": "function", "name": "get_weather", "content": '{"t": 27}'},
    ]
    assert '{"t": 27}' in client.chat({**question, "messages": history}).choices[0].message.content


def test_parsed_answer(connect: Connect) -> None:
    _, person = connect().chat_parse(ask("кто?"), response_format=Person)
    assert isinstance(person, Person)


def test_models_embeddings_tokens(connect: Connect) -> None:
    client = connect()
    assert MODEL in [model.id_ for model in client.get_models().data]
    assert len(client.embeddings(["текст"]).data[0].embedding) == 1024
    assert client.tokens_count(["текст"], model=MODEL)[0].tokens == 2
    with pytest.raises(NotFoundError):
        client.get_model("no-such")


def test_balance(connect: Connect) -> None:
    assert connect().get_balance().balance
    with pytest.raises(ForbiddenError):
        connect("GIGACHAT_API_CORP").get_balance()


def test_expired_token_is_renewed(connect: Connect) -> None:
    client = connect()
    client.chat(ask("hi"))
    first = client.token
    assert control("expire-tokens")["expired"] >= 1
    client.chat(ask("hi"))
    assert client.token != first


def test_wrong_key(connect: Connect) -> None:
    with pytest.raises(AuthenticationError):
        connect(secret="wrong").chat(ask("hi"))


@pytest.mark.parametrize(
    ("fault", "error"),
    [("status-422", UnprocessableEntityError), ("status-429", RateLimitError), ("status-500", ServerError)],
)
def test_errors(connect: Connect, fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        connect().chat({**ask("hi"), "model": f"{MODEL}+{fault}"})


def said(messages: list[Any]) -> str:
    """What an assistant says in contract v2."""
    return "".join(part.text or "" for one in messages if one.role == "assistant" for part in one.content or ())


def test_contract_v2(connect: Connect) -> None:
    client = connect()
    answer = client.chat.create(ask("echo: Привет"))
    assert said(answer.messages) == "Привет"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2
    chunks = list(client.chat.stream(ask("скажи 40 слов")))
    assert len("".join(said(chunk.messages or []) for chunk in chunks).split()) == 40
    assert {chunk.event for chunk in chunks[:-1]} == {"response.message.delta"}
    assert chunks[-1].event == "response.message.done"
    _, person = client.chat.parse(ask("кто?"), response_format=Person)
    assert isinstance(person, Person)


def test_tool_round_trip_of_contract_v2(connect: Connect) -> None:
    client = connect()
    question = ask("Какая погода?", tools=[{"functions": {"specifications": [WEATHER]}}])
    message = client.chat.create(question).messages[-1]
    assert message.content is not None
    call, state = message.content[0].function_call, message.tools_state_id
    assert call is not None
    result = {"function_result": {"name": call.name, "result": {"t": 27}}}
    history = [
        *question["messages"],
        {"role": "assistant", "content": [{"function_call": call.model_dump()}], "tools_state_id": state},
        {"role": "tool", "content": [result], "tools_state_id": state},
    ]
    assert '{"t":27}' in said(client.chat.create({**question, "messages": history}).messages)


def test_files(connect: Connect) -> None:
    client = connect()
    stored = client.upload_file(("cat.png", b"pixels", "image/png"))
    assert [file.id_ for file in client.get_files().data] == [stored.id_]
    assert client.get_file(stored.id_).bytes_ == 6
    message = {"role": "user", "content": "echo: вижу", "attachments": [stored.id_]}
    assert client.chat({"model": MODEL, "messages": [message]}).choices[0].message.content == "вижу"
    assert client.get_image(stored.id_).content == "cGl4ZWxz"
    assert client.delete_file(stored.id_).deleted
    with pytest.raises(NotFoundError):
        client.get_file(stored.id_)


def test_picture(connect: Connect) -> None:
    client = connect()
    content = client.chat(ask("Нарисуй кота", function_call="auto")).choices[0].message.content
    drawn = base64.b64decode(client.get_image(content.split('"')[1]).content)
    assert drawn.startswith(b"\xff\xd8\xff")
    forced = {"mode": "forced", "tool_name": "image_generate"}
    message = client.chat.create(ask("кот", tools=["image_generate"], tool_config=forced)).messages[-1]
    assert message.content is not None
    assert message.content[0].files is not None
    assert base64.b64decode(client.get_image(message.content[0].files[0].id_).content) == drawn


def test_small_services(connect: Connect) -> None:
    client = connect()
    document = '{"paths": {"/orders": {"get": {"operationId": "orders", "summary": "Заказы"}}}}'
    assert [one.name for one in client.openapi_function_convert(document).functions] == ["orders"]
    assert client.check_ai("Я сам.", "GigaCheckDetection").category == "human"


def test_user_and_ready_token(connect: Connect) -> None:
    user = connect(credentials=None, user="acceptance", password="secret")
    assert user.chat(ask("echo: ok")).choices[0].message.content == "ok"
    ready = connect(credentials=None, access_token=user.token)
    assert ready.chat(ask("echo: ok")).choices[0].message.content == "ok"
    with pytest.raises(AuthenticationError):
        connect(credentials=None, user="acceptance", password="wrong").chat(ask("hi"))


def test_async_client(connect: Connect) -> None:
    async def asked() -> set[str]:
        async with connect() as client:
            answers = await asyncio.gather(*(client.achat(ask("echo: ok")) for _ in range(5)))
        return {answer.choices[0].message.content for answer in answers}

    assert asyncio.run(asked()) == {"ok"}


def test_async_client_of_contract_v2_and_the_rest(connect: Connect) -> None:
    async def asked() -> None:
        async with connect() as client:
            assert said((await client.achat.create(ask("echo: ok"))).messages) == "ok"
            chunks = [chunk async for chunk in client.achat.stream(ask("echo: ok"))]
            assert "".join(said(chunk.messages or []) for chunk in chunks) == "ok"
            assert MODEL in [model.id_ for model in (await client.aget_models()).data]
            assert len((await client.aembeddings(["текст"])).data[0].embedding) == 1024
            assert (await client.atokens_count(["текст"], model=MODEL))[0].tokens == 2
            assert (await client.aget_balance()).balance
            stored = await client.aupload_file(("a.txt", b"abc", "text/plain"))
            assert (await client.aget_file(stored.id_)).bytes_ == 3
            assert (await client.adelete_file(stored.id_)).deleted

    asyncio.run(asked())
