"""Tools and the choice among them, where a server knows less than OpenAI."""

from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.errors import Invalid

from .rows import Row

_NULL = Raw(b"null")


def mend_tools(fields: dict[str, Any], row: Row) -> None:
    """`tools` and `tool_choice` in the server's words, in place. Raises `Invalid` for a tool that it cannot offer."""
    if not row.legacy_functions:
        _modernise(fields)
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


def _modernise(fields: dict[str, Any]) -> None:
    """`functions` and `function_call` as tools, unless there are tools already."""
    functions, call = fields.pop("functions", _NULL), fields.pop("function_call", _NULL)
    if functions == _NULL or "tools" in fields:
        return
    tools = [{"type": "function", "function": function} for function in msgspec.json.decode(functions, type=list[Raw])]
    fields["tools"] = Raw(msgspec.json.encode(tools))
    choice = msgspec.json.decode(call)
    if choice is not None and "tool_choice" not in fields:
        fields["tool_choice"] = Raw(
            msgspec.json.encode(choice if isinstance(choice, str) else {"type": "function", "function": choice})
        )


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
