"""An answer that broke off after content was shown, and how another attempt goes on with it.

What was shown stays. Another deployment (or the same, where there is no other) is asked to go on: it gets the
conversation with the text so far as the beginning of its answer, where it takes that (`Deployment.prefill`), else with
a request in words, and what it repeats is taken away (`gateway/overlap.py`). Reasoning was shown before or never is.

Never: after any piece of a tool call or of a refusal; for several choices; with probabilities, which nobody knows for
what was said before; where the answer must follow a JSON schema, because a grammar begins anew with each answer. A JSON
object goes on only as the beginning of an answer, and is checked when it is complete. See docs/continuation.md.
"""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec
from msgspec import Raw, Struct

from xrouter.core.call import Attempt, Call, Phase, Piece
from xrouter.core.chat import ChatRequest, Delta, Event, Finish, Reasoning, Refusal, Start, ToolDelta
from xrouter.core.closing import closing
from xrouter.core.errors import Invalid, ProviderRefused
from xrouter.gateway.meter import estimate_tokens
from xrouter.gateway.overlap import BlankTrimmer, Restarted, Trimmer, last_words
from xrouter.gateway.thought import Endless, Thought

NOTHING_MISSING: Final = "[DONE]"
"""What a model is asked to say where the answer was complete already."""

_IN_ENGLISH: Final = (
    "Your answer above broke off. Go on with it from where it stops, in the same language and form. Begin with its "
    "last words, exactly as they stand there, and then write what is missing: {words}\n"
    "Repeat nothing else, do not begin anew, do not apologise and make no remark. "
    "If nothing is missing, write only {nothing}"
)
_IN_RUSSIAN: Final = (
    "Твой ответ выше оборвался. Продолжи его с того места, где он кончается, на том же языке и в том же виде. Начни с "
    "его последних слов, точно как они там стоят, и дальше пиши то, чего не хватает: {words}\n"
    "Ничего другого не повторяй, не начинай заново, не извиняйся и ничего не поясняй. "
    "Если ответ уже полон, напиши только {nothing}"
)
_CYRILLIC: Final = re.compile(r"[а-яё]", re.IGNORECASE)
_LETTER: Final = re.compile(r"[^\W\d_]")
_LOOKED_AT: Final = 1000  # characters at the end, which tell the language

_as_messages = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.encode
_replace = msgspec.structs.replace


class Broken(Struct, frozen=True):
    """`text` is what the client has seen of the answer, `output_bytes` what the vendors have sent of it, reasoning
    included. `is_object`: the client wants a JSON object."""

    text: str
    output_bytes: int
    is_object: bool = False


def after(before: Broken | None, attempt: Attempt) -> Broken | None:
    """What is to be gone on with when `attempt` broke off after it had shown text and perhaps reasoning, but no
    piece of a tool call or refusal; None where nobody may. `before`: what `attempt` itself went on with."""
    text, size = attempt.text.getvalue(), attempt.received_bytes
    if before is not None:
        return _replace(before, text=before.text + text, output_bytes=before.output_bytes + size)
    form = _form(attempt.call)
    return None if form is None else Broken(text, size, form == "json_object")


def _form(call: Call) -> str | None:
    """The form of the answer (`response_format`), None where one of that kind cannot be gone on with."""
    request = call.request
    if not (type(request) is ChatRequest and request.stream and call.may_continue) or request.prompt is not None:
        return None
    if request.field("logprobs") or (request.field("n") or 1) > 1:
        return None
    form = (request.field("response_format") or {}).get("type", "text")
    return form if form in ("text", "json_object") else None


async def events(
    broken: Broken,
    attempt: Attempt,
    chat: Callable[[ChatRequest, Attempt], AsyncGenerator[Event, None]],
    alive: Callable[[], None],
) -> AsyncGenerator[Piece, None]:
    """The rest of the answer, as `attempt` gives it, and nothing that was shown before. `alive` is called for what
    comes and is not passed on. Raises `Invalid` where this deployment cannot be asked for it, does not take it, or
    does not go on with the answer that was shown."""
    request = attempt.call.request
    assert isinstance(request, ChatRequest), "only chats are gone on with"
    attempt.part = asked = _request(broken, request, prefill=attempt.deployment.prefill)
    joint = _Joint(broken.text, exact=asked.prefilled) if broken.text else None
    whole = [broken.text]
    try:
        async with closing(stream := chat(asked, attempt)):
            async for event in stream:
                if isinstance(event, Delta):
                    came = event.text != ""
                    if joint is not None:
                        event = _joined(event, joint, attempt)
                    if broken.is_object:
                        whole.append(event.text)
                    if event.text or event.extra:
                        yield event
                        continue
                elif isinstance(event, ToolDelta | Finish | Refusal):
                    if joint is not None and (rest := joint.end()):
                        whole.append(rest)
                        yield Delta(rest)
                    if broken.is_object and isinstance(event, Finish):
                        _check_object("".join(whole), attempt)
                    yield event
                    continue
                elif isinstance(event, Reasoning):
                    came = event.text != ""
                    attempt.output_bytes += len(event.text.encode())
                elif not isinstance(event, Start):  # one stream has one beginning
                    yield event
                    continue
                else:
                    continue
                if attempt.phase is not Phase.SHOWN:
                    attempt.phase = Phase.BODY
                if came:
                    alive()
    except ProviderRefused as error:  # what was asked for here: the client's own request was taken before
        raise Invalid(
            f"{error.provider} does not go on with an answer that broke off: {error.message}",
            code="continuation_refused",
        ) from None
    except Restarted:
        raise _unfit(attempt, "began the answer anew that it was to go on with") from None
    except Endless:
        raise _unfit(attempt, "thought aloud, and did not go on with the answer") from None


class _Joint:
    """Where the rest meets the text: takes away a thought before it, what is said twice, and the word for nothing at
    all."""

    __slots__ = ("_held", "_thought", "_trimmer", "_word")

    def __init__(self, text: str, *, exact: bool) -> None:
        self._thought = Thought(text)
        self._trimmer = BlankTrimmer(text) if exact else Trimmer(text)
        self._word = "" if exact else NOTHING_MISSING
        self._held = ""

    def feed(self, piece: str) -> str:
        if not self._thought.passed:
            piece = self._thought.feed(piece)
            if not piece:
                return ""
        return self._join(piece)

    def _join(self, piece: str) -> str:
        if self._word:
            self._held += piece
            if self._word.startswith(self._held.strip()):
                return ""
            piece, self._held, self._word = self._held, "", ""
        return piece if self._trimmer.settled else self._trimmer.feed(piece)

    def end(self) -> str:
        """What still waits. Once."""
        begun = "" if self._thought.passed else self._join(self._thought.end())
        held, self._held = self._held, ""
        if self._word and held.strip() == self._word:
            return begun
        self._word = ""
        return begun + self._trimmer.feed(held) + self._trimmer.end()


def _joined(event: Delta, joint: _Joint, attempt: Attempt) -> Delta:
    text = joint.feed(event.text)
    if text == event.text:
        return event
    attempt.output_bytes += len(event.text.encode()) - len(text.encode())  # sent, though not shown
    return _replace(event, text=text)


def _request(broken: Broken, request: ChatRequest, *, prefill: bool) -> ChatRequest:
    """The client's request with the text so far. Nothing but reasoning shown: the same request once more."""
    text = broken.text.rstrip()
    if not text:
        return request
    if broken.is_object and not prefill:
        raise Invalid("A JSON object that broke off is only gone on with where a model takes the beginning of one.")
    messages = _as_messages(request.fields["messages"])
    messages.append(Raw(_encode({"role": "assistant", "content": text})))
    if not prefill:
        words = _IN_RUSSIAN if _is_russian(text) else _IN_ENGLISH
        asked = words.format(words=last_words(text), nothing=NOTHING_MISSING)
        messages.append(Raw(_encode({"role": "user", "content": asked})))
    fields = {**request.fields, "messages": Raw(_encode(messages))}
    if broken.is_object:
        del fields["response_format"]  # what keeps to it would begin a new object
    for name in ("max_completion_tokens", "max_tokens"):
        cap = request.field(name)
        if cap is not None:
            fields[name] = Raw(b"%d" % max(1, cap - estimate_tokens(broken.output_bytes)))
    return _replace(request, fields=fields, prefilled=prefill)


def _is_russian(text: str) -> bool:
    letters = _LETTER.findall(text[-_LOOKED_AT:])
    return 2 * sum(_CYRILLIC.match(letter) is not None for letter in letters) > len(letters)


def _check_object(text: str, attempt: Attempt) -> None:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise _unfit(attempt, "went on with a JSON object so that it is none") from None


def _unfit(attempt: Attempt, what: str) -> Invalid:
    return Invalid(f"{attempt.deployment.provider} {what}.", code="continuation_unfit")
