"""What the Messages API accepts, and its words for what it does not.

https://docs.anthropic.com/en/api/messages
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from xrouter.simulators import continuing, speech
from xrouter.simulators.answers import Question, Tool
from xrouter.simulators.desk import Refusal

OLD_VERSION: Final = "2023-06-01"
_KNOWN: Final = frozenset(
    (
        "model", "max_tokens", "messages", "system", "stream", "stop_sequences", "tools", "tool_choice", "thinking",
        "output_config", "metadata", "service_tier", "speed", "cache_control", "container", "diagnostics",
        "inference_geo", "user_profile_id", "workspace_id",
    )
)  # fmt: skip
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_OWN_TOOLS: Final = {"web_search_20250305": "web_search"}
_SEARCH_FIELDS: Final = frozenset(
    ("type", "name", "max_uses", "allowed_domains", "blocked_domains", "user_location", "cache_control")
)
_ID = re.compile(r"[A-Za-z0-9_-]+")
_LEAST_BUDGET: Final = 1024


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """A request that passed. `cached` names what the client wants to be kept, None for nothing; `searches`: the vendor
    looks in the web first."""

    question: Question
    prompt_tokens: int
    stream: bool
    max_tokens: int
    stops: list[str]
    cached: str | None
    searches: bool = False
    likeness: dict[str, Any] = field(default_factory=dict)


def bad_request(message: str) -> Refusal:
    """400 in the vendor's words."""
    return Refusal(400, message)


def signature_of(thinking: str) -> str:
    """The seal on a piece of thinking, without which it is not taken back."""
    return hashlib.blake2b(thinking.encode(), digest_size=24, person=b"claude").hexdigest()


def read(data: dict[str, Any], model: str, version: str) -> MessagesRequest:
    """Check a request body. Raises `Refusal` 400."""
    _check_fields(data, version)
    cap = data.get("max_tokens")
    if not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        raise bad_request("max_tokens: Field required" if cap is None else "max_tokens: Input should be at least 1")
    tools = _tools(data)
    thinking = _thinks(data, cap)
    messages = _messages(data, tools, thinking=thinking)
    begun = messages[-1]["role"] == "assistant" and bool(_text(messages[-1]))
    if begun and thinking:
        raise bad_request("When `thinking` is enabled, the final message must not be one of the assistant.")
    messages, said, exact = continuing.part(messages, _text, exact=begun and len(messages) > 1)
    results = _results(messages)
    last = messages[-1]
    question = Question(
        user_text=next((_text(one) for one in reversed(messages) if one["role"] == "user" and _text(one)), ""),
        results=results,
        ends_with_user=last["role"] == "user" and not results,
        tools=tools,
        call=_choice(data, tools, thinking=thinking),
        parallel=not (data.get("tool_choice") or {}).get("disable_parallel_tool_use"),
        json_schema=_schema(data),
        json_please="JSON object" in _plain(data.get("system")),
        thinking=thinking,
        said=said,
        exact=exact,
    )
    count = count_tokens(data)
    keys = ("system", "messages", "tools", "tool_choice", "output_config")
    return MessagesRequest(
        question,
        prompt_tokens=count,
        stream=bool(data.get("stream")),
        max_tokens=cap,
        stops=_stops(data.get("stop_sequences")),
        cached=_cached(data),
        searches=_searches(data, question),
        likeness={
            "model": model,
            "thinking": thinking,
            **{key: data[key] for key in keys if key in data},
            "messages": messages,
        },
    )


def count_tokens(data: dict[str, Any]) -> int:
    """The tokens of system, messages and tools. Raises `Refusal` 400 where there are no messages."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages: at least one message is required")
    said = [data.get("system"), *(message.get("content") for message in messages if isinstance(message, dict))]
    tools = data.get("tools")
    text = sum(speech.tokens(_plain(content) + _calls(content)) for content in said) + 3 * len(messages)
    return text + (speech.tokens(msgspec.json.encode(tools).decode()) if tools else 0)


def _check_fields(data: dict[str, Any], version: str) -> None:
    known = _KNOWN | (frozenset(_SAMPLING) if version <= OLD_VERSION else frozenset())
    for name in data:
        if name not in known:
            raise bad_request(f"{name}: Extra inputs are not permitted")
    temperature = data.get("temperature")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 1):
        raise bad_request("temperature: range: 0..1")


def _thinks(data: dict[str, Any], cap: int) -> bool:
    wanted = data.get("thinking") or {"type": "disabled"}
    kind = wanted.get("type")
    if kind == "enabled":
        budget = wanted.get("budget_tokens")
        if not isinstance(budget, int) or budget < _LEAST_BUDGET:
            raise bad_request("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= cap:
            raise bad_request("`max_tokens` must be greater than `thinking.budget_tokens`.")
        if data.get("temperature") not in (None, 1):
            raise bad_request("`temperature` may only be set to 1 when thinking is enabled.")
    elif kind not in ("disabled", "adaptive", "between_tools"):
        raise bad_request("thinking: Input tag should be 'enabled', 'disabled', 'adaptive' or 'between_tools'")
    return bool(kind != "disabled")


def _messages(data: dict[str, Any], tools: list[Tool], *, thinking: bool) -> list[dict[str, Any]]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages: at least one message is required")
    open_calls: list[str] = []
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant"):
            raise bad_request(f"messages.{place}.role: Input should be 'user' or 'assistant'")
        if not place and role != "user":
            raise bad_request('messages: first message must use the "user" role')
        blocks = _blocks(message, place)
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if open_calls and set(open_calls) - set(answered):
            raise bad_request(
                f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(open_calls)}"
            )
        if set(answered) - set(open_calls):
            raise bad_request(f"messages.{place}.content.0: unexpected `tool_use_id` found in `tool_result` blocks")
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if (open_calls or answered) and not tools:
            raise bad_request("Requests which include `tool_use` or `tool_result` blocks must define tools.")
    if thinking and _results(messages):
        _check_loop(messages)
    last = messages[-1]
    if last["role"] == "assistant" and _text(last) != _text(last).rstrip():
        raise bad_request("messages: final assistant content cannot end with trailing whitespace")
    return messages


def _check_loop(messages: list[dict[str, Any]]) -> None:
    """A model that thinks wants its thinking back before the calls that came of it."""
    place = len(messages) - 2
    first = messages[place]["content"][0]
    if first["type"] not in ("thinking", "redacted_thinking"):
        raise bad_request(
            f"messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{first['type']}`. When `thinking` is enabled, a final `assistant` message must start with one."
        )


def _blocks(message: dict[str, Any], place: int) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        if not content:
            raise bad_request("messages: text content blocks must be non-empty")
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise bad_request(f"messages.{place}.content: Input should be a valid list")
    for number, block in enumerate(content):
        _check_block(block, f"messages.{place}.content.{number}")
    return content


def _check_block(block: Any, place: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text":
        if not isinstance(block.get("text"), str) or not block["text"]:
            raise bad_request("messages: text content blocks must be non-empty")
    elif kind == "tool_use":
        if not _ID.fullmatch(str(block.get("id"))):
            raise bad_request(f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(block.get("input"), dict):
            raise bad_request(f"{place}.tool_use.input: Input should be a valid dictionary")
    elif kind == "thinking":
        if block.get("signature") != signature_of(str(block.get("thinking"))):
            raise bad_request(f"{place}: Invalid `signature` in `thinking` block")
    elif kind in ("image", "document"):
        source = block.get("source")
        if not isinstance(source, dict) or source.get("type") not in ("base64", "url", "file", "text"):
            raise bad_request(f"{place}.{kind}.source: Field required")
    elif kind not in ("tool_result", "redacted_thinking"):
        raise bad_request(f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags")


def _tools(data: dict[str, Any]) -> list[Tool]:
    found = []
    for place, tool in enumerate(data.get("tools") or ()):
        kind = tool.get("type", "custom")
        if kind != "custom":
            _check_own(tool, kind, place)
            continue
        if not isinstance(tool.get("name"), str) or (tool.get("input_schema") or {}).get("type") != "object":
            raise bad_request(f"tools.{place}.custom.input_schema.type: Field required")
        found.append(Tool(tool["name"], tool["input_schema"]))
    return found


def _check_own(tool: dict[str, Any], kind: str, place: int) -> None:
    """A tool of the vendor's, by its version."""
    if kind not in _OWN_TOOLS:
        raise bad_request(
            f"tools.{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        )
    if tool.get("name") != _OWN_TOOLS[kind]:
        raise bad_request(f"tools.{place}.{kind}.name: Input should be '{_OWN_TOOLS[kind]}'")
    for name in tool:
        if name not in _SEARCH_FIELDS:
            raise bad_request(f"tools.{place}.{kind}.{name}: Extra inputs are not permitted")
    location = tool.get("user_location")
    if location is not None and location.get("type") != "approximate":
        raise bad_request(f"tools.{place}.{kind}.user_location.type: Input should be 'approximate'")


def _searches(data: dict[str, Any], question: Question) -> bool:
    offered = any(tool.get("type") in _OWN_TOOLS for tool in data.get("tools") or ())
    asks = any(word in question.user_text.casefold() for word in ("search", "найди"))
    return offered and asks and question.call != "none" and not question.results


def _choice(data: dict[str, Any], tools: list[Tool], *, thinking: bool) -> str:
    choice = data.get("tool_choice") or {"type": "auto"}
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise bad_request("tool_choice: Input tag should be 'auto', 'any', 'tool' or 'none'")
    if data.get("tool_choice") and not data.get("tools"):
        raise bad_request("tool_choice: may only be specified while providing tools")
    if thinking and kind in ("any", "tool"):
        raise bad_request("Thinking may not be enabled when tool_choice forces tool use.")
    if kind == "tool":
        if choice.get("name") not in [tool.name for tool in tools]:
            raise bad_request(f"Tool '{choice.get('name')}' not found in provided tools")
        return str(choice["name"])
    return "required" if kind == "any" else str(kind)


def _results(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The tool results in the last message, each with the name of the function that was called."""
    names = {
        block["id"]: block["name"]
        for message in messages
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_use"
    }
    last = messages[-1]
    if last["role"] != "user" or not isinstance(last["content"], list):
        return []
    return [
        (names.get(block["tool_use_id"], "tool"), _plain(block.get("content")))
        for block in last["content"]
        if block["type"] == "tool_result"
    ]


def _schema(data: dict[str, Any]) -> object:
    wanted = (data.get("output_config") or {}).get("format")
    if wanted is None:
        return None
    if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
        raise bad_request("output_config.format: Input should be a json_schema with a schema")
    return wanted["schema"]


def _stops(given: object) -> list[str]:
    stops = [] if given is None else given
    if not isinstance(stops, list) or not all(isinstance(one, str) and one.strip() for one in stops):
        raise bad_request("stop_sequences: each stop sequence must contain non-whitespace")
    return stops


def _cached(data: dict[str, Any]) -> str | None:
    marked = b'"cache_control"' in msgspec.json.encode(data)
    return msgspec.json.encode([data.get("system"), data.get("tools"), data["messages"]]).decode() if marked else None


def _text(message: dict[str, Any]) -> str:
    return _plain(message.get("content"))


def _plain(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(block.get("text", "") for block in content if block.get("type") == "text")
    return content if isinstance(content, str) else ""


def _calls(content: object) -> str:
    """What else a message holds, as text to be counted."""
    if not isinstance(content, list):
        return ""
    return "".join(
        _plain(block.get("content")) if block.get("type") == "tool_result" else str(block.get("input", ""))
        for block in content
        if isinstance(block, dict)
    )
