"""GigaChat's answers -> events, contract v2: messages made of parts, and streams of named events without a farewell.

A whole body has the same members as the events of a stream, so one reader reads both. The names of the events say
nothing that their members do not say.
"""

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
    Reasoning,
    Start,
    ToolCall,
    ToolDelta,
    Usage,
)

from .call_ids import call_id
from .reading import NULL, AnswerText, Reading, as_fields, as_list, extra_of, function_call, read_usage, text_of
from .sources import SourceMarkers

_OURS = ("created_at", "created", "tool_execution", "additional_data")
_STATES = ("tool_state_id", "tools_state_id", "functions_state_id")
_SIGNS = frozenset({"messages", "finish_reason", "usage", "tool_execution"})


def read_answer_v2(body: bytes, reading: Reading) -> Answer:
    """The whole answer. Raises `UpstreamError`."""
    reader = StreamReaderV2(reading, whole=True)
    events = reader.read(body)
    if not reader.complete:
        events += reader.finished(None)
    said, thought, calls = "", "", list[ToolCall]()
    logprobs: list[Any] = []
    extra: Fields = {}
    start, finish, usage = Start(), Finish("stop"), None
    for event in events:
        if isinstance(event, Delta):
            said += event.text
            extra |= event.extra or {}
            if event.logprobs is not None:
                logprobs += msgspec.json.decode(event.logprobs)["content"]
        elif isinstance(event, Reasoning):
            thought += event.text
        elif isinstance(event, ToolDelta):
            calls.append(ToolCall(event.id, event.name, event.arguments, extra=event.extra))
        elif isinstance(event, Start):
            start = event
        elif isinstance(event, Finish):
            finish = event
        elif isinstance(event, Usage):
            usage = event
    message = AnswerMessage(said or (None if calls else ""), tuple(calls), thought or None, extra=extra or None)
    told = Raw(msgspec.json.encode({"content": logprobs, "refusal": None})) if logprobs else None
    choice = Choice(0, message, finish.reason, finish.native, told)
    return Answer((choice,), usage, start.model, start.extra)


class StreamReaderV2:
    """One stream, or a `whole` body. `done` when nothing more is to be read: with the report that ends the answer, or
    `cut_short` by a stop sequence."""

    def __init__(self, reading: Reading, *, whole: bool = False) -> None:
        self._reading = reading
        self._whole = whole
        self._text = AnswerText(reading)
        self._sources = SourceMarkers()
        self._state = ""
        self._started = False
        self._told: tuple[str | None, Fields | None] | None = None
        self._calls = 0
        self.complete = False
        self.done = False
        self.cut_short = False

    def read(self, data: bytes) -> list[Event]:
        """The events of one payload. Raises `UpstreamError`."""
        events: list[Event] = []
        try:
            self._read(as_fields(data), events)
        except (ValueError, RecursionError, TypeError, AttributeError) as error:
            what = "answered a broken body" if self._whole else "sent a broken chunk"
            raise self._reading.broken(f"{what}: {type(error).__name__}") from None
        return events

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless the answer was finished."""
        if not self._started:
            raise self._reading.broken("ended its stream without an answer")
        if not self.complete:
            raise self._reading.broken("ended its stream before the answer was finished")

    def finished(self, native: str | None) -> list[Event]:
        """The end of the answer: what was held back, the sources, the reason."""
        events: list[Event] = []
        rest = self._text.feed(self._sources.end()) + self._text.end()
        if native in ("stop", None) and not self._whole:
            if self._text.lacks_object():
                raise self._reading.no_object()
        else:
            rest += self._text.rest()
        if rest:
            events.append(Delta(rest))
        found = self._sources.annotations()
        if found:
            events.append(Delta("", extra={"annotations": Raw(msgspec.json.encode(found))}))
        self.complete = True
        reason = self._reading.finish_reason(native) if native else ("tool_calls" if self._calls else "stop")
        events.append(Finish(reason, 0, native))
        return events

    def _read(self, top: Fields, events: list[Event]) -> None:
        if not _SIGNS & top.keys():
            raise self._reading.in_band(msgspec.json.decode(msgspec.json.encode(top)))
        raw, native = top.pop("messages", None), text_of(top.pop("finish_reason", None))
        report, logprobs = read_usage(top.pop("usage", None)), top.pop("logprobs", None)
        self._take_state(top)
        messages = [] if raw is None or raw == NULL else as_list(raw)
        self._started = True
        if "model" in top:  # not in the events of built-in tools
            model = text_of(top.pop("model")) or None
            extra = extra_of(top, _OURS)
            if (model, extra) != self._told:
                self._told = (model, extra)
                events.append(Start(model, extra))
        for message in messages:
            native = text_of(message.pop("finish_reason", None)) or native
            if not self.complete:
                self._message(message, logprobs, events)
                logprobs = None
        if native and not self.complete:
            events += self.finished(native)
        if report is not None:
            events.append(report)
        if self.complete and (report is not None or not messages):
            self.done = True

    def _take_state(self, fields: Fields) -> None:
        for name in _STATES:
            self._state = text_of(fields.pop(name, None)) or self._state

    def _message(self, message: Fields, logprobs: Raw | None, events: list[Event]) -> None:
        role = text_of(message.pop("role", None))
        self._take_state(message)
        logprobs = message.pop("logprobs", None) or logprobs
        content = message.pop("content", None)
        parts = [] if content is None or content == NULL else _parts(content)
        parts.append(message)  # a call and sources may stand beside the parts as well
        for part in parts:
            if role == "reasoning":
                thought = text_of(part.get("text"))
                if thought:
                    events.append(Reasoning(thought))
                continue
            if role not in ("", "assistant") or self.complete:
                continue
            self._part(part, part.pop("logprobs", None) or logprobs, events)
            logprobs = None

    def _part(self, part: Fields, logprobs: Raw | None, events: list[Event]) -> None:
        found = part.get("inline_data")
        if found is not None and found != NULL:
            self._sources.add(msgspec.json.decode(found).get("sources"))
        told = _openai_logprobs(logprobs)
        said = text_of(part.get("text"))
        shown = self._text.feed(self._sources.feed(said)) if said else ""
        files = part.get("files")
        extra = {"files": files.copy()} if files is not None and files != NULL else None
        if shown or told or extra:
            events.append(Delta(shown, logprobs=told, extra=extra))
        if self._text.hit:
            self.complete = self.done = self.cut_short = True
            events.append(Finish("stop"))
            return
        call = part.get("function_call")
        if call is not None and call != NULL:
            self._call(call, events)

    def _call(self, call: Raw, events: list[Event]) -> None:
        rest = self._text.feed(self._sources.end()) + self._text.end()
        if rest:
            events.append(Delta(rest))
        name, arguments = function_call(call, self._reading)
        if name == self._reading.schema_function:
            events.append(Delta(arguments))
            return
        identifier = call_id(self._reading.attempt_id, self._calls, self._state)
        extra: Fields | None = None
        if self._state:
            extra = {"functions_state_id": Raw(msgspec.json.encode(self._state))}
        events.append(ToolDelta(self._calls, identifier, name, arguments, extra=extra))
        self._calls += 1


def _parts(content: Raw) -> list[Fields]:
    if bytes(memoryview(content)[:1]) == b'"':
        return [{"text": content}]
    return as_list(content)


def _openai_logprobs(raw: Raw | None) -> Raw | None:
    """`[{chosen: {token, token_id, logprob}, top: [...]}]` in OpenAI's words. Raises ValueError."""
    if raw is None or raw == NULL:
        return None
    tokens = []
    for place in msgspec.json.decode(raw, type=list[dict[str, Any]]):
        chosen = place.get("chosen")
        if chosen:
            tokens.append({**_token(chosen), "top_logprobs": [_token(other) for other in place.get("top") or ()]})
    return Raw(msgspec.json.encode({"content": tokens, "refusal": None})) if tokens else None


def _token(found: dict[str, Any]) -> dict[str, Any]:
    text = found["token"]
    return {"token": text, "logprob": found["logprob"], "bytes": list(text.encode())}
