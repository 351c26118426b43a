"""What the conformance tests of embeddings, images and ranking share: which kinds have the ability, and their cases.

`fixtures/<kind>/<ability>/` holds what the vendor answered, `<case>.json`, with `<case>.json.request` (fields of our
own request) and `<case>.json.expected`; cases called `bad_...` must fail. Rows of openai_compatible.toml share the
cases of `fixtures/openai_compatible/`, and add their own.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from tests.providers.scripted import FIXTURES, SHARED, Reply, attempt_for, chat_request, connect, plain

from xrouter.core.call import Attempt, Phase
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.providers import kinds
from xrouter.providers.openai_compatible import row_names
from xrouter.transport import BrokenOff

Ask: TypeAlias = Callable[[Any, Attempt], Awaitable[Any]]
"""(what the transport does, attempt) -> the answer of one kind to one request."""

JSON = {"content-type": "application/json; charset=utf-8", "x-request-id": "up-1"}
STATUSES = [
    (400, ProviderRefused),
    (401, ProviderAuthFailed),
    (402, ProviderQuotaExhausted),
    (403, ProviderAuthFailed),
    (404, ProviderRefused),
    (408, ProviderTimeout),
    (413, ProviderRefused),
    (429, ProviderRateLimited),
    (500, ProviderUnavailable),
    (503, ProviderUnavailable),
]


def capable(port: type) -> list[str]:
    """The kinds whose providers keep that port."""
    return [kind for kind in kinds() if isinstance(connect(kind, Reply())[0], port)]


def scripted(port: type, ability: str) -> list[str]:
    """Those of them that have recorded answers of that ability."""
    return [kind for kind in capable(port) if any(folder.is_dir() for folder in _folders(kind, ability))]


def cases(port: type, ability: str) -> list[Any]:
    """(kind, path) of every recorded answer."""
    return [
        (kind, path)
        for kind in scripted(port, ability)
        for folder in _folders(kind, ability)
        for path in sorted(folder.glob("*.json"))
    ]


def name(value: object) -> str | None:
    return f"{value.parent.parent.name}-{value.name}" if isinstance(value, Path) else None


def recorded(path: Path) -> Reply:
    """The answer as it came."""
    return Reply(headers=JSON, chunks=[path.read_bytes()])


def fields_of(path: Path) -> dict[str, Any]:
    """What the case asks for."""
    beside = path.with_name(path.name + ".request")
    return msgspec.json.decode(beside.read_bytes()) if beside.exists() else {}


def expected_of(path: Path) -> Any:
    return msgspec.json.decode(path.with_name(path.name + ".expected").read_bytes())


async def check_case(path: Path, answer: Awaitable[Any]) -> None:
    """A recorded answer gives what stands beside it, or fails as it says."""
    try:
        (got,) = plain([await answer])
    except UpstreamError as error:
        got = {"raises": type(error).__name__, "message": error.message}
    assert got == expected_of(path)
    assert path.name.startswith("bad_") == ("raises" in got)


async def check_status(ask: Ask, status: int, expected: type[UpstreamError], body: bytes) -> str:
    """`ask` gets an error of that status; gives the words of what it raised."""
    attempt = attempt_for(chat_request())
    with pytest.raises(expected) as caught:
        await ask(Reply(status, JSON, [body]), attempt)
    assert caught.value.message.startswith(f"acme answered {status}")
    assert attempt.upstream_status == status
    return caught.value.message


async def check_marks(ask: Ask) -> None:
    """The intent is marked before a byte leaves, and a broken connection is an error."""
    marks = list[str]()
    attempt = attempt_for(chat_request(), marks)
    with pytest.raises(ProviderUnavailable):
        await ask(BrokenOff("reset", "reset"), attempt)
    assert (marks, attempt.phase) == (["intent"], Phase.SENT)


def is_tested(kind: str, method: str, ability: str, port: type) -> bool:
    """Has a kind with the ability recorded answers of it, or a test file of its own that calls the method?"""
    own = Path(__file__).parent.glob(f"test_{kind}_*.py")
    return kind in scripted(port, ability) or any(f".{method}(" in path.read_text(encoding="utf-8") for path in own)


def _folders(kind: str, ability: str) -> list[Path]:
    names = dict.fromkeys((SHARED, kind) if kind in row_names() else (kind,))
    return [FIXTURES / found / ability for found in names]
