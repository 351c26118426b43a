"""The answers of the OpenAI surface, mended on their way: what the vendor's two servers do otherwise than OpenAI.

The vendor's own models give a call the name of its function as id, so two calls of one function could not be told
apart; their `parallel_tool_calls: false` and `stop` mean nothing; and a filter replaces the text at the end.
"""

from typing import Protocol

import msgspec

from xrouter.core.chat import Answer, Choice, Delta, Event, Finish, ToolDelta
from xrouter.core.stops import StopCutter


class Reader(Protocol):
    """What reads the payloads of a stream: see `PayloadReader` in providers/_http."""

    @property
    def done(self) -> bool: ...

    @property
    def complete(self) -> bool: ...

    def read(self, data: bytes) -> list[Event]: ...

    def end(self) -> None: ...


class MendingReader:
    """One stream of one choice, read by `inner`. `call_ids` begins the ids of calls."""

    def __init__(self, inner: Reader, call_ids: str, stops: tuple[str, ...], *, one_call: bool) -> None:
        self._inner = inner
        self._call_ids = call_ids
        self._cutter = StopCutter(stops)
        self._one_call = one_call
        self._said = False
        self._called = False
        self.cut_short = False

    @property
    def done(self) -> bool:
        return self.cut_short or self._inner.done

    @property
    def complete(self) -> bool:
        return self.cut_short or self._inner.complete

    def read(self, data: bytes) -> list[Event]:
        """The events of one payload. Raises `UpstreamError`."""
        events: list[Event] = []
        found = self._inner.read(data)
        filtered = any(isinstance(event, Finish) and event.reason == "content_filter" for event in found)
        for event in found:
            if isinstance(event, Delta):
                if not (filtered and self._said):  # else it is the filter's text in the place of what was said
                    self._say(event, events)
            elif isinstance(event, ToolDelta):
                self._call(event, events)
            elif isinstance(event, Finish):
                self._finish(event, events)
            else:
                events.append(event)
            if self.cut_short:
                break
        return events

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless it is complete."""
        if not self.cut_short:
            self._inner.end()

    def _say(self, event: Delta, events: list[Event]) -> None:
        shown = self._cutter.feed(event.text)
        if shown == event.text:
            events.append(event)
        elif shown or event.extra:
            events.append(msgspec.structs.replace(event, text=shown))
        self._said = self._said or bool(shown)
        if self._cutter.hit:
            self.cut_short = True
            events.append(Finish("stop", event.choice))

    def _call(self, event: ToolDelta, events: list[Event]) -> None:
        self._flush(events, event.choice)
        self._called = True
        if self._one_call and event.index > 0:
            return
        if event.id:
            event = msgspec.structs.replace(event, id=f"{self._call_ids}_{event.index}")
        events.append(event)

    def _finish(self, event: Finish, events: list[Event]) -> None:
        self._flush(events, event.choice)
        if event.reason == "stop" and self._called:
            event = msgspec.structs.replace(event, reason="tool_calls")
        events.append(event)

    def _flush(self, events: list[Event], choice: int) -> None:
        rest = self._cutter.end()
        if rest:
            events.append(Delta(rest, choice))


def mended(answer: Answer, call_ids: str, stops: tuple[str, ...], *, one_call: bool) -> Answer:
    """The same for a whole answer."""
    choices = tuple(_mended(choice, call_ids, stops, one_call=one_call) for choice in answer.choices)
    return msgspec.structs.replace(answer, choices=choices)


def _mended(choice: Choice, call_ids: str, stops: tuple[str, ...], *, one_call: bool) -> Choice:
    message, reason = choice.message, choice.finish_reason
    calls = message.tool_calls[:1] if one_call else message.tool_calls
    calls = tuple(msgspec.structs.replace(call, id=f"{call_ids}_{place}") for place, call in enumerate(calls))
    content = message.content
    if content:
        cutter = StopCutter(stops)
        content = cutter.feed(content) + cutter.end()
        if cutter.hit:
            reason, calls = "stop", ()
    if calls:
        content = content or None
        reason = "tool_calls" if reason == "stop" else reason
    return msgspec.structs.replace(
        choice,
        message=msgspec.structs.replace(message, content=content, tool_calls=calls),
        finish_reason=reason,
    )
