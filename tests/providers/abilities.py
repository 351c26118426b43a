"""What the conformance tests of embeddings, images and ranking share: which kinds have the ability, and their cases.

`fixtures/<kind>/<ability>/` holds what the vendor answered, `<case>.json`, with `<case>.json.request` (fields of our
own request) and `<case>.json.expected`; cases called `bad_...` must fail. Rows of openai_compatible.toml share the
cases of `fixtures/openai_compatible/`, and add their own.
"""

from pathlib import Path
from typing import Any

import msgspec
from tests.providers.scripted import FIXTURES, SHARED, Reply, connect

from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
)
from xrouter.providers import kinds
from xrouter.providers.openai_compatible import row_names

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


def is_tested(kind: str, method: str, ability: str, port: type) -> bool:
    """Has a kind with the ability recorded answers of it, or a test file of its own that calls the method?"""
    own = Path(__file__).parent.glob(f"test_{kind}_*.py")
    return kind in scripted(port, ability) or any(f".{method}(" in path.read_text(encoding="utf-8") for path in own)


def _folders(kind: str, ability: str) -> list[Path]:
    names = dict.fromkeys((SHARED, kind) if kind in row_names() else (kind,))
    return [FIXTURES / found / ability for found in names]
