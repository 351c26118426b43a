"""A whole answer: the JSON body of a non-streamed call -> one `Answer`.

Source: https://platform.openai.com/docs/api-reference/chat/object
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import Answer, AnswerMessage, Choice, Fields, ToolCall
from xrouter.core.errors import ProviderUnavailable, UpstreamError

from .errors import unlisted
from .finish import BROKEN, finish_reason
from .json_fields import (
    as_fields,
    as_fields_list,
    checked,
    content_text,
    integer,
    is_null,
    take_fields,
    text,
)
from .plain import text_answer
from .reading import Reading
from .text import Called, Piece, ThinkTags, Thought, ToolCallTags, json_text
from .usage import read_usage

_NONE = Raw(b"[]")


def read_answer(provider: str, body: bytes, in_band: Callable[[Any], UpstreamError], reading: Reading) -> Answer:
    """The answer in `body`. Raises `UpstreamError`: one inside the body, or a body that is no answer."""
    if (plain := text_answer(body, reading)) is not None:
        return plain
    try:
        if body.lstrip()[:1] == b"[":  # an error in a list
            body = msgspec.json.encode(unlisted(msgspec.json.decode(body)))
        top = as_fields(body)
        if not is_null(top.get("error")) or ("choices" not in top and "message" in top):
            raise in_band(msgspec.json.decode(body))
        choices = as_fields_list(top.pop("choices", _NONE))
        answer = Answer(
            choices=tuple(_choice(choice, place, reading) for place, choice in enumerate(choices)),
            usage=read_usage(top.pop("usage", None)),
            model=text(top.pop("model", None)) or None,
            extra=_extra(top, "id", "object", "created"),
        )
    except (ValueError, RecursionError) as error:
        raise ProviderUnavailable(f"{provider} answered a broken body: {error}", provider=provider) from None
    if not answer.choices:
        raise ProviderUnavailable(f"{provider} answered without a choice", provider=provider)
    for choice in answer.choices:
        if choice.native_finish_reason in BROKEN:
            raise ProviderUnavailable(
                f"{provider} broke off its answer: finish reason {choice.native_finish_reason}", provider=provider
            )
    return answer


def _choice(choice: Fields, place: int, reading: Reading) -> Choice:
    index = integer(choice.pop("index")) if "index" in choice else place
    native = text(choice.pop("finish_reason", None)) or None
    logprobs = choice.pop("logprobs", None)
    said = choice.pop("text", None)  # `/completions`
    message_fields = take_fields(choice, "message") if said is None else {"content": said}
    message, called_in_text = _message(message_fields, index, native, reading)
    reason = finish_reason(native) if native else "stop"  # a whole body came, so the answer is whole
    if message.tool_calls and (native is None or (called_in_text and reason == "stop")):
        reason = "tool_calls"
    return Choice(
        index=index,
        message=message,
        finish_reason=reason,
        native_finish_reason=native,
        logprobs=None if is_null(logprobs) else (checked({"": logprobs}) or {})[""].copy(),  # type: ignore[dict-item]  # not None
        extra=_extra(choice),
    )


def _message(message: Fields, index: int, native: str | None, reading: Reading) -> tuple[AnswerMessage, bool]:
    """The message, and whether a call was found in its text."""
    message.pop("role", None)
    content_raw = message.pop("content", None)
    said, thought = content_text(content_raw)
    newer, older = message.pop("reasoning", None), message.pop("reasoning_content", None)
    if reading.reasoning_field and not is_null(own := message.pop(reading.reasoning_field, None)):
        newer = own
    thought = text(newer) or text(older) or thought
    calls = _tool_calls(message, index, reading)
    called_in_text = False
    if reading.think_tags and not thought:
        thought, said = _part_thinking(said, native, reading)
    if reading.tool_call_tags and not calls:
        said, calls = _part_calls(said, index, reading)
        called_in_text = bool(calls)
    if reading.may_be_misfiled and thought and not said and not calls and native in ("stop", None):
        said, thought = thought, ""
    empty = None if calls or is_null(content_raw) else ""
    return (
        AnswerMessage(
            content=said or empty,
            tool_calls=calls,
            reasoning=thought or None,
            refusal=text(message.pop("refusal", None)) or None,
            extra=_extra(message),
        ),
        called_in_text,
    )


def _tool_calls(message: Fields, index: int, reading: Reading) -> tuple[ToolCall, ...]:
    raw, legacy = message.pop("tool_calls", None), message.pop("function_call", None)
    items = [] if is_null(raw) else as_fields_list(raw)  # type: ignore[arg-type]  # not None
    if not items and not is_null(legacy):
        items = [{"function": legacy}]  # type: ignore[dict-item]  # not None
    calls = []
    for place, item in enumerate(items):
        item.pop("index", None)
        kind = text(item.pop("type", None)) or "function"
        call_id = text(item.pop("id", None)) or f"{reading.call_ids}_{index}_{place}"
        body = take_fields(item, kind if kind == "custom" else "function")
        name = text(body.pop("name", None))
        arguments = json_text(body.pop("input" if kind == "custom" else "arguments", None))
        calls.append(ToolCall(call_id, name, arguments, kind, _extra({**item, **body})))
    return tuple(calls)


def _part_thinking(said: str, native: str | None, reading: Reading) -> tuple[str, str]:
    """(reasoning, answer) of a text with tags. Here the whole text is known, so a lone closing tag tells that
    the template has prefilled the opening one; without any tag nothing was thought aloud."""
    closes_only = "</think>" in said and not said.lstrip().startswith("<think>")
    if closes_only and reading.may_be_misfiled and reading.think_tags == "inline":
        closes_only = False  # thinking is off: the model speaks of the tag
    cut_short = reading.think_tags == "prefilled" and "</think>" not in said and native == "length"
    tags = ThinkTags(prefilled=closes_only or cut_short)
    pieces: list[Piece] = [*tags.feed(said), *tags.end()]
    thought = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    return thought, "".join(piece for piece in pieces if isinstance(piece, str))


def _part_calls(said: str, index: int, reading: Reading) -> tuple[str, tuple[ToolCall, ...]]:
    tags = ToolCallTags()
    pieces: list[Piece] = [*tags.feed(said), *tags.end()]
    found = [piece for piece in pieces if isinstance(piece, Called)]
    calls = tuple(
        ToolCall(f"{reading.call_ids}_{index}_{place}", call.name, call.arguments) for place, call in enumerate(found)
    )
    return "".join(piece for piece in pieces if isinstance(piece, str)), calls


def _extra(fields: Fields, *ours: str) -> Fields | None:
    """What is left, as copies: a `Raw` would keep the whole body in memory."""
    for name in ours:
        fields.pop(name, None)
    return {name: raw.copy() for name, raw in (checked(fields) or {}).items()} or None
