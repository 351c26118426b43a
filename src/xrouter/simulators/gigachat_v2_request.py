"""What GigaChat's second chat contract accepts, said in the words of the first: the model behind both is one."""

from dataclasses import replace
from typing import Any, Final

import msgspec

from xrouter.simulators import gigachat_request
from xrouter.simulators.gigachat_request import ChatRequest, invalid, wants_picture

_ROLES: Final = ("system", "user", "assistant", "tool", "reasoning")
_PARTS: Final = frozenset(
    {"text", "files", "function_call", "function_result", "tool_execution", "inline_data", "logprobs"}
)
_BUILT_IN: Final = frozenset(
    {"web_search", "code_interpreter", "image_generate", "url_content_extraction", "model_3d_generate"}
)
_MODES: Final = ("auto", "none", "forced")
_EFFORTS: Final = ("low", "medium", "high", "off")
_OPTIONS: Final = ("temperature", "top_p", "max_tokens", "repetition_penalty", "update_interval")
_MAX_LOGPROBS: Final = 5


def read_v2(data: dict[str, Any], model: str) -> ChatRequest:
    """Check a request body. Raises `Refusal` 422 with the vendor's kind of message."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a non-empty array")
    if data.get("assistant_id"):
        raise invalid("assistant_id and model are mutually exclusive")
    options = data.get("model_options") or {}
    if not isinstance(options, dict):
        raise invalid("model_options must be an object")
    functions, built_in = _tools(data.get("tools") or [])
    old: dict[str, Any] = {
        "messages": [_message(index, message) for index, message in enumerate(messages)],
        "stream": data.get("stream"),
        "flags": data.get("flags"),
        **{name: options[name] for name in _OPTIONS if name in options},
    }
    if functions:
        old["functions"] = functions
    old["function_call"], forced_tool = _tool_config(data.get("tool_config"), built_in)
    if options.get("response_format") is not None:
        old["response_format"] = options["response_format"]
    effort = (options.get("reasoning") or {}).get("effort")
    if effort not in (None, *_EFFORTS):
        raise invalid("model_options.reasoning.effort must be low, medium, high or off")
    if effort not in (None, "off"):
        old["reasoning_effort"] = effort
    logprobs = options.get("top_logprobs")
    if logprobs is not None and not (type(logprobs) is int and 1 <= logprobs <= _MAX_LOGPROBS):
        raise invalid(f"model_options.top_logprobs must be in range [1, {_MAX_LOGPROBS}]")
    if data.get("disable_filter") is not None and not isinstance(data["disable_filter"], bool):
        raise invalid("disable_filter must be a boolean")
    chat = gigachat_request.read(old, model)
    text = chat.question.user_text
    draws = "image_generate" in built_in and (forced_tool == "image_generate" or wants_picture(text))
    searches = "web_search" in built_in and (forced_tool == "web_search" or _asks_to_search(text))
    return replace(
        chat, draws=draws, searches=searches, top_logprobs=logprobs or 0, likeness={**chat.likeness, "contract": 2}
    )


def _asks_to_search(text: str) -> bool:
    return any(word in text.casefold() for word in ("найди", "search", "поищи"))


def _message(index: int, message: object) -> dict[str, Any]:
    """One message in the first contract's words. The checks that both have are made there."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise invalid(f"messages[{index}].role must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if not isinstance(content, list) or not content:
        raise invalid(f"messages[{index}].content must be a non-empty array")
    role = {"tool": "function", "reasoning": "assistant"}.get(message["role"], message["role"])
    out: dict[str, Any] = {"role": role, "content": ""}
    for part in content:
        if not isinstance(part, dict) or len(part) != 1 or not _PARTS & part.keys():
            raise invalid(f"messages[{index}].content: a part has exactly one of {', '.join(sorted(_PARTS))}")
        _part(index, part, out)
    if role == "function" and "name" not in out:
        raise invalid(f"messages[{index}].content of the role tool needs a function_result")
    state = message.get("tools_state_id", message.get("functions_state_id"))
    if state is not None:
        out["functions_state_id"] = state
    return out


def _part(index: int, part: dict[str, Any], out: dict[str, Any]) -> None:
    ((kind, value),) = part.items()
    if kind == "text":
        if not isinstance(value, str):
            raise invalid(f"messages[{index}].content.text must be a string")
        out["content"] = "\n".join(filter(None, (out["content"], value)))
    elif kind == "files":
        if not isinstance(value, list) or not all(isinstance(file, dict) and "id" in file for file in value):
            raise invalid(f"messages[{index}].content.files must be an array of objects with an id")
        out["attachments"] = [*out.get("attachments", []), *(str(file["id"]) for file in value)]
    elif kind == "function_call":
        out["function_call"] = value
    elif kind == "function_result":
        if out["role"] != "function" or not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise invalid(f"messages[{index}].content.function_result belongs to the role tool and has a name")
        result = value.get("result")
        out["name"] = value["name"]
        out["content"] = msgspec.json.encode(result if isinstance(result, dict) else {"result": result}).decode()


def _tools(tools: object) -> tuple[list[Any], set[str]]:
    """The client's functions, and the built-in tools."""
    functions: list[Any] = []
    built_in: set[str] = set()
    for index, tool in enumerate(tools if isinstance(tools, list) else [None]):
        if not isinstance(tool, dict) or len(tool) != 1:
            raise invalid(f"tools[{index}] must be an object with one member")
        ((kind, value),) = tool.items()
        if kind == "functions":
            specifications = value.get("specifications") if isinstance(value, dict) else None
            if not isinstance(specifications, list):
                raise invalid(f"tools[{index}].functions.specifications must be an array")
            functions += specifications
        elif kind in _BUILT_IN:
            built_in.add(kind)
        else:
            raise invalid(f"tools[{index}]: unknown tool {kind}")
    return functions, built_in


def _tool_config(config: object, built_in: set[str]) -> tuple[object, str]:
    """`function_call` in the first contract's words, and the built-in tool that must be used."""
    if config is None:
        return "auto", ""
    mode = config.get("mode", "auto") if isinstance(config, dict) else None
    if not isinstance(config, dict) or mode not in _MODES:
        raise invalid(f"tool_config.mode must be one of {', '.join(_MODES)}")
    if mode != "forced":
        return mode, ""
    name, tool = config.get("function_name"), config.get("tool_name")
    if (name is None) is (tool is None):
        raise invalid("tool_config: forced needs a function_name or a tool_name")
    if tool is not None and tool not in built_in:
        raise invalid(f"tool_config.tool_name {tool} is not in tools")
    return ("auto", str(tool)) if tool is not None else ({"name": name}, "")
