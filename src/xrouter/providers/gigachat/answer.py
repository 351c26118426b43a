"""GigaChat's answers -> events: one whole body, or the payloads of a stream.

The vendor has no ids, no parallel calls and an object where OpenAI has the text of arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    Choice,
    Delta,
    Event,
    Fields,
    Finish,
    FinishReason,
    Reasoning,
    Start,
    ToolCall,
    ToolDelta,
    Usage,
)
from xrouter.core.errors import ProviderUnavailable, UpstreamError
from xrouter.core.stops import StopCutter

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "function_call": "tool_calls",
    "blacklist": "content_filter",
}
_MOST_TOKENS = 1_000_000_000
_OURS = ("id", "object", "created")
_NULL = Raw(b"null")

_as_fields = msgspec.json.Decoder(Fields).decode
_as_list = msgspec.json.Decoder(list[Fields]).decode
_as_text = msgspec.json.Decoder(str | None).decode


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request leaves to know for its answer. `names` leads from the vendor's function names to the
    client's; `call_ids` begins the ids of calls; `stops` end the text."""

    provider: str
    in_band: Callable[[Any], UpstreamError]
    call_ids: str
    names: Mapping[str, str] = field(default_factory=dict)
    stops: tuple[str, ...] = ()

    def broken(self, what: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.provider} {what}", provider=self.provider)


def read_answer(body: bytes, reading: Reading) -> Answer:
    """The whole answer. Raises `UpstreamError`."""
    try:
        top = _as_fields(body)
        choices = _choices(top, reading)
        usage = read_usage(top.pop("usage", None))
        model = _text(top.pop("model", None)) or None
        answers = tuple(_choice(choice, place, reading) for place, choice in enumerate(choices))
        extra = _extra(top, _OURS)
    except (ValueError, RecursionError) as error:
        raise reading.broken(f"answered a broken body: {error}") from None
    if not answers:
        raise reading.broken("answered without a choice")
    return Answer(answers, usage, model, extra)


class StreamReader:
    """One stream. `done` when nothing more is to be read: after `[DONE]`, or `cut_short` by a stop sequence."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._stops = StopCutter(reading.stops)
        self._started = False
        self._calls = 0
        self.complete = False
        self.done = False
        self.cut_short = False

    def read(self, data: bytes) -> list[Event]:
        """The events of one payload. Raises `UpstreamError`."""
        if data.startswith(b"[DONE]"):
            self.done = True
            return []
        events: list[Event] = []
        try:
            top = _as_fields(data)
            choices = _choices(top, self._reading)
            report = read_usage(top.pop("usage", None))
            if not self._started:
                self._started = True
                model = _text(top.pop("model", None)) or None
                events.append(Start(model, _extra(top, _OURS)))
            for choice in choices:
                self._choice(choice, events)
        except (ValueError, RecursionError) as error:
            raise self._reading.broken(f"sent a broken chunk: {type(error).__name__}") from None
        if report is not None:
            events.append(report)
        return events

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless the answer was finished."""
        if not self._started:
            raise self._reading.broken("ended its stream without an answer")
        if not self.complete:
            raise self._reading.broken("ended its stream before the answer was finished")

    def _choice(self, choice: Fields, events: list[Event]) -> None:
        if self.complete:
            return
        delta_raw, native = choice.pop("delta", None), _text(choice.pop("finish_reason", None))
        choice.pop("index", None)
        delta = {} if delta_raw is None or delta_raw == _NULL else _as_fields(delta_raw)
        role = _text(delta.pop("role", None))
        if role in ("", "assistant"):  # else a built-in function tells how long it will take
            self._delta(delta, events)
        if native and not self.complete:
            rest = self._stops.end()
            if rest:
                events.append(Delta(rest))
            self.complete = True
            events.append(Finish(finish_reason(native, self._reading), 0, native, _extra(choice)))

    def _delta(self, delta: Fields, events: list[Event]) -> None:
        thought = _text(delta.pop("reasoning_content", None))
        said = _text(delta.pop("content", None))
        call = delta.pop("function_call", None)
        if thought:
            events.append(Reasoning(thought))
        if said:
            shown = self._stops.feed(said)
            if shown:
                events.append(Delta(shown))
            if self._stops.hit:
                self.complete = self.done = self.cut_short = True
                events.append(Finish("stop"))
                return
        extra = _extra(delta)
        if call is not None and call != _NULL:
            rest = self._stops.end()
            if rest:
                events.append(Delta(rest))
            name, arguments = _function_call(call, self._reading)
            call_id = f"{self._reading.call_ids}_{self._calls}"
            events.append(ToolDelta(self._calls, call_id, name, arguments, extra=extra))
            self._calls += 1
        elif extra:
            events.append(Delta("", extra=extra))


def finish_reason(native: str, reading: Reading) -> FinishReason:
    """Ours for the vendor's. `error` (the model wrote arguments that are none) is the vendor's failure."""
    if native == "error":
        raise reading.broken("broke off its answer: the model produced an invalid function call")
    return _FINISH.get(native, "stop")


def read_usage(raw: Raw | None) -> Usage | None:
    """Tokens as reported; None where the report is absent or absurd, then the gateway estimates.

    `prompt_tokens` leaves out the cached ones already (`precached_prompt_tokens` are free and come on top), so
    what is billed is the price of `prompt_tokens`, and the cached count must not lower it again: it is told to
    the client, cut to the input, and no price table here has a price for it.
    """
    try:
        found = None if raw is None else msgspec.json.decode(raw)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    prompt, completion = _count(found.pop("prompt_tokens", None)), _count(found.pop("completion_tokens", None))
    if prompt is None or completion is None:
        return None
    cached = _count(found.get("precached_prompt_tokens")) or 0
    found.pop("total_tokens", None)
    extra = {name: Raw(msgspec.json.encode(value)) for name, value in found.items()}
    return Usage(prompt, completion, cached_tokens=min(cached, prompt), extra=extra or None)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _choices(top: Fields, reading: Reading) -> list[Fields]:
    """The choices of a body or chunk; a body without them is an error that came with status 200."""
    raw = top.pop("choices", None)
    if raw is None or raw == _NULL:
        if "usage" in top and "message" not in top and "error" not in top:
            return []
        raise reading.in_band(msgspec.json.decode(msgspec.json.encode(top)))
    return _as_list(raw)


def _choice(choice: Fields, place: int, reading: Reading) -> Choice:
    raw, native = choice.pop("message", None), _text(choice.pop("finish_reason", None)) or None
    choice.pop("index", None)
    message = {} if raw is None else _as_fields(raw)
    message.pop("role", None)
    said, thought = _text(message.pop("content", None)), _text(message.pop("reasoning_content", None))
    call = message.pop("function_call", None)
    calls: tuple[ToolCall, ...] = ()
    if call is not None and call != _NULL:
        name, arguments = _function_call(call, reading)
        calls = (ToolCall(f"{reading.call_ids}_{place}", name, arguments),)
    cutter = StopCutter(reading.stops)
    said = cutter.feed(said) + cutter.end()
    reason = finish_reason(native, reading) if native else ("tool_calls" if calls else "stop")
    return Choice(
        index=place,
        message=AnswerMessage(
            content=said or (None if calls else ""),
            tool_calls=calls,
            reasoning=thought or None,
            extra=_extra(message),
        ),
        finish_reason="stop" if cutter.hit else reason,
        native_finish_reason=native,
        extra=_extra(choice),
    )


def _function_call(raw: Raw, reading: Reading) -> tuple[str, str]:
    """(the client's name, arguments as JSON text)."""
    call = _as_fields(raw)
    name = _text(call.get("name"))
    if not name:
        raise ValueError("a function call without a name")
    arguments = call.get("arguments", Raw(b"{}"))
    value = msgspec.json.decode(arguments)
    text = value if isinstance(value, str) else "{}" if value is None else str(arguments, "utf-8")
    return reading.names.get(name, name), text


def _text(raw: Raw | None) -> str:
    return "" if raw is None else _as_text(raw) or ""


def _extra(fields: Fields, ours: tuple[str, ...] = ()) -> Fields | None:
    """What is left, as copies in UTF-8. Raises ValueError for other bytes."""
    out = {}
    for name, raw in fields.items():
        if name not in ours and raw != _NULL:
            str(raw, "utf-8")
            out[name] = raw.copy()
    return out or None
