"""One suite for every provider kind: it finds them, and their recorded answers, by itself.

`fixtures/<kind>/` holds what the vendor sent: `<case>.sse` (a stream, of whatever framing) or `<case>.json` (a whole
body), with `<case>.<sse|json>.request` where the request matters, `<case>.<sse|json>.settings` where the account's
settings do, and `<case>.<sse|json>.expected`: the events, or the error. Cases called `bad_...` must fail. `wire.toml`
says where a wire format differs from OpenAI's (`Wire` in scripted.py). A row of openai_compatible.toml also runs the
cases of `fixtures/openai_compatible/`, with the fields of its `shared.request` added where it has one; what is done
with every cut of an answer is done for each kind with its own cases alone, for a row has no code of its own. A kind
without cases of its wire format fails here.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from tests.providers.scripted import (
    FIXTURES,
    SHARED,
    Reply,
    ScriptedTransport,
    Sent,
    attempt_for,
    chat_request,
    collect,
    connect,
    cut,
    plain,
    wire_of,
)

from xrouter.core.call import Phase
from xrouter.core.chat import FINISH_REASONS, Answer, Delta, Finish, Reasoning, Refusal, ToolDelta, Usage
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.gateway.retry import judge
from xrouter.providers import kinds
from xrouter.providers.openai_compatible import row_names
from xrouter.transport import BrokenOff, CannotConnect

MARKS = {"x-request-id": "up-1"}
JSON = {"content-type": "application/json; charset=utf-8", "x-request-id": "up-1"}


def folders(kind: str) -> list[Path]:
    return [FIXTURES / name for name in dict.fromkeys((kind, SHARED if kind in row_names() else kind))]


def cases(suffix: str, *, own: bool = False) -> list[Any]:
    return [
        pytest.param(kind, path, id=f"{kind}-{folder.name}-{path.name}")
        for kind in kinds()
        for folder in ([FIXTURES / kind] if own else folders(kind))
        for path in sorted(folder.glob(f"*{suffix}"))
    ]


def stream_of(kind: str, chunks: list[bytes], **more: Any) -> Reply:
    return Reply(headers={"content-type": wire_of(kind).stream_type, **MARKS}, chunks=chunks, **more)


def payloads(kind: str, body: bytes) -> list[bytes]:
    """The events of a recorded stream, each with what parts it from the next."""
    body, mark = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), re.escape(wire_of(kind).separator)
    return re.findall(rb".+?(?:" + mark + rb"\n*|\Z)", body, re.DOTALL)


def recorded(path: Path) -> bytes:
    return path.read_bytes()


def request_of(path: Path, kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for asked in (path.with_name(path.name + ".request"), FIXTURES / kind / "shared.request"):
        if asked.exists() and (asked.name != "shared.request" or path.parent.name != kind):
            fields |= msgspec.json.decode(asked.read_bytes())
    return fields


def settings_of(path: Path) -> dict[str, Any]:
    """The settings of the account that the answer was recorded with, where they are not the usual ones."""
    beside = path.with_name(path.name + ".settings")
    found: dict[str, Any] = msgspec.json.decode(beside.read_bytes()) if beside.exists() else {}
    return found


async def outcome(kind: str, reply: Reply, path: Path, *, stream: bool) -> Any:
    """The events as plain values; a failure ends them as one more."""
    provider, transport = connect(kind, reply, **settings_of(path))
    fields = request_of(path, kind)
    request = chat_request(stream=stream, **fields)
    got = []
    try:
        async with aclosing(provider.chat(request, attempt_for(request))) as events:
            async for event in events:
                got += plain([event])
    except UpstreamError as error:
        got.append({"raises": type(error).__name__, "message": error.message, "code": error.code})
    assert all(sent.closed for sent in transport.sent)
    return got


def streamed(kind: str, path: Path, size: int) -> Any:
    chunks = cut(recorded(path), size)
    return outcome(kind, stream_of(kind, chunks), path, stream=True)


def merged(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring pieces of one text as one piece."""
    out: list[dict[str, Any]] = []
    for event in events:
        text_only = event.get("event") in ("Delta", "Reasoning") and event.keys() == {"event", "text"}
        if text_only and out and out[-1].keys() == event.keys() and out[-1]["event"] == event["event"]:
            out[-1] = {**event, "text": out[-1]["text"] + event["text"]}
        else:
            out.append(event)
    return out


SUBJECTS = {"tools": "tool|function", "reasoning": "reasoning|think", "usage": "usage"}


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_has_recorded_answers(kind: str) -> None:
    names = {path.name for folder in folders(kind) for path in folder.glob("*")}
    for suffix in (".sse", ".json"):
        assert f"text{suffix}" in names, f"{kind} has no plain answer: text{suffix}"
        bad = [name for name in names if name.startswith("bad_") and name.endswith(suffix)]
        assert bad, f"{kind} has no answer that must fail: bad_<case>{suffix}"
    for subject, pattern in SUBJECTS.items():
        shown = any(re.search(pattern, name) for name in names if not name.startswith("bad_"))
        if subject in wire_of(kind).lacks:
            assert not shown, f"wire.toml says that {kind} lacks {subject}, but a recorded answer shows it"
        else:
            assert shown, f'{kind} has no answer with {subject} ({pattern}); if it has none, say lacks = ["{subject}"]'


def test_no_recorded_answer_is_left_out() -> None:
    assert {path.name for path in FIXTURES.iterdir()} <= set(kinds())


@pytest.mark.parametrize(("kind", "path"), [*cases(".sse"), *cases(".json")])
async def test_recorded_answers_give_the_expected_events(kind: str, path: Path) -> None:
    if path.suffix == ".sse":
        got = await streamed(kind, path, 1 << 20)
    else:
        got = await outcome(kind, Reply(headers=JSON, chunks=[recorded(path)]), path, stream=False)
    beside = path.with_name(path.name + ".expected")
    if not beside.exists():
        lines = ",\n ".join(json.dumps(event, ensure_ascii=False) for event in merged(got))
        pytest.fail(f"{beside.name} is missing. If these are the right events, put this there:\n[{lines}]", False)
    expected = msgspec.json.decode(recorded(beside))
    assert merged(got) == merged(expected)
    assert path.name.startswith("bad_") == ("raises" in got[-1])


@pytest.mark.parametrize(("kind", "path"), cases(".sse", own=True))
async def test_every_cut_gives_the_same_events(kind: str, path: Path) -> None:
    whole = await streamed(kind, path, 1 << 20)
    for size in range(1, 65):
        assert await streamed(kind, path, size) == whole, size


@pytest.mark.parametrize(("kind", "path"), cases(".json", own=True))
async def test_every_cut_of_a_body_gives_the_same_answer(kind: str, path: Path) -> None:
    body = recorded(path)
    whole = await outcome(kind, Reply(headers=JSON, chunks=[body]), path, stream=False)
    for size in (1, 2, 3, 7, 64):
        assert await outcome(kind, Reply(headers=JSON, chunks=cut(body, size)), path, stream=False) == whole


@pytest.mark.parametrize(("kind", "path"), cases(".sse", own=True))
@pytest.mark.parametrize("breaks", [None, BrokenOff("eof", "the connection ended")], ids=["clean", "broken"])
async def test_a_stream_cut_at_any_event_never_looks_complete(kind: str, path: Path, breaks: BrokenOff | None) -> None:
    events = payloads(kind, recorded(path))
    assert len(events) > 1 or path.name.startswith("bad_"), "nothing to cut: is `frame` in wire.toml right?"
    whole = [event for event in await streamed(kind, path, 1 << 20) if event.get("event") != "Usage"]
    for count in range(len(events)):
        reply = stream_of(kind, events[:count], breaks=breaks)
        got = await outcome(kind, reply, path, stream=True)
        if "raises" not in got[-1]:  # then nothing but the count of tokens can be missing
            assert merged([event for event in got if event.get("event") != "Usage"]) == merged(whole)


@pytest.mark.parametrize(("kind", "path"), cases(".sse", own=True))
async def test_streams_keep_the_rules_of_the_port(kind: str, path: Path) -> None:
    provider, _ = connect(kind, stream_of(kind, [recorded(path)]), **settings_of(path))
    if path.name.startswith("bad_"):
        with pytest.raises(UpstreamError) as caught:
            await collect(provider, chat_request(**request_of(path, kind)))
        assert caught.value.provider == "acme"
        assert "\n" not in caught.value.message
        return
    events = await collect(provider, chat_request(**request_of(path, kind)))
    finished = [event.choice for event in events if isinstance(event, Finish)]
    texts = {event.choice for event in events if isinstance(event, Delta | Reasoning | Refusal) and event.text}
    started = texts | {event.choice for event in events if isinstance(event, ToolDelta)}
    assert len(finished) == len(set(finished)) >= 1
    assert started <= set(finished)
    assert all(event.reason in FINISH_REASONS - {"error"} for event in events if isinstance(event, Finish))
    assert not any(isinstance(event, Answer) for event in events)
    for event in events:
        if isinstance(event, Usage):
            assert 0 <= event.cached_tokens <= event.input_tokens <= 10**9
            assert 0 <= event.reasoning_tokens <= event.output_tokens <= 10**9


STATUSES = [
    *((status, ProviderRefused) for status in (400, 404, 405, 413, 415, 422, 410, 418)),
    *((status, ProviderAuthFailed) for status in (401, 403)),
    (402, ProviderQuotaExhausted),
    (408, ProviderTimeout),
    (429, ProviderRateLimited),
    *((status, ProviderUnavailable) for status in (301, 302, 307, 409, 425, 500, 501, 502, 503, 504, 520, 524, 529)),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", kinds())
async def test_statuses_become_errors(kind: str, stream: bool) -> None:
    for status, expected in STATUSES:
        await check_status(kind, status, expected, stream=stream)


async def check_status(kind: str, status: int, expected: type[UpstreamError], *, stream: bool) -> None:
    secret = "sk-live-Abcdefgh12345678"
    body = b'{"status":%d,"message":"No: \\u0007 %s","code":"some_code"}' % (status, secret.encode())
    provider, transport = connect(kind, Reply(status, {**JSON, "location": "https://elsewhere.test/"}, [body]))
    request = chat_request(stream=stream)
    attempt = attempt_for(request)
    with pytest.raises(UpstreamError) as caught:
        await collect(provider, request, attempt)
    error = caught.value
    assert type(error) is expected, status
    assert error.upstream_status == attempt.upstream_status == status
    assert error.provider == "acme"
    assert error.message.startswith(f"acme answered {status}")
    assert secret not in error.message
    assert error.message.isprintable()
    assert all(sent.url.startswith(("https://upstream.test", "https://ngw.")) for sent in transport.sent)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (CannotConnect("dns", "no such host"), ProviderUnavailable),
        (CannotConnect("refused", "refused"), ProviderUnavailable),
        (CannotConnect("tls", "bad certificate"), ProviderUnavailable),
        (CannotConnect("timeout", "3 s"), ProviderTimeout),
        (CannotConnect("forbidden_address", "private"), ProviderUnavailable),
        (BrokenOff("reset", "reset"), ProviderUnavailable),
        (BrokenOff("protocol", "what"), ProviderUnavailable),
    ],
)
async def test_broken_connections_become_errors(kind: str, broken: Any, expected: type) -> None:
    provider, _ = connect(kind, broken)
    request, marks = chat_request(), list[str]()
    attempt = attempt_for(request, marks)
    with pytest.raises(expected) as caught:
        await collect(provider, request, attempt)
    assert caught.value.__cause__ is broken
    again = judge(caught.value, Phase.CONNECTING, 1, Random(1)).same
    assert again is (broken.reason != "forbidden_address"), "the same rules would refuse the address again"
    # Nothing is in the books before a byte could leave, and it is afterwards.
    assert marks == (["intent"] if isinstance(broken, BrokenOff) else [])
    assert attempt.phase is (Phase.SENT if isinstance(broken, BrokenOff) else Phase.CONNECTING)


@pytest.mark.parametrize("kind", kinds())
async def test_a_body_that_breaks_off_is_no_answer(kind: str) -> None:
    path = folders(kind)[-1] / "text.json"
    reply = Reply(headers=JSON, chunks=[recorded(path)], breaks=BrokenOff("eof", "too short"))
    provider, _ = connect(kind, reply)
    with pytest.raises(ProviderUnavailable):
        await collect(provider, chat_request(stream=False))


@pytest.mark.parametrize("kind", kinds())
async def test_marks_and_ids_are_set(kind: str) -> None:
    path = folders(kind)[-1] / "text.sse"
    provider, transport = connect(kind, stream_of(kind, [recorded(path)]))
    request, marks = chat_request(), list[str]()
    attempt = attempt_for(request, marks)
    async with aclosing(provider.chat(request, attempt)) as events:
        await anext(events)
        assert marks == ["intent"]
        assert attempt.phase is Phase.BODY
        assert attempt.upstream_status == 200
        assert attempt.upstream_request_id == "up-1"
    sent = transport.sent[-1]
    assert sent.headers["X-Request-ID"] == attempt.id
    assert sent.url.endswith(wire_of(kind).path)
    assert not wire_of(kind).names_model or sent.json()["model"] == "m"


@pytest.mark.parametrize("kind", kinds())
async def test_closing_the_generator_cuts_the_connection(kind: str) -> None:
    first = payloads(kind, recorded(folders(kind)[-1] / "text.sse"))[:2]
    provider, transport = connect(kind, stream_of(kind, first, holds=True))
    request = chat_request()
    events = provider.chat(request, attempt_for(request))
    await anext(events)
    assert not transport.sent[-1].closed
    await events.aclose()
    assert transport.sent[-1].closed
    assert not transport.sent[-1].ended


@pytest.mark.parametrize("kind", kinds())
async def test_cancelling_the_reader_cuts_the_connection(kind: str) -> None:
    provider, transport = connect(kind, stream_of(kind, [], holds=True))
    reading = asyncio.create_task(collect(provider, chat_request()))
    async with asyncio.timeout(5):
        while not (transport.sent and transport.sent[-1].url.endswith(wire_of(kind).path)):
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert transport.sent[-1].closed


@pytest.mark.parametrize("kind", kinds())
async def test_a_finished_stream_is_read_to_its_end_so_that_the_connection_serves_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xrouter.providers._http._DRAIN_S", 30.0)  # this machine may stall
    path = folders(kind)[-1] / "text.sse"
    provider, transport = connect(kind, stream_of(kind, [recorded(path), b"\n", b"\n"]))
    await collect(provider, chat_request())
    assert transport.sent[-1].ended


@pytest.mark.parametrize("kind", kinds())
async def test_a_vendor_that_does_not_hang_up_delays_nobody(kind: str) -> None:
    path = folders(kind)[-1] / "text.sse"
    provider, transport = connect(kind, stream_of(kind, [recorded(path)], holds=True))
    async with asyncio.timeout(5):
        await collect(provider, chat_request())
    assert transport.sent[-1].closed


@pytest.mark.parametrize("kind", kinds())
async def test_a_huge_line_is_refused_before_it_is_gathered(kind: str) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(160):
            taken += 1
            yield b"x" * 65536

    reply = stream_of(kind, [])
    reply.chunks = pieces()  # type: ignore[assignment]  # any iterable serves
    provider, _ = connect(kind, reply)
    with pytest.raises(ProviderUnavailable, match="1048576"):
        await collect(provider, chat_request())
    assert taken <= 18


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"error":{"message":"busy","code":429}}', ProviderRateLimited), (b"<html>", ProviderUnavailable)],
)
async def test_a_stream_that_is_none(kind: str, body: bytes, expected: type) -> None:
    provider, _ = connect(kind, Reply(headers=JSON, chunks=[body]))
    with pytest.raises(expected):
        await collect(provider, chat_request())


def test_sent_requests_are_closed_by_the_script() -> None:
    """The script itself: `closed` starts false, so the tests above can fail."""
    assert Sent("", {}, b"").closed is False
    assert ScriptedTransport(lambda _: Reply()).sent == []
