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
    check_case,
    check_marks,
    check_status,
    fields_of,
    is_tested,
    name,
    recorded,
    scripted,
)
from tests.providers.scripted import Reply, attempt_for, chat_request, connect

from xrouter.core.call import Attempt
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.ports import ImagesProvider

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
    await check_case(path, draw(kind, recorded(path), request(**fields_of(path))))


@pytest.mark.parametrize("kind", CAPABLE)
async def test_statuses_become_errors(kind: str) -> None:
    for status, expected in STATUSES:
        await check_status(
            lambda reply, attempt: draw(kind, reply, request(), attempt),
            status,
            expected,
            b'{"error":{"message":"No"}}',
        )


@pytest.mark.parametrize("kind", CAPABLE)
async def test_marks_are_set_before_a_byte_leaves_and_broken_connections_are_errors(kind: str) -> None:
    await check_marks(lambda reply, attempt: draw(kind, reply, request(), attempt))


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
