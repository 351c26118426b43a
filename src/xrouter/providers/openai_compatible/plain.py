"""The commonest bodies in one decoding step: a chunk that is nothing but text, an answer that is nothing but text.

Only a short cut: `stream.py` and `answer.py` read everything, these too, and a test holds the two ways together. What
differs from the plain form in any field, known or not, takes the long way: it is not for here to know what it means.
A chunk costs 2 us instead of 7, an answer 4 instead of 15.
"""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from xrouter.core.chat import MOST_TOKENS, Answer, AnswerMessage, Choice, Delta, Fields, Usage

from .finish import BROKEN, finish_reason
from .json_fields import checked
from .reading import Reading

MOST_MISSES: Final = 8
"""So many chunks in a row in another form: this server speaks differently, and trying goes on costing."""

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


class _PromptTokens(_Plain):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class _AnswerTokens(_Plain):
    reasoning_tokens: int = 0


class _Tokens(_Plain):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int = 0
    prompt_tokens_details: _PromptTokens | None = None
    completion_tokens_details: _AnswerTokens | None = None


class _TextMessage(_TextDelta):
    reasoning: None = None
    reasoning_content: None = None


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
    system_fingerprint: Raw = _ABSENT
    service_tier: Raw = _ABSENT


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
        extra: Fields = {}
        if found.system_fingerprint != _ABSENT:
            extra["system_fingerprint"] = found.system_fingerprint.copy()
        if found.service_tier != _ABSENT:
            extra["service_tier"] = found.service_tier.copy()
        checked(extra)
    except (ValueError, RecursionError):
        return None
    choice, tokens = found.choices[0], found.usage
    native = choice.finish_reason
    if native in BROKEN or not native or not choice.message.content:
        return None
    usage = _usage(tokens)
    if usage is None:
        return None
    return Answer(
        choices=(Choice(choice.index, AnswerMessage(choice.message.content), finish_reason(native), native),),
        usage=usage,
        model=found.model or None,
        extra=extra or None,
    )


def _usage(tokens: _Tokens) -> Usage | None:
    """None for counts that nobody can mean: `usage.py` knows what becomes of them."""
    prompt, completion = tokens.prompt_tokens, tokens.completion_tokens
    cached = written = reasoning = 0
    if tokens.prompt_tokens_details is not None:
        cached, written = tokens.prompt_tokens_details.cached_tokens, tokens.prompt_tokens_details.cache_write_tokens
    if tokens.completion_tokens_details is not None:
        reasoning = tokens.completion_tokens_details.reasoning_tokens
    if not (0 <= cached <= prompt <= MOST_TOKENS and 0 <= reasoning <= completion <= MOST_TOKENS):
        return None
    if not 0 <= written <= prompt:
        return None
    return Usage(prompt, completion, cached, written, reasoning)
