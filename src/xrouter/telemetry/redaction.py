"""What may stand in a log line. Applied where lines are made, so that no caller can forget it.

Three nets: fields whose name says that they hold a credential or content are masked whole; text that looks
like a credential is masked wherever it stands; secrets of the configuration are masked literally.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from traceback import extract_tb
from typing import Final
from uuid import UUID

from pydantic import BaseModel

from xrouter.core.secret import Secret

MASK: Final = "***"
LONGEST_TEXT: Final = 1_000
"""Characters of one value; the rest is cut."""

_MOST_ITEMS: Final = 50
_DEEPEST: Final = 4
_MOST_FRAMES: Final = 12
_LONGEST_EXCEPTION: Final = 300
_SHORTEST_LITERAL: Final = 6

_HIDDEN_NAMES: Final = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "x-api-key", "apikey", "secret",
        "token", "pepper", "credential", "credentials", "passwd",
        "messages", "message", "prompt", "input", "content", "body", "text", "answer", "delta", "arguments",
    }
)  # fmt: skip
_HIDDEN_ENDINGS: Final = ("-secret", "-token", "-api-key", "-authorization", "-cookie")

_SUSPICIOUS: Final = re.compile(
    r"""
      (?P<pem> -----BEGIN\ [^-]{1,64}-----.*?(?:-----END\ [^-]{1,64}-----|\Z) )
    | (?P<cookie> \b(?:set-)?cookie["']?\s*[:=][^\r\n]* )
    | (?P<name> authorization | api[_-]?key | token | secret | password | passwd | pwd )
        (?P<equals> ["']?\s*[:=]\s*["']? ) (?:(?:bearer|basic)\s+)? [^\s"',;&}]+
    | \b(?P<scheme> bearer | basic )\s+[A-Za-z0-9+/=._~-]{6,}
    | \bsk-[A-Za-z0-9_-]{8,}
    | \beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,4}
    | (?P<userinfo> ://[^/\s"'<>]*@ )
    | (?P<query> (?<=[\w/.~%-])\?[^\s"'<>]+ )
    | (?<![A-Za-z0-9_+-])(?=[A-Za-z_+-]*[0-9])[A-Za-z0-9_+-]{40,}={0,2}
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_HARMLESS: Final = re.compile(r"(?!.*sk-)[A-Za-z0-9_-]{1,39}\Z", re.IGNORECASE)
"""Ids and words, for which the search above cannot find anything: a tenth of its cost."""

_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_PLAIN: Final = (UUID, Decimal, PurePath, IPv4Address, IPv6Address, date)


def _replacement(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "equals":
        return f"{found['name']}{found['equals']}{MASK}"
    if kind == "scheme":
        return f"{found['scheme']} {MASK}"
    if kind == "userinfo":
        return f"://{MASK}@"
    if kind == "query":
        return f"?{MASK}"
    return MASK


class Redaction:
    """`secrets` are masked literally wherever they appear; those under 6 characters would mask half a line
    and are left to the other nets."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        texts = sorted({secret.reveal() for secret in secrets}, key=len, reverse=True)
        literals = [re.escape(text) for text in texts if len(text) >= _SHORTEST_LITERAL]
        self._literal = re.compile("|".join(literals)) if literals else None

    def text(self, text: str) -> str:
        """`text` with everything masked that looks like a credential or is one of ours."""
        if self._literal is not None:
            text = self._literal.sub(MASK, text)
        if _HARMLESS.match(text):
            return text
        if len(text) > LONGEST_TEXT:
            # Cut before the search, which costs by length, and drop the last word: it may be half a secret.
            text = text[:LONGEST_TEXT].rpartition(" ")[0] + "..."
        return _SUSPICIOUS.sub(_replacement, text)

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The same for every field; fields that hold credentials or content by their name become `***`."""
        return {name: MASK if is_hidden(name) else self._value(value, 0) for name, value in fields.items()}

    def exception(self, error: BaseException) -> dict[str, object]:
        """An exception as type, text and place; with what caused it.

        Quoted parts of its text are left out, because Python quotes the value it stumbled over, and that
        value may be a prompt (`invalid literal for int(): 'my passport is ...'`). Source lines and local
        variables are never shown.
        """
        shown: dict[str, object] = {"type": type(error).__name__, "text": self.exception_text(error)}
        frames = extract_tb(error.__traceback__, limit=-_MOST_FRAMES)
        shown["at"] = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            shown["cause"] = {"type": type(cause).__name__, "text": self.exception_text(cause)}
        return shown

    def exception_text(self, error: BaseException) -> str:
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything, and logging must not
            return MASK
        text = text.partition("\n")[0]
        if not isinstance(error, OSError):  # its quotes hold a file name
            text = _QUOTED.sub("'...'", text)
        return self.text(text)[:_LONGEST_EXCEPTION]

    def _value(self, value: object, depth: int) -> object:
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Secret):
            return MASK
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {self.exception_text(value)}"
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if depth < _DEEPEST:
            if isinstance(value, Mapping):
                some = list(value.items())[:_MOST_ITEMS]
                return {
                    self.text(str(name)): MASK if is_hidden(str(name)) else self._value(item, depth + 1)
                    for name, item in some
                }
            if isinstance(value, list | tuple | set | frozenset):
                return [self._value(item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
        if isinstance(value, _PLAIN):
            return self.text(str(value))
        # The repr of an unknown object may hold a whole conversation.
        return f"<{type(value).__name__}>"


def is_hidden(name: str) -> bool:
    """Whether a field of this name holds a credential or content, whatever its value."""
    name = name.lower().replace("_", "-")
    return name in _HIDDEN_NAMES or name.endswith(_HIDDEN_ENDINGS) or "password" in name


def _short(path: str) -> str:
    """The last three parts of a path: enough to find the file, and no user's home."""
    return "/".join(PurePath(path).parts[-3:])


def secrets_in(value: object) -> Iterator[Secret]:
    """Every secret of the settings or the configuration, to be masked literally."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(item)
