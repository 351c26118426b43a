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


def test_async_client(connect: Connect) -> None:
    async def asked() -> set[str]:
        async with connect() as client:
            answers = await asyncio.gather(*(client.achat(ask("echo: ok")) for _ in range(5)))
        return {answer.choices[0].message.content for answer in answers}

    assert asyncio.run(asked()) == {"ok"}
