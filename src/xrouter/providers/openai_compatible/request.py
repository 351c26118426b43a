"""`ChatRequest` -> the body of a POST, with the fields that no quirk touches as the bytes that came."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid

from .json_fields import as_fields_list
from .messages import lacks_reasoning, mend_messages
from .rows import Row, fits
from .thinking import stop_thinking, switch_thinking
from .tools import mend_tools

# https://platform.openai.com/docs/api-reference/chat/create, without those that we set ourselves.
_OPENAI_FIELDS = frozenset(
    {
        "audio", "frequency_penalty", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "moderation", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed",
        "service_tier", "stop", "store", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
        "verbosity", "web_search_options",
    }
)  # fmt: skip
# https://platform.openai.com/docs/api-reference/completions/create, what a chat request can hold of it.
_COMPLETION_FIELDS = frozenset(
    {
        "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "n", "presence_penalty", "seed",
        "stop", "temperature", "top_p", "user",
    }
)  # fmt: skip
_OURS = frozenset({"model", "models", "stream", "stream_options"})
_ABOUT_TOOLS = frozenset({"tools", "tool_choice"})
_NULL = Raw(b"null")
_TRUE = Raw(b"true")
_USAGE_PLEASE = Raw(b'{"include_usage":true}')

_encode = msgspec.json.Encoder().encode


class UpstreamRequest(Struct, frozen=True):
    """What goes out to `path`. `thinking` is False only where it was switched off; `dropped` names parameters;
    `stream` says how the server is asked, which may be another way than the client asked us."""

    body: bytes
    dropped: tuple[str, ...]
    thinking: bool | None
    offers_tools: bool
    stream: bool = False
    path: str = "chat/completions"


def parameters(row: Row) -> frozenset[str]:
    """The names of the parameters that such a server follows."""
    return ((_OPENAI_FIELDS - {"messages"}) | row.extras) - row.drop


def upstream_request(request: ChatRequest, model: str, row: Row) -> UpstreamRequest:
    """The body for one server. Decodes a field only where a quirk of `row` needs it. Raises `Invalid` for what the
    server cannot do and what cannot be left out either."""
    as_text = request.prompt is not None and row.completions
    stream = request.stream or (bool(row.stream_only) and fits(model, row.stream_only))
    fields: dict[str, Any] = {"model": model.removeprefix(row.model_prefix), "stream": stream}
    dropped = _take(request, fields, _COMPLETION_FIELDS if as_text else _OPENAI_FIELDS, row)
    if as_text:
        fields["prompt"] = request.prompt
    if stream and row.stream_usage:
        fields["stream_options"] = _USAGE_PLEASE
    if (as_text or row.max_tokens_only) and (cap := fields.pop("max_completion_tokens", _NULL)) != _NULL:
        fields["max_tokens"] = cap
    if "top_logprobs" in fields and fields.get("logprobs") != _TRUE:  # refused by most, and means nothing to the rest
        del fields["top_logprobs"]
        dropped.append("top_logprobs")
    thinking = None if as_text else _think(fields, dropped, row)
    if request.prefilled and row.thinking_switch:  # it has thought before
        stop_thinking(fields, row)
        thinking = False
    if "messages" in fields:
        fields["messages"] = mend_messages(fields["messages"], row)
        if request.prefilled:
            _go_on(fields, row)
    if not _ABOUT_TOOLS.isdisjoint(fields):
        mend_tools(fields, row)
    for name, theirs in row.rename.items():
        if name in fields:
            fields[theirs] = fields.pop(name)
    offers_tools = fields.get("tools", _NULL) != _NULL
    path = "completions" if as_text else "chat/completions"
    return UpstreamRequest(_encode(fields), tuple(dropped), thinking, offers_tools, stream, path)


def _take(request: ChatRequest, fields: dict[str, Any], known: frozenset[str], row: Row) -> list[str]:
    """Move what may pass into `fields`; gives the names of what may not."""
    dropped = []
    for name, raw in request.fields.items():
        if name in _OURS or (name == "messages" and name not in known):
            continue
        if name in row.drop or not (name in known or name in row.extras):
            if name == "modalities" and raw != _NULL:
                _check_modalities(raw)  # text alone is what every model does
            elif raw != _NULL:
                dropped.append(name)
        else:
            fields[name] = raw
    return dropped


def _go_on(fields: dict[str, Any], row: Row) -> None:
    """The last message is the beginning of the answer."""
    if row.prefill == "template":
        fields |= {"add_generation_prompt": False, "continue_final_message": True}
    elif row.prefill != "plain":
        messages = fields["messages"]
        messages = as_fields_list(messages) if isinstance(messages, Raw) else messages
        fields["messages"] = [*messages[:-1], {**messages[-1], row.prefill: True}]


def _check_modalities(raw: Raw) -> None:
    other = [kind for kind in msgspec.json.decode(raw) if kind != "text"]
    if other:
        raise Invalid(f"This model answers with text only, not with {other[0]}.", param="modalities")


def _think(fields: dict[str, Any], dropped: list[str], row: Row) -> bool | None:
    if row.reasoning_back != "keep":
        return switch_thinking(fields, row)
    asked = [name for name in ("reasoning_effort", row.thinking_switch) if name in fields]
    thinking = switch_thinking(fields, row)
    if thinking and "messages" in fields and lacks_reasoning(fields["messages"]):
        stop_thinking(fields, row)
        dropped += asked
        return False
    return thinking
