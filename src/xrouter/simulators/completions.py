"""The form of `/v1/completions`: text without roles, whole and streamed."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from xrouter.simulators import delivery, speech

Said = tuple[str, str, str | None]
"""One choice: its text, why it ended, and the stop word that ended it."""


def whole(choices: Sequence[Said], frame: dict[str, Any], usage: dict[str, Any] | None) -> bytes:
    """All of it in one body. `frame` holds id, object, created and model."""
    rows = [_choice(index, text, finish, stop) for index, (text, finish, stop) in enumerate(choices)]
    return msgspec.json.encode({**frame, "choices": rows, **({"usage": usage} if usage else {})})


def events(choices: Sequence[Said], frame: dict[str, Any], usage: dict[str, Any] | None) -> delivery.Events:
    """A token of each choice in turn; no opening, because there is no role to tell."""

    def event(rows: list[dict[str, Any]], **more: Any) -> bytes:
        return msgspec.json.encode({**frame, "choices": rows, **more})

    def spoken(index: int, text: str) -> list[bytes]:
        cuts = range(0, len(text), speech.TOKEN_CHARS)
        return [event([_choice(index, text[at : at + speech.TOKEN_CHARS], None, None)]) for at in cuts]

    turns = zip_longest(*(spoken(index, text) for index, (text, _, _) in enumerate(choices)))
    content = [(item, 1) for turn in turns for item in turn if item is not None]
    closing = [event([_choice(index, "", finish, stop)]) for index, (_, finish, stop) in enumerate(choices)]
    if usage is not None:
        closing.append(event([], usage=usage))
    return delivery.Events([], content, closing)


def _choice(index: int, text: str, finish: str | None, stop: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": stop}
