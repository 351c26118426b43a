"""Functions and the choice among them in this vendor's words."""

import re
from typing import Any

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid

# The vendor's own tools, which run on its side: web_search_20250305.
_OWN_TOOL = re.compile(r"[a-z][a-z_]*_20\d{6}")
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def tools_of(request: ChatRequest, called: tuple[str, ...]) -> dict[str, Any]:
    """`tools` and `tool_choice` of the body; empty where there are none. A conversation with calls needs the functions
    that were `called`, even if none may be called any more. Raises `Invalid`."""
    given = request.field("tools")
    if given is None:
        given = [{"type": "function", "function": one} for one in request.field("functions") or ()]
    if not given:
        offered = [{"name": name, "input_schema": _NO_ARGUMENTS} for name in called]
        return {"tools": offered, "tool_choice": {"type": "none"}} if offered else {}
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(given)]
    choice = request.field("tool_choice")
    if choice is None:
        choice = request.field("function_call")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or choice
        names = {_name(one) for one in allowed.get("tools") or ()}
        tools = [tool for tool in tools if tool["name"] in names]
        if not tools:
            raise Invalid("'tool_choice' allows no tool that 'tools' offers.", param="tool_choice")
        choice = "required" if allowed.get("mode") == "required" else "auto"
    found: dict[str, Any] = {"tools": tools}
    theirs = _choice(choice)
    if request.field("parallel_tool_calls") is False and theirs != {"type": "none"}:
        theirs = {**(theirs or {"type": "auto"}), "disable_parallel_tool_use": True}
    return found | ({"tool_choice": theirs} if theirs else {})


def is_forced(tools: dict[str, Any]) -> bool:
    """Must the model call a function? Then it may not think."""
    return tools.get("tool_choice", {}).get("type") in ("any", "tool")


def _tool(tool: dict[str, Any], place: str) -> dict[str, Any]:
    kind = tool.get("type", "function")
    if kind != "function":
        if _OWN_TOOL.fullmatch(kind) and isinstance(tool.get("name"), str):
            return tool
        raise Invalid(f"This model has no tool of the type '{kind}'.", param=f"{place}.type")
    function = tool["function"]
    found = {"name": function["name"], "input_schema": function.get("parameters") or _NO_ARGUMENTS}
    if function.get("description"):
        found["description"] = function["description"]
    if function.get("strict") is not None:
        found["strict"] = function["strict"]
    if "type" not in found["input_schema"]:
        found["input_schema"] = {**found["input_schema"], "type": "object"}
    return found


def _choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        return {"type": {"required": "any"}.get(choice, choice)}
    return {"type": "tool", "name": _name(choice)}


def _name(tool: Any) -> Any:
    return (tool.get("function") or tool).get("name") if isinstance(tool, dict) else None
