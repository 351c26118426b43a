"""Whether a model shall think: OpenAI's `reasoning_effort` in the words of each server."""

from typing import Any

import msgspec
from msgspec import Raw

from .rows import EFFORTS, Row

_NULL = Raw(b"null")


def switch_thinking(fields: dict[str, Any], row: Row) -> bool | None:
    """`reasoning_effort` becomes the server's own switch, in place. True, False, or None where nobody said anything."""
    if row.thinking_switch == "":
        if "reasoning_effort" in fields and row.efforts:
            _nearest_effort(fields, row)
        return None
    effort = msgspec.json.decode(fields.pop("reasoning_effort", _NULL))
    if effort is None and row.thinks_unasked:
        effort = "none"
    switch = row.thinking_switch
    given = msgspec.json.decode(fields.get("chat_template_kwargs" if switch == "template" else switch, _NULL))
    told = _told(given, switch)
    if told is not None or effort is None:
        return told
    thinking: bool = effort != "none"
    if switch == "template":
        fields["chat_template_kwargs"] = {**(given or {}), "enable_thinking": thinking}
    elif switch == "enable_thinking":
        fields[switch] = thinking
    elif switch == "thinking":
        fields[switch] = {**(given or {}), "type": "enabled" if thinking else "disabled"}
    else:
        fields[switch] = {**(given or {}), "effort": effort}
    return thinking


def stop_thinking(fields: dict[str, Any], row: Row) -> None:
    """Take back what `switch_thinking` or the client has switched on."""
    fields.pop(row.thinking_switch, None)
    fields["reasoning_effort"] = Raw(b'"none"')
    switch_thinking(fields, row)


def _told(given: Any, switch: str) -> bool | None:
    """What a client says that sends the server's switch itself."""
    if switch == "enable_thinking":
        return None if given is None else bool(given)
    if not isinstance(given, dict):
        return None
    if switch == "template":
        wanted = given.get("enable_thinking")
        return None if wanted is None else bool(wanted)
    if switch == "thinking":
        return None if given.get("type") is None else given["type"] != "disabled"
    if given.get("enabled") is False or given.get("effort") == "none":
        return False
    return True if {"enabled", "effort", "max_tokens"} & given.keys() else None


def _nearest_effort(fields: dict[str, Any], row: Row) -> None:
    """The word that the server knows and that lies nearest, the smaller of two. Whoever wants thinking does not get
    `none` for it; whoever wants none where that is unknown gets the least."""
    effort = msgspec.json.decode(fields["reasoning_effort"])
    if effort in row.efforts or effort not in EFFORTS:
        return
    wanted = EFFORTS.index(effort)
    known = [place for place, word in enumerate(EFFORTS) if word in row.efforts and (word != "none" or not wanted)]
    if known:
        fields["reasoning_effort"] = EFFORTS[min(known, key=lambda place: abs(place - wanted))]
    else:
        del fields["reasoning_effort"]
