"""OpenAI's conversation as this vendor's: the system apart, roles in turn, tools inside the messages.

Source: https://docs.anthropic.com/en/api/messages
"""

import re
from typing import Any, Final, NamedTuple

import msgspec

from xrouter.core.errors import Invalid

from .blocks import blocks_of, thinking_blocks, tool_input

_NOT_AN_ID = re.compile(r"[^A-Za-z0-9_-]")
# The first message must be the user's. Whoever begins with the assistant gets one that says nothing.
_OPENING: Final = {"type": "text", "text": "..."}


class Conversation(NamedTuple):
    """`calls` are the names of the functions that were called in it. `lost_thinking`: it is in a tool loop whose calls
    came back without the signed thinking before them."""

    system: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    calls: tuple[str, ...]
    lost_thinking: bool


def conversation(raw: Any, *, thinking: bool) -> Conversation:
    """The messages as they came, translated. Signed thinking goes back only to a model that is `thinking`."""
    system: list[dict[str, Any]] = []
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    calls: dict[str, None] = {}
    lost = False
    for number, message in enumerate(msgspec.json.decode(raw)):
        place, role = f"messages[{number}]", message["role"]
        content = blocks_of(message.get("content"), place)
        if role in ("system", "developer"):
            system += content
        elif role == "assistant":
            thoughts = thinking_blocks(message)
            used = _calls(message, place)
            calls |= dict.fromkeys(block["name"] for block in used)
            lost = lost or (bool(used) and not thoughts)
            _add(turns, "assistant", [*(thoughts if thinking else ()), *content, *used])
        elif role == "tool":
            answered = _id(message.get("tool_call_id"))
            _add(turns, "user", [{"type": "tool_result", "tool_use_id": answered, "content": content}])
        else:
            lost = False
            _add(turns, "user", content)
    if not turns and system:  # a request of instructions alone: they are what is asked
        system, turns = [], [("user", system)]
    if not turns:
        raise Invalid("The conversation says nothing.", param="messages")
    if turns[0][0] == "assistant":
        turns.insert(0, ("user", [_OPENING]))
    _trim_last(turns)
    messages = [{"role": role, "content": blocks} for role, blocks in turns]
    return Conversation(system, messages, tuple(calls), lost)


def _add(turns: list[tuple[str, list[dict[str, Any]]]], role: str, blocks: list[dict[str, Any]]) -> None:
    if not blocks:
        return
    if turns and turns[-1][0] == role:
        turns[-1][1].extend(blocks)
    else:
        turns.append((role, blocks))


def _calls(message: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """The calls of a message as blocks."""
    found = []
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if not isinstance(function, dict):
            raise Invalid("This model calls functions only.", param=f"{place}.tool_calls[{number}]")
        given = tool_input(function.get("arguments") or "", f"{place}.tool_calls[{number}]")
        found.append({"type": "tool_use", "id": _id(call.get("id")), "name": function.get("name"), "input": given})
    return found


def _id(given: Any) -> str:
    """An id of any vendor in the letters that this one takes."""
    return _NOT_AN_ID.sub("_", given if isinstance(given, str) else "") or "call"


def _trim_last(turns: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """An answer that the model shall go on with must not end in white space."""
    role, blocks = turns[-1]
    if role == "assistant" and blocks[-1]["type"] == "text":
        blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip() or "..."}
