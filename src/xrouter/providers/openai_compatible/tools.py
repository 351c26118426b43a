"""Tools and the choice among them, where a server knows less than OpenAI."""

from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.errors import Invalid

from .rows import Row

_NULL = Raw(b"null")


def mend_tools(fields: dict[str, Any], row: Row) -> None:
    """`tools` and `tool_choice` in the server's words, in place. Raises `Invalid` for a tool that it cannot offer."""
    if row.functions_only and fields.get("tools", _NULL) != _NULL:
        _check_tools(fields["tools"])
    raw = fields.get("tool_choice", _NULL)
    if raw == _NULL:
        return
    choice = msgspec.json.decode(raw)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools" and not row.allowed_tools:
        choice = fields["tool_choice"] = _allow(fields, choice.get("allowed_tools", choice))
    if choice == "required" != row.required_word:
        fields["tool_choice"] = row.required_word


def _check_tools(raw: Raw) -> None:
    for place, tool in enumerate(msgspec.json.decode(raw)):
        kind = tool.get("type", "function")
        if kind != "function":
            raise Invalid(
                f"This model offers functions only; it has no tool of the type '{kind}'.",
                param=f"tools[{place}].type",
            )


def _allow(fields: dict[str, Any], allowed: dict[str, Any]) -> str:
    """Leave only the allowed tools in `fields`; gives the mode."""
    names = {_name(tool) for tool in allowed.get("tools") or ()}
    offered = msgspec.json.decode(fields.get("tools", _NULL)) or []
    kept = [tool for tool in offered if _name(tool) in names]
    if not kept:
        raise Invalid("'tool_choice' allows no tool that 'tools' offers.", param="tool_choice")
    fields["tools"] = kept
    return "required" if allowed.get("mode") == "required" else "auto"


def _name(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return None
    return (tool.get("function") or tool.get("custom") or tool).get("name")
