"""Functions, hosted tools and the choice among them in this vendor's words."""

import re
from typing import Any, Final

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid

# The vendor's own tools, which run on its side: a client may name a version itself (web_search_20250305).
_OWN_TOOL = re.compile(r"[a-z][a-z_]*_20\d{6}")
# OpenAI's search in all its versions: https://platform.openai.com/docs/guides/tools-web-search
_SEARCH = re.compile(r"web_search(_preview)?(_20\d\d_\d\d_\d\d)?")
_OUR_SEARCH: Final = {"type": "web_search_20250305", "name": "web_search"}
_SEARCH_FIELDS: Final = frozenset({"type", "user_location", "filters"})
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def tools_of(request: ChatRequest, called: tuple[str, ...], dropped: list[str]) -> dict[str, Any]:
    """`tools` and `tool_choice` of the body; empty where there are none. A conversation with calls needs the functions
    that were `called`, even if none may be called any more. What a hosted tool has no word for is added to `dropped`.
    Raises `Invalid`."""
    given = request.field("tools")
    if not given:
        offered = [{"name": name, "input_schema": _NO_ARGUMENTS} for name in called]
        return {"tools": offered, "tool_choice": {"type": "none"}} if offered else {}
    tools = [_tool(tool, f"tools[{place}]", dropped) for place, tool in enumerate(given)]
    choice = request.field("tool_choice")
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


def _tool(tool: dict[str, Any], place: str, dropped: list[str]) -> dict[str, Any]:
    kind = tool.get("type", "function")
    if kind != "function":
        return _hosted(tool, kind, place, dropped)
    function = tool["function"]
    found = {"name": function["name"], "input_schema": function.get("parameters") or _NO_ARGUMENTS}
    if function.get("description"):
        found["description"] = function["description"]
    if function.get("strict") is not None:
        found["strict"] = function["strict"]
    if "type" not in found["input_schema"]:
        found["input_schema"] = {**found["input_schema"], "type": "object"}
    return found


def _hosted(tool: dict[str, Any], kind: str, place: str, dropped: list[str]) -> dict[str, Any]:
    """A tool that runs at the vendor: OpenAI's search becomes the vendor's, the vendor's own stay as they are."""
    if _OWN_TOOL.fullmatch(kind) and isinstance(tool.get("name"), str):
        return tool
    if not _SEARCH.fullmatch(kind):
        raise Invalid(
            f"This model has no tool of the type '{kind}', only functions, web_search, and the vendor's own tools "
            "by version and name.",
            param=f"{place}.type",
        )
    dropped += [f"{place}.{name}" for name in tool if name not in _SEARCH_FIELDS and tool[name] is not None]
    found: dict[str, Any] = dict(_OUR_SEARCH)
    filters = tool.get("filters") or {}
    if not isinstance(filters, dict):
        raise Invalid("The filters of a search must be an object.", param=f"{place}.filters")
    domains = {name: filters[name] for name in ("allowed_domains", "blocked_domains") if filters.get(name)}
    if len(domains) > 1:
        raise Invalid("This model's search allows some domains or blocks some, not both.", param=f"{place}.filters")
    location = _location(tool.get("user_location"))
    return found | domains | ({"user_location": location} if location else {})


def _location(given: Any) -> dict[str, Any]:
    """Where the user is, in the flat form of both vendors or under `approximate`, as OpenAI's first search had it."""
    if not isinstance(given, dict):
        return {}
    inner = given.get("approximate")
    where = inner if isinstance(inner, dict) else given
    known = {name: where[name] for name in ("city", "region", "country", "timezone") if where.get(name)}
    return {"type": "approximate", **known} if known else {}


def _choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        return {"type": {"required": "any"}.get(choice, choice)}
    return {"type": "tool", "name": _name(choice)}


def _name(tool: Any) -> Any:
    """What a tool is called in `tools`: a function by its name, a hosted search as the vendor calls it."""
    if not isinstance(tool, dict):
        return None
    if _SEARCH.fullmatch(str(tool.get("type"))):
        return _OUR_SEARCH["name"]
    return (tool.get("function") or tool).get("name")
