"""Every fault as its bytes, seen by a client that knows nothing but sockets."""

import asyncio
import json
import re
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from xrouter.simulators import faults

FORMS = ("gigachat", "openai")
MODELS = {"gigachat": "GigaChat-2-Max", "openai": "t-lite-it-2.1"}
QUIET_S = 0.3
PATIENCE_S = 20.0


@dataclass
class Heard:
    """What came over one connection: the head, the raw body, and how it ended: `fin`, `rst` or `silence`."""

    head: str
    body: bytes
    end: str

    @property
    def status(self) -> int:
        return int(self.head.split(" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        pairs = [line.split(": ", 1) for line in self.head.split("\r\n")[1:] if line]
        found = {name.lower(): value for name, value in pairs}
        assert len(found) == len(pairs), f"a header twice: {self.head}"
        return found

    @property
    def chunked(self) -> bool:
        return self.headers.get("transfer-encoding") == "chunked"

    @property
    def complete(self) -> bool:
        """Whether HTTP's own framing says that the body is whole."""
        if not self.head:
            return False
        if self.chunked:
            return self.body.endswith(b"0\r\n\r\n")
        return "content-length" in self.headers and len(self.body) == int(self.headers["content-length"])

    @property
    def payload(self) -> bytes:
        if not self.chunked:
            return self.body
        rest, payload = self.body, b""
        while rest and (size := int(rest[: rest.index(b"\r\n")], 16)):
            start = rest.index(b"\r\n") + 2
            payload += rest[start : start + size]
            rest = rest[start + size + 2 :]
        return payload

    @property
    def events(self) -> list[bytes]:
        return [line[6:] for line in self.payload.split(b"\n") if line.startswith(b"data: ")]

    @property
    def pieces(self) -> int:
        """How many pieces of text there are so far."""
        return len(re.findall(rb'"content":"[^"]', self.body))

    @property
    def contents(self) -> list[str]:
        """Pieces of text in events that are JSON."""
        pieces = []
        for event in self.events:
            if event != b"[DONE]":
                choices = json.loads(event).get("choices", [])
                pieces += [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]
        return pieces


Ask = Callable[..., Any]


@pytest.fixture
def ask(vendors: Any) -> Ask:
    """Send one raw request and listen until the connection ends, or is quiet for `QUIET_S` after `enough` was heard."""

    async def asked(
        form: str, model: str, *, stream: bool, close: bool = True, enough: Callable[[Heard], bool] = never
    ) -> Heard:
        body = {"model": model, "messages": [{"role": "user", "content": "say 30 words"}], "stream": stream}
        if form == "openai" and stream:
            body["stream_options"] = {"include_usage": True}
        token = await vendors.token() if form == "gigachat" else "any"
        raw = json.dumps(body).encode()
        head = (
            f"POST /{form}/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{vendors.port}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
            f"x-request-id: {uuid.uuid4()}\r\n{'Connection: close' if close else 'Accept: */*'}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        received, end = b"", "fin"
        with socket.create_connection(("127.0.0.1", vendors.port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, head.encode() + raw)
            try:
                while True:
                    patience_s = QUIET_S if enough(heard(received, "")) else PATIENCE_S
                    data = await asyncio.wait_for(loop.sock_recv(client, 2**20), patience_s)
                    if not data:
                        break
                    received += data
            except TimeoutError:
                end = "silence"
            except ConnectionResetError:
                end = "rst"
        return heard(received, end)

    return asked


def heard(received: bytes, end: str) -> Heard:
    lines, _, rest = received.partition(b"\r\n\r\n")
    return Heard(lines.decode("latin-1"), rest, end)


def never(_: Heard) -> bool:
    return False


def always(_: Heard) -> bool:
    return True


def suffixed(form: str, fault: str) -> str:
    return f"{MODELS[form]}+{fault}"


@pytest.mark.parametrize("form", FORMS)
async def test_sound_answers(ask: Ask, form: str) -> None:
    stream = await ask(form, MODELS[form], stream=True)
    assert (stream.status, stream.end, stream.complete) == (200, "fin", True)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.events[-1] == b"[DONE]"
    assert json.loads(stream.events[-2])["usage"]["completion_tokens"] > 0
    whole = await ask(form, MODELS[form], stream=False)
    assert (whole.status, whole.end, whole.complete) == (200, "fin", True)
    assert json.loads(whole.body)["choices"][0]["message"]["content"] == "".join(stream.contents)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("stream", [True, False])
async def test_status(ask: Ask, form: str, status: int, stream: bool) -> None:
    heard = await ask(form, suffixed(form, f"status-{status}"), stream=stream)
    assert (heard.status, heard.complete) == (status, True)
    body = json.loads(heard.body)
    if form == "gigachat":
        assert body["status"] == status
    elif status == 401:
        assert body == {"error": "Unauthorized"}
    else:
        assert body["error"]["code"] == status


@pytest.mark.parametrize("form", FORMS)
async def test_refusals_of_a_proxy_in_front(ask: Ask, form: str) -> None:
    html = await ask(form, suffixed(form, "html-502"), stream=True)
    assert (html.status, html.headers["content-type"]) == (502, "text/html")
    assert html.body.startswith(b"<html>")
    seconds = await ask(form, suffixed(form, "retry-after-seconds"), stream=True)
    assert (seconds.status, seconds.headers["retry-after"]) == (429, "1")
    date = await ask(form, suffixed(form, "retry-after-date"), stream=True)
    later = parsedate_to_datetime(date.headers["retry-after"]) - parsedate_to_datetime(date.headers["date"])
    assert (date.status, later.total_seconds() in (0, 1, 2)) == (429, True)
    millis = await ask(form, suffixed(form, "retry-after-ms"), stream=True)
    assert (millis.status, millis.headers["retry-after-ms"]) == (429, "500")


async def test_a_followed_redirect_is_counted(ask: Ask, vendors: Any) -> None:
    heard = await ask("openai", suffixed("openai", "redirect"), stream=True)
    assert (heard.status, heard.headers["location"]) == (302, f"http://localhost:{vendors.port}/redirected")
    assert (await vendors.state())["totals"]["redirects_followed"] == 0
    async with vendors.session.post(heard.headers["location"]) as followed:
        assert followed.status == 200
    assert (await vendors.state())["totals"]["redirects_followed"] == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [True, False])
async def test_slow_headers_says_nothing(ask: Ask, form: str, stream: bool) -> None:
    heard = await ask(form, suffixed(form, "slow-headers"), stream=stream, enough=always)
    assert (heard.head, heard.end) == ("", "silence")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [True, False])
async def test_slow_first_says_only_that_it_will(ask: Ask, vendors: Any, form: str, stream: bool) -> None:
    heard = await ask(form, suffixed(form, "slow-first"), stream=stream, enough=lambda heard: bool(heard.head))
    assert (heard.status, heard.body, heard.end) == (200, b"", "silence")
    await vendors.settings(first_token_s=0.05)
    soon = await ask(form, suffixed(form, "slow-first"), stream=stream)
    assert soon.complete


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [0, 1, 3, 9_999])
@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("stall", "silence"),
        ("reset", "rst"),
        ("eof", "fin"),
        ("chunked-cut", "fin"),
        ("clean-end", "fin"),
    ],
)
async def test_streams_that_end_early(ask: Ask, form: str, k: int, fault: str, end: str) -> None:
    sound = await ask(form, MODELS[form], stream=True)
    expected = sound.contents[:k]
    silent = fault == "stall"
    heard = await ask(
        form,
        suffixed(form, f"{fault}-{k}"),
        stream=True,
        enough=lambda heard: silent and bool(heard.head) and heard.pieces == len(expected),
    )
    assert heard.end == end
    if (fault, k) == ("reset", 0):
        assert (heard.head, heard.body) == ("", b"")
        return
    assert heard.status == 200
    assert heard.contents == expected
    assert b"[DONE]" not in heard.body
    assert b'"finish_reason":"stop"' not in heard.body
    assert heard.complete is (fault == "clean-end")
    assert heard.chunked is (fault != "eof")
    assert "content-length" not in heard.headers


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("fault", "end", "whole_frame"),
    [
        ("stall-2", "silence", False),
        ("reset-2", "rst", False),
        ("eof-2", "fin", False),
        ("chunked-cut-2", "fin", False),
        ("clean-end-2", "fin", True),
        ("broken-json-2", "fin", True),
    ],
)
async def test_bodies_that_end_early(ask: Ask, form: str, fault: str, end: str, whole_frame: bool) -> None:
    heard = await ask(
        form, suffixed(form, fault), stream=False, enough=lambda heard: end == "silence" and len(heard.body) > 1
    )
    assert (heard.status, heard.end, heard.complete) == (200, end, whole_frame)
    assert heard.payload.startswith(b"{")
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.payload.decode("utf-8", "replace"))


async def test_reset_before_the_status_of_a_body(ask: Ask) -> None:
    heard = await ask("openai", suffixed("openai", "reset-0"), stream=False)
    assert (heard.head, heard.end) == ("", "rst")


@pytest.mark.parametrize("form", FORMS)
async def test_pings_instead_of_content(vendors: Any, form: str) -> None:
    body = {"model": suffixed(form, "ping-stall-2"), "messages": [{"role": "user", "content": "say 30 words"}]}
    url = f"{vendors.url}/{form}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {await vendors.token()}"}
    async with vendors.session.post(url, json={**body, "stream": True}, headers=headers) as response:
        seen = b""
        while seen.count(b": ping\n\n") < 3:
            seen += await response.content.readany()
        opening = 1 if form == "openai" else 0
        assert len([line for line in seen.split(b"\n") if line.startswith(b"data: ")]) == 2 + opening
    async with vendors.session.post(url, json=body, headers=headers) as response:
        assert await response.content.readexactly(3) == b"   "


@pytest.mark.parametrize("form", FORMS)
async def test_no_done_is_complete_otherwise(ask: Ask, form: str) -> None:
    sound = await ask(form, MODELS[form], stream=True)
    heard = await ask(form, suffixed(form, "no-done"), stream=True)
    assert heard.complete
    assert heard.contents == sound.contents
    assert len(heard.events) == len(sound.events) - 1
    assert b'"finish_reason":"stop"' in heard.body
    assert (await ask(form, suffixed(form, "no-done"), stream=False)).complete


@pytest.mark.parametrize("form", FORMS)
async def test_broken_json(ask: Ask, form: str) -> None:
    sound = await ask(form, MODELS[form], stream=True)
    heard = await ask(form, suffixed(form, "broken-json-2"), stream=True)
    assert heard.complete
    assert len(heard.events) == len(sound.events)
    broken = [event for event in heard.events if event != b"[DONE]" and not event.endswith(b"}")]
    assert len(broken) == 1
    opening = 1 if form == "openai" else 0
    assert heard.events.index(broken[0]) == 2 + opening


@pytest.mark.parametrize("form", FORMS)
async def test_an_error_with_status_200(ask: Ask, form: str) -> None:
    heard = await ask(form, suffixed(form, "error-2"), stream=True)
    assert (heard.status, heard.complete, len(heard.contents)) == (200, True, 2)
    assert "error" in json.loads(heard.events[-1])
    whole = await ask(form, suffixed(form, "error-2"), stream=False)
    assert (whole.status, whole.complete) == (200, True)
    assert "choices" not in json.loads(whole.body)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [True, False])
async def test_empty(ask: Ask, form: str, stream: bool) -> None:
    heard = await ask(form, suffixed(form, "empty"), stream=stream)
    assert (heard.status, heard.complete, heard.payload) == (200, True, b"")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [True, False])
async def test_not_utf8(ask: Ask, form: str, stream: bool) -> None:
    heard = await ask(form, suffixed(form, "bad-utf8"), stream=stream)
    assert heard.complete
    with pytest.raises(UnicodeDecodeError):
        heard.payload.decode()
    repaired = heard.payload.replace(b"\xff\xfe", b"")
    assert repaired.decode()
    if not stream:
        assert json.loads(repaired)["choices"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [True, False])
async def test_huge_line(ask: Ask, form: str, stream: bool) -> None:
    heard = await ask(form, suffixed(form, "huge-line"), stream=stream)
    assert heard.complete
    assert max(map(len, heard.payload.split(b"\n"))) > 10 * 1024 * 1024


@pytest.mark.parametrize("form", FORMS)
async def test_usage(ask: Ask, form: str) -> None:
    for stream in (True, False):
        without = await ask(form, suffixed(form, "no-usage"), stream=stream)
        assert without.complete
        assert b'"usage"' not in without.body
        wrong = await ask(form, suffixed(form, "wrong-usage"), stream=stream)
        last = json.loads(wrong.events[-2] if stream else wrong.body)
        assert last["usage"]["prompt_tokens"] < 0
        assert last["usage"]["completion_tokens"] == 10**18


@pytest.mark.parametrize("form", FORMS)
async def test_slow_chunks_come_apart(vendors: Any, form: str) -> None:
    token = await vendors.token()
    body = {
        "model": suffixed(form, "slow-1000000"),
        "messages": [{"role": "user", "content": "say 30 words"}],
        "stream": True,
    }
    url = f"{vendors.url}/{form}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {token}"}
    async with vendors.session.post(url, json=body, headers=headers) as response:
        first = (await response.content.readany()).decode()
        assert len(re.findall(r'"content":"[^"]', first)) == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), QUIET_S)


async def test_a_connection_serves_again_after_each_well_framed_fault(vendors: Any, ask: Ask) -> None:
    for fault in ("status-503", "clean-end-1", "no-done", "empty", "error-1", "html-502"):
        for stream in (True, False):
            heard = await ask(
                "openai", suffixed("openai", fault), stream=stream, close=False, enough=lambda heard: heard.complete
            )
            # The server keeps the connection open and waits for more.
            assert heard.end == "silence"
            assert heard.complete


async def test_rules_strike_by_glob_and_count(ask: Ask, vendors: Any) -> None:
    status, answer = await vendors.post("/control/faults", {"model": "t-lite*", "fault": "status-503", "times": 2})
    assert (status, answer["faults"]) == (200, [{"model": "t-lite*", "fault": "status-503", "times": 2}])
    heard = [(await ask("openai", "t-lite-it-2.1", stream=False)).status for _ in range(3)]
    assert heard == [503, 503, 200]
    assert (await ask("openai", "t-pro-it-2.1", stream=False)).status == 200
    await vendors.post("/control/faults", {"model": "*", "fault": "status-500"})
    assert (await ask("openai", "t-pro-it-2.1", stream=False)).status == 500
    assert (await ask("openai", suffixed("openai", "status-429"), stream=False)).status == 429
    await vendors.post("/control/faults", {"model": "*", "fault": None})
    assert (await ask("openai", "t-pro-it-2.1", stream=False)).status == 200


async def test_the_login_and_embeddings_break_too(vendors: Any) -> None:
    await vendors.post("/control/faults", {"model": "oauth", "fault": "status-500", "times": 1})
    assert (await vendors.login())[0] == 500
    token = await vendors.token()
    for path, model in (("openai", "text-embedder"), ("gigachat", "Embeddings")):
        ask = {"model": f"{model}+status-429", "input": ["a"]}
        status, _ = await vendors.post(f"/{path}/v1/embeddings", ask, Authorization=f"Bearer {token}")
        assert status == 429


@pytest.mark.parametrize(
    "order",
    [
        {"model": "*", "fault": "no-such"},
        {"model": "*", "fault": "status-200"},
        {"model": "*", "fault": "stall"},
        {"model": "*", "fault": "empty", "times": 0},
        {"model": "*"},
        {"model": 1, "fault": "empty"},
        {"model": "*", "fault": "empty", "more": 1},
    ],
)
async def test_odd_orders_are_refused(vendors: Any, order: dict[str, Any]) -> None:
    status, answer = await vendors.post("/control/faults", order)
    assert status == 400
    assert answer["error"]


async def test_odd_settings_are_refused(vendors: Any) -> None:
    for settings in ({"no_such": 1}, {"pace_ms": "fast"}):
        status, _ = await vendors.post("/control/settings", settings)
        assert status == 400


@pytest.mark.parametrize("name", ["m+n", "m+status-200", "m+stall", "m+stall-", "m+stall-x", "m+", "m"])
def test_what_is_no_fault_stays_in_the_name(name: str) -> None:
    assert faults.split(name) == (name, faults.NONE)


def test_names_and_faults_match_both_ways() -> None:
    for name in ("status-503", "html-502", "retry-after-ms", "ping-stall-3", "chunked-cut-0", "slow-20", "no-done"):
        fault = faults.parse(name)
        assert fault is not None
        assert str(fault) == name
        assert faults.split(f"a+b+{name}") == ("a+b", fault)
