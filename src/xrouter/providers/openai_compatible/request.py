"""`ChatRequest` -> the body of a POST, with the fields that no quirk touches as the bytes that came."""

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from xrouter.core.chat import ChatRequest, Fields

from .rows import Row

# https://platform.openai.com/docs/api-reference/chat/create, without those that we set ourselves.
_OPENAI_FIELDS = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "moderation", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed",
        "service_tier", "stop", "store", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
        "verbosity", "web_search_options",
    }
)  # fmt: skip
_OURS = frozenset({"model", "models", "stream", "stream_options"})
_NULL = Raw(b"null")
_USAGE_PLEASE = Raw(b'{"include_usage":true}')

_encode = msgspec.json.Encoder().encode
_as_messages = msgspec.json.Decoder(list[Fields]).decode


class _Head(msgspec.Struct):
    role: str = ""


_as_heads = msgspec.json.Decoder(list[_Head]).decode


class UpstreamRequest(NamedTuple):
    """What goes out. `thinking` is False only where the client switched it off; `dropped` names parameters."""

    body: bytes
    dropped: tuple[str, ...]
    thinking: bool | None
    offers_tools: bool


def upstream_request(request: ChatRequest, model: str, row: Row) -> UpstreamRequest:
    """The body for one server. Decodes a field only where a quirk of `row` needs it."""
    fields: dict[str, Any] = {"model": model, "stream": request.stream}
    dropped = []
    for name, raw in request.fields.items():
        if name in _OURS:
            continue
        if name in row.drop or not (name in _OPENAI_FIELDS or name in row.extras):
            if raw != _NULL:
                dropped.append(name)
        else:
            fields[name] = raw
    if request.stream:
        fields["stream_options"] = _USAGE_PLEASE
    if row.max_tokens_only and (cap := fields.pop("max_completion_tokens", _NULL)) != _NULL:
        fields["max_tokens"] = cap
    thinking = _switch_thinking(fields) if row.thinking_switch else None
    if "messages" in fields and (row.system_first or not row.developer_role):
        fields["messages"] = _mend_messages(fields["messages"], row)
    offers_tools = fields.get("tools", _NULL) != _NULL or fields.get("functions", _NULL) != _NULL
    return UpstreamRequest(_encode(fields), tuple(dropped), thinking, offers_tools)


def _switch_thinking(fields: dict[str, Any]) -> bool | None:
    """`reasoning_effort` becomes the template's switch. True, False, or None where the client said nothing."""
    effort = msgspec.json.decode(fields.pop("reasoning_effort", _NULL))
    template = msgspec.json.decode(fields.get("chat_template_kwargs", _NULL))
    wanted = template.get("enable_thinking") if isinstance(template, dict) else None
    if wanted is not None:
        return bool(wanted)
    if effort is None:
        return None
    thinking: bool = effort != "none"
    fields["chat_template_kwargs"] = {**(template or {}), "enable_thinking": thinking}
    return thinking


def _mend_messages(raw: Raw, row: Row) -> Any:
    """The conversation as the server's template wants it; the same bytes where it is that already."""
    roles = [head.role for head in _as_heads(raw)]
    renamed = not row.developer_role and "developer" in roles
    system_roles = ("system", "developer") if renamed else ("system",)
    scattered = row.system_first and any(role in system_roles for role in roles[1:])
    if not renamed and not scattered:
        return raw
    messages = _as_messages(raw)
    for message, role in zip(messages, roles, strict=True):
        if role == "developer" and renamed:
            message["role"] = Raw(b'"system"')
    if not scattered:
        return messages
    systems = [message for message, role in zip(messages, roles, strict=True) if role in system_roles]
    others = [message for message, role in zip(messages, roles, strict=True) if role not in system_roles]
    return [{**systems[0], "content": _join(systems)}, *others]


def _join(messages: list[Fields]) -> str | list[Any]:
    """The contents of several messages as one: text where all are text, else a list of parts."""
    contents = [msgspec.json.decode(message.get("content", _NULL)) for message in messages]
    contents = [content for content in contents if content]
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    parts: list[Any] = []
    for content in contents:
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts
