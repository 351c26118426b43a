"""GigaChat's answers -> events: one whole body, or the payloads of a stream. Contract v1.

The vendor has no ids, no parallel calls and an object where OpenAI has the text of arguments.
"""

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
    Reasoning,
    Start,
    ToolCall,
    ToolDelta,
)

from .call_ids import call_id
from .reading import NULL, AnswerText, Reading, as_fields, as_list, extra_of, function_call, read_usage, text_of

_OURS = ("id", "object", "created")
_ABSENT = Raw()


class _TextDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: str | None = None


class _TextChoice(msgspec.Struct, gc=False):
    delta: _TextDelta
    finish_reason: None = None


class _TextChunk(msgspec.Struct, gc=False):
    choices: tuple[_TextChoice]
    usage: Raw = _ABSENT


_as_text_chunk = msgspec.json.Decoder(_TextChunk).decode


def read_answer(body: bytes, reading: Reading) -> Answer:
    """The whole answer. Raises `UpstreamError`."""
    try:
        top = as_fields(body)
        choices = _choices(top, reading)
        usage = read_usage(top.pop("usage", None))
        model = text_of(top.pop("model", None)) or None
        answers = tuple(_choice(choice, place, reading) for place, choice in enumerate(choices))
        extra = extra_of(top, _OURS)
    except (ValueError, RecursionError) as error:
        raise reading.broken(f"answered a broken body: {error}") from None
    if not answers:
        raise reading.broken("answered without a choice")
    return Answer(answers, usage, model, extra)


class StreamReader:
    """One stream. `done` when nothing more is to be read: after `[DONE]`, or `cut_short` by a stop sequence."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._text = AnswerText(reading)
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
        if self._started and self._text.plain and not self.complete and (said := _plain_text(data)):
            return [Delta(said)]
        events: list[Event] = []
        try:
            top = as_fields(data)
            choices = _choices(top, self._reading)
            report = read_usage(top.pop("usage", None))
            if not self._started:
                self._started = True
                model = text_of(top.pop("model", None)) or None
                events.append(Start(model, extra_of(top, _OURS)))
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
        delta_raw, native = choice.pop("delta", None), text_of(choice.pop("finish_reason", None))
        choice.pop("index", None)
        delta = {} if delta_raw is None or delta_raw == NULL else as_fields(delta_raw)
        role = text_of(delta.pop("role", None))
        if role in ("", "assistant"):  # else a built-in function tells how long it will take
            self._delta(delta, events)
        if native and not self.complete:
            self._end_text(native, events)
            self.complete = True
            events.append(Finish(self._reading.finish_reason(native), 0, native, extra_of(choice)))

    def _end_text(self, native: str, events: list[Event]) -> None:
        text = self._text
        rest = text.end()
        if native == "stop":
            if text.lacks_object():
                raise self._reading.no_object()
        else:
            rest += text.rest()
        if rest:
            events.append(Delta(rest))

    def _delta(self, delta: Fields, events: list[Event]) -> None:
        thought = text_of(delta.pop("reasoning_content", None))
        said = text_of(delta.pop("content", None))
        call = delta.pop("function_call", None)
        if thought:
            events.append(Reasoning(thought))
        if said:
            shown = self._text.feed(said)
            if shown:
                events.append(Delta(shown))
            if self._text.hit:
                self.complete = self.done = self.cut_short = True
                events.append(Finish("stop"))
                return
        state = text_of(delta.get("functions_state_id"))
        extra = extra_of(delta)
        if call is not None and call != NULL:
            self._call(call, state, extra, events)
        elif extra:
            events.append(Delta("", extra=extra))

    def _call(self, call: Raw, state: str, extra: Fields | None, events: list[Event]) -> None:
        rest = self._text.end()
        if rest:
            events.append(Delta(rest))
        name, arguments = function_call(call, self._reading)
        if name == self._reading.schema_function:
            events.append(Delta(arguments))
            return
        identifier = call_id(self._reading.attempt_id, self._calls, state)
        events.append(ToolDelta(self._calls, identifier, name, arguments, extra=extra))
        self._calls += 1


def _plain_text(data: bytes) -> str:
    """The text of a chunk that says nothing else, in one decoding step; empty for any other, which goes the long way.
    A test holds the two ways together."""
    try:
        chunk = _as_text_chunk(data)
    except (ValueError, RecursionError):
        return ""
    delta = chunk.choices[0].delta
    return delta.content if delta.role in (None, "", "assistant") and chunk.usage == _ABSENT else ""


def _choices(top: Fields, reading: Reading) -> list[Fields]:
    """The choices of a body or chunk; a body without them is an error that came with status 200."""
    raw = top.pop("choices", None)
    if raw is None or raw == NULL:
        if "usage" in top and "message" not in top and "error" not in top:
            return []
        raise reading.in_band(msgspec.json.decode(msgspec.json.encode(top)))
    return as_list(raw)


def _choice(choice: Fields, place: int, reading: Reading) -> Choice:
    raw, native = choice.pop("message", None), text_of(choice.pop("finish_reason", None)) or None
    choice.pop("index", None)
    message = {} if raw is None else as_fields(raw)
    message.pop("role", None)
    said, thought = text_of(message.pop("content", None)), text_of(message.pop("reasoning_content", None))
    call = message.pop("function_call", None)
    calls: tuple[ToolCall, ...] = ()
    text = AnswerText(reading)
    said = text.feed(said) + text.end() + text.rest()
    if call is not None and call != NULL:
        name, arguments = function_call(call, reading)
        if name == reading.schema_function:
            said = arguments
        else:
            state = text_of(message.get("functions_state_id"))
            calls = (ToolCall(call_id(reading.attempt_id, place, state), name, arguments),)
    reason = reading.finish_reason(native) if native else ("tool_calls" if calls else "stop")
    return Choice(
        index=place,
        message=AnswerMessage(
            content=said or (None if calls else ""),
            tool_calls=calls,
            reasoning=thought or None,
            extra=extra_of(message),
        ),
        finish_reason="stop" if text.hit else reason,
        native_finish_reason=native,
        extra=extra_of(choice),
    )
