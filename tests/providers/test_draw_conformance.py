"""Pictures, for every kind that draws: recorded answers, errors, marks."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.providers.abilities import (
    JSON,
    STATUSES,
    capable,
    cases,
    expected_of,
    fields_of,
    is_tested,
    name,
    recorded,
    scripted,
)
from tests.providers.scripted import Reply, attempt_for, chat_request, connect, plain

from xrouter.core.call import Attempt, Phase
from xrouter.core.errors import ProviderUnavailable, UpstreamError
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.ports import ImagesProvider
from xrouter.transport import BrokenOff

ABILITY = "draw"
CAPABLE = scripted(ImagesProvider, ABILITY)


def request(n: int = 1, size: str | None = None, **fields: Any) -> ImagesRequest:
    raw = {field: Raw(msgspec.json.encode(value)) for field, value in fields.items()}
    return ImagesRequest("acme/m", "кот", raw, n, size)


async def draw(kind: str, reply: Any, asked: ImagesRequest, attempt: Attempt | None = None) -> Images:
    provider, transport = connect(kind, reply)
    assert isinstance(provider, ImagesProvider)
    try:
        return await provider.draw(asked, attempt or attempt_for(chat_request()))
    finally:
        assert all(sent.closed for sent in transport.sent) or not isinstance(reply, Reply)


def test_whoever_draws_is_tested() -> None:
    assert [kind for kind in capable(ImagesProvider) if not is_tested(kind, "draw", ABILITY, ImagesProvider)] == []
    assert "openai" in CAPABLE


@pytest.mark.parametrize(("kind", "path"), cases(ImagesProvider, ABILITY), ids=name)
async def test_recorded_answers_give_the_expected_pictures(kind: str, path: Path) -> None:
    try:
        (got,) = plain([await draw(kind, recorded(path), request(**fields_of(path)))])
    except UpstreamError as error:
        got = {"raises": type(error).__name__, "message": error.message}
    assert got == expected_of(path)
    assert path.name.startswith("bad_") == ("raises" in got)


@pytest.mark.parametrize("kind", CAPABLE)
async def test_statuses_become_errors(kind: str) -> None:
    for status, expected in STATUSES:
        await check_status(kind, status, expected)


async def check_status(kind: str, status: int, expected: type[UpstreamError]) -> None:
    attempt = attempt_for(chat_request())
    with pytest.raises(expected) as caught:
        await draw(kind, Reply(status, JSON, [b'{"error":{"message":"No"}}']), request(), attempt)
    assert caught.value.message.startswith(f"acme answered {status}")
    assert attempt.upstream_status == status


@pytest.mark.parametrize("kind", CAPABLE)
async def test_marks_are_set_before_a_byte_leaves_and_broken_connections_are_errors(kind: str) -> None:
    asked, marks = chat_request(), list[str]()
    attempt = attempt_for(asked, marks)
    with pytest.raises(ProviderUnavailable):
        await draw(kind, BrokenOff("reset", "reset"), request(), attempt)
    assert (marks, attempt.phase) == (["intent"], Phase.SENT)


PICTURE = b'{"data":[{"b64_json":"iVBORw0KGgo="}]}'


@pytest.mark.parametrize(
    ("options", "response_format"),
    [({}, "b64_json"), ({"plain_images": ["m*"]}, None), ({"plain_images": ["x*"]}, "b64_json")],
)
async def test_what_goes_out(options: dict[str, Any], response_format: str | None) -> None:
    provider, transport = connect("openai", Reply(headers=JSON, chunks=[PICTURE]), options=options)
    assert isinstance(provider, ImagesProvider)
    attempt = attempt_for(chat_request())
    await provider.draw(request(2, "512x256", quality="high", response_format="url", stream=True), attempt)
    body = transport.sent[0].json()
    assert transport.sent[0].url.endswith("/v1/images/generations")
    assert body.pop("response_format", None) == response_format
    assert body == {"model": "m", "prompt": "кот", "n": 2, "size": "512x256", "quality": "high"}
    assert attempt.dropped == ("stream",)
