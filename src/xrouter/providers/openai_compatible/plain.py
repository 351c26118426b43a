"""The commonest bodies in one decoding step: a chunk that is nothing but text, an answer that is nothing but text.

Only a short cut: `stream.py` and `answer.py` read everything, these too, and a test holds the two ways together. What
differs from the plain form in any field, known or not, takes the long way: it is not for here to know what it means.
A chunk costs 2 us instead of 7, an answer 4 instead of 15.
"""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from xrouter.core.chat import Answer, AnswerMessage, Choice, Delta, Fields, Usage

from .finish import BROKEN, finish_reason
from .reading import Reading

MOST_MISSES: Final = 8
"""So many chunks in a row in another form: this server speaks differently, and trying goes on costing."""

_MOST_TOKENS: Final = 1_000_000_000
_ABSENT: Final = Raw()


class _Plain(Struct, forbid_unknown_fields=True, gc=False):
    """Fails on any field that it does not have, and on any null that is not one."""


class _TextDelta(_Plain):
    content: str
    role: str | None = None
    refusal: None = None
    tool_calls: None = None


class _TextChoice(_Plain):
    delta: _TextDelta
    index: int = 0
    finish_reason: None = None
    logprobs: None = None


class _Chunk(_Plain):
    choices: tuple[_TextChoice]
    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: Raw = _ABSENT
    service_tier: Raw = _ABSENT
    obfuscation: str = ""
    usage: None = None


class _Tokens(_Plain):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _TextMessage(_Plain):
    content: str
    role: str | None = None
    refusal: None = None
    tool_calls: None = None


class _WholeChoice(_Plain):
    message: _TextMessage
    finish_reason: str
    index: int
    logprobs: None = None


class _Whole(_Plain):
    choices: tuple[_WholeChoice]
    usage: _Tokens
    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: None = None


_as_chunk: Final = msgspec.json.Decoder(_Chunk).decode
_as_whole: Final = msgspec.json.Decoder(_Whole).decode


def text_delta(data: bytes, standing: Fields) -> Delta | None:
    """The text of a chunk that says nothing else; None for any other. `standing` are the fields beside the choices as
    they were on the chunk before: what has changed is news, and news takes the long way."""
    try:
        chunk = _as_chunk(data)
    except (ValueError, RecursionError):
        return None
    if chunk.system_fingerprint != standing.get("system_fingerprint", _ABSENT):
        return None
    if chunk.service_tier != standing.get("service_tier", _ABSENT):
        return None
    choice = chunk.choices[0]
    text = choice.delta.content
    return Delta(text, choice.index) if text else None


def text_answer(body: bytes, reading: Reading) -> Answer | None:
    """The answer of a body that holds one choice of text and plain usage; None for any other."""
    if reading.think_tags or reading.tool_call_tags or reading.may_be_misfiled or reading.reasoning_field:
        return None
    try:
        found = _as_whole(body)
    except (ValueError, RecursionError):
        return None
    choice, tokens = found.choices[0], found.usage
    native = choice.finish_reason
    if native in BROKEN or not native or not choice.message.content:
        return None
    if not (0 <= tokens.prompt_tokens <= _MOST_TOKENS and 0 <= tokens.completion_tokens <= _MOST_TOKENS):
        return None
    message = AnswerMessage(content=choice.message.content)
    return Answer(
        choices=(Choice(choice.index, message, finish_reason(native), native),),
        usage=Usage(tokens.prompt_tokens, tokens.completion_tokens),
        model=found.model or None,
    )
