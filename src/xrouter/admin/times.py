"""Times as the API writes and reads them: RFC 3339, in UTC with milliseconds."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = re.compile(r"\d{1,10}(\.\d{1,9})?")


def written(seconds: float) -> str:
    """Seconds since the epoch as `2026-11-21T09:30:00.250Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(value: object) -> float:
    """Seconds since the epoch from RFC 3339 text with an offset, or from the seconds themselves."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if _EPOCH.fullmatch(text):
        return float(text)
    if _RFC_3339.fullmatch(text):
        return datetime.fromisoformat(text.upper()).timestamp()
    raise ValueError(
        "must be an RFC 3339 time such as 2026-11-21T09:30:00Z, or seconds since the epoch "
        "(in a URL write the + of an offset as %2B)"
    )


Time = Annotated[
    float,
    BeforeValidator(read),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339, or seconds since the epoch."}),
]
