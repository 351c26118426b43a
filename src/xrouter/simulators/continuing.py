"""A model that is asked to go on with an answer that broke off: it goes on exactly where the text stops.

So it does with a text that it would have said itself; to any other it adds what it would have said. A user who says
`repeat N` wants the last N characters to be said once more, as careless models do.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

NOTHING_MISSING: Final = "[DONE]"
_WISH = re.compile(r"\bbroke off\b|\bоборвал", re.IGNORECASE)
_REPEAT = re.compile(r"\brepeat ([0-9]{1,4})\b", re.IGNORECASE)


class Parted(NamedTuple):
    """The conversation before the answer, and what was said of that; None: nothing, as usual. `exact`: the model was
    given the beginning of its answer, else it was asked in words."""

    messages: list[dict[str, Any]]
    said: str | None = None
    exact: bool = False


def part(messages: Sequence[dict[str, Any]], text_of: Callable[[dict[str, Any]], str], *, exact: bool) -> Parted:
    """`exact`: a last message of the assistant is a beginning."""
    found = list(messages)
    if exact and found[-1]["role"] == "assistant":
        return Parted(found[:-1], text_of(found[-1]), exact=True)
    if len(found) > 2 and found[-2]["role"] == "assistant" and _WISH.search(text_of(found[-1])):
        return Parted(found[:-2], text_of(found[-2]))
    return Parted(found)


def rest(text: str, said: str, user_text: str, *, exact: bool) -> str:
    """What of `text` is missing when `said` was said."""
    if not text.startswith(said):
        return f" {text}"
    if exact:
        return text[len(said) :]
    if text.strip() == said.strip():
        return NOTHING_MISSING
    again = _REPEAT.search(user_text)
    return text[max(0, len(said) - (int(again[1]) if again else 0)) :]
