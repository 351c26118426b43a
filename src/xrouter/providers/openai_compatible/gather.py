"""A whole answer out of a stream, for models that answer in no other way."""

from collections.abc import Iterable

from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    Choice,
    Delta,
    Event,
    Fields,
    Finish,
    Reasoning,
    Refusal,
    Start,
    ToolCall,
    ToolDelta,
    Usage,
)


class _Gathered:
    """One choice."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.thought: list[str] = []
        self.refused: list[str] = []
        self.calls: dict[int, ToolCall] = {}
        self.finish = Finish("stop")
        self.extra: Fields = {}

    def choice(self, index: int) -> Choice:
        said = "".join(self.said)
        message = AnswerMessage(
            content=said or (None if self.calls else ""),
            tool_calls=tuple(self.calls.values()),
            reasoning="".join(self.thought) or None,
            refusal="".join(self.refused) or None,
            extra=self.extra or None,
        )
        finish = self.finish
        return Choice(index, message, finish.reason, finish.native, None, finish.extra)


def gather(events: Iterable[Event]) -> Answer:
    """The events of a complete stream as one answer. Log probabilities are not kept."""
    choices: dict[int, _Gathered] = {}
    start, usage = Start(), None
    for event in events:
        if isinstance(event, Start):
            start = event if event.model else Start(start.model, event.extra)
        elif isinstance(event, Usage):
            usage = event
        elif isinstance(event, Delta | Reasoning | Refusal | ToolDelta | Finish):
            _add(choices.setdefault(event.choice, _Gathered()), event)
    found = tuple(choices[index].choice(index) for index in sorted(choices))
    return Answer(found, usage, start.model, start.extra)


def _add(choice: _Gathered, event: Delta | Reasoning | Refusal | ToolDelta | Finish) -> None:
    if isinstance(event, Finish):
        choice.finish = event
        return
    if isinstance(event, ToolDelta):
        known = choice.calls.get(event.index) or ToolCall(event.id, "", "", event.type, event.extra)
        choice.calls[event.index] = ToolCall(
            known.id, known.name or event.name, known.arguments + event.arguments, known.type, known.extra
        )
        return
    texts = {Delta: choice.said, Reasoning: choice.thought, Refusal: choice.refused}
    texts[type(event)].append(event.text)
    if not isinstance(event, Refusal):
        choice.extra |= event.extra or {}
