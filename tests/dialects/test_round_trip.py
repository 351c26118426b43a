"""`render(parse(x))` is x: what leaves in a dialect is read by our own adapter as what it was made from, and written
again to the same fields, in every cut of its bytes. Nothing is lost or invented between the two."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.gateway.script import Script, call, world
from tests.providers.scripted import Reply, chat_request, collect, connect, cut

from xrouter.core.call import Call
from xrouter.core.chat import Answer, ChatRequest, Event, Finish, Usage
from xrouter.dialects.openai import chat as openai_chat
from xrouter.dialects.openai.endpoint import Asked
from xrouter.dialects.openrouter import chat as openrouter_chat
from xrouter.gateway import record, route

FIXTURES = Path(__file__).parent / "fixtures"
WHOLE = sorted(FIXTURES.glob("*/*.json"))
STREAMS = sorted(FIXTURES.glob("*/*.sse"))
FORMS = {"openai": openai_chat.FORM, "openrouter": openrouter_chat.FORM}
TOOLS = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def content(path: Path) -> bytes:
    return path.read_bytes()


def asked(dialect: str, *, stream: bool) -> Asked:
    body: dict[str, Any] = {"model": "a/m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return FORMS[dialect].parse(json.dumps(body).encode())


def served(seen: dict[str, Any], usage: Usage | None, request: ChatRequest) -> Call:
    """The call that was answered by what is `seen`."""
    place, one = world(a=Script([])), call("a/m")
    one.request, one.id, one.started_at = request, seen["id"], float(seen["created"])
    attempt = record.begin(one, route.plan(request, place.gateway.catalog)[0], place.gateway)
    attempt.sending()
    attempt.usage = usage
    one.served_model = seen["model"]
    record.end(attempt, None, place.gateway)
    return one


async def parse(body: bytes, size: int, *, stream: bool) -> list[Event]:
    kind = "text/event-stream" if stream else "application/json"
    provider, _ = connect("openai_compatible", Reply(headers={"content-type": kind}, chunks=cut(body, size)))
    return await collect(provider, chat_request(stream=stream, tools=TOOLS))


def test_there_are_fixtures_of_both_dialects() -> None:
    for dialect in FORMS:
        assert len([path for path in WHOLE if path.parent.name == dialect]) >= 3
        assert len([path for path in STREAMS if path.parent.name == dialect]) >= 3


@pytest.mark.parametrize("path", WHOLE, ids=name)
async def test_a_whole_answer_is_kept(path: Path) -> None:
    body = content(path)
    seen = msgspec.json.decode(body)
    want = asked(path.parent.name, stream=False)
    for size in (1, 7, len(body)):
        (answer,) = await parse(body, size, stream=False)
        assert isinstance(answer, Answer)
        assert isinstance(want.request, ChatRequest)
        again = want.whole(served(seen, answer.usage, want.request), answer)
        assert ours(msgspec.json.decode(again)) == seen


@pytest.mark.parametrize("path", STREAMS, ids=name)
async def test_a_stream_is_kept_in_every_cut(path: Path) -> None:
    body = content(path)
    seen = chunks(body)
    want = asked(path.parent.name, stream=True)
    assert want.writer is not None
    assert isinstance(want.request, ChatRequest)
    first: list[Event] | None = None
    for size in [*range(1, 65), len(body)]:
        events = await parse(body, size, stream=True)
        if first is None:
            first = events
        assert events == first, f"cut into pieces of {size}"
    assert first is not None
    assert any(isinstance(event, Finish) for event in first)
    usage = next((event for event in first if isinstance(event, Usage)), None)
    writer = want.writer(served(seen[0], usage, want.request))
    again = b"".join(writer.chunk(event) for event in first) + writer.end()
    assert chunks(again) == seen
    assert again.endswith(b"data: [DONE]\n\n")


def chunks(body: bytes) -> list[Any]:
    payloads = [part.removeprefix(b"data: ") for part in body.strip().split(b"\n\n")]
    assert payloads.pop() == b"[DONE]"
    return [ours(msgspec.json.decode(payload)) for payload in payloads]


def ours(body: dict[str, Any]) -> dict[str, Any]:
    """Without what is new: an upstream's `cost` comes back beside ours, under a name of its own."""
    (body.get("usage") or {}).pop("upstream_cost", None)
    return body
