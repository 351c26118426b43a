"""What a simulated Yandex model says: an answer cut to its length, its end, and its pieces."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from xrouter.simulators import answers, speech
from xrouter.simulators.answers import Answer, Question

_FORBIDDEN: Final = ("forbidden topic", "запретная тема", "запретную тему")
_TURNING: Final = ("forbidden turn", "опасный поворот")
REFUSAL: Final = "Я не могу обсуждать эту тему. Давайте поговорим о чём-нибудь ещё."


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that passed, from either surface. `likeness` is what the answer depends on."""

    question: Question
    prompt_tokens: int
    stream: bool
    max_tokens: int | None
    stops: Sequence[str]
    likeness: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spoken:
    """`finish` is OpenAI's word. `begun` is what the filter lets pass in a stream before it takes it back."""

    answer: Answer
    finish: str
    begun: str = ""

    @property
    def tokens(self) -> int:
        calls = sum(speech.tokens(call.name) + speech.tokens(call.arguments_json) for call in self.answer.calls)
        return speech.tokens(self.answer.reasoning) + speech.tokens(self.answer.text) + calls


def speak(ask: Ask, rng: Random) -> Spoken:
    """One answer. Calls are never cut: the vendor sends them whole."""
    said = ask.question.user_text.casefold()
    if any(phrase in said for phrase in _FORBIDDEN):
        return Spoken(Answer(text=REFUSAL), "content_filter")
    answer = answers.answer(ask.question, rng)
    if any(phrase in said for phrase in _TURNING):
        return Spoken(Answer(text=REFUSAL), "content_filter", begun=answer.text[: len(answer.text) // 2])
    text = answer.text
    found = [place for stop in ask.stops if (place := text.find(stop)) >= 0]
    if found:
        text = text[: min(found)]
    spoken = Spoken(Answer(answer.reasoning, text, answer.calls), "tool_calls" if answer.calls else "stop")
    if ask.max_tokens is None or spoken.tokens <= ask.max_tokens:
        return spoken
    reasoning = answer.reasoning[: ask.max_tokens * speech.TOKEN_CHARS]
    left = ask.max_tokens - speech.tokens(reasoning)
    return Spoken(Answer(reasoning, text[: left * speech.TOKEN_CHARS]), "length")


def pieces(text: str, rng: Random) -> list[tuple[str, int]]:
    """A text in pieces of two to five words, each with its tokens; they add up to those of the whole."""
    words = list(speech.words(text))
    out, at, sent = [], 0, 0
    while at < len(words):
        count = rng.randint(2, 5)
        piece = "".join(words[at : at + count])
        out.append((piece, speech.tokens_in(sent + len(piece)) - speech.tokens_in(sent)))
        at, sent = at + count, sent + len(piece)
    return out
