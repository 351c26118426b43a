"""When a rule of a route holds: a closed vocabulary of facts and comparisons, checked when the file is read.

    {tags: batch, prompt_tokens: {gt: 8000}}      both must hold
    {any_of: [{key: ci}, {metadata.plan: free}]}  one of them
    {not: {stream: true}}

What a fact may be compared by depends on what it is: a text (`eq`, `ne`, `in`, `not_in`, `like` with `*`), a set of
words (`any`, `all`, `none`), a number (`eq`, `gt`, `gte`, `lt`, `lte`), or yes and no. A bare value means `eq`, for a
set `any`.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from xrouter.core.operation import Operation

Kind = Literal["text", "set", "number", "yes_no"]

FACTS: dict[str, Kind] = {
    "key": "text",  # the API key's name
    "team": "text",
    "organisation": "text",
    "user": "text",  # ids of whom the key belongs to
    "session": "text",
    "operation": "text",
    "model": "text",  # as the client wrote it
    "tags": "set",  # `x-xrouter-tags`
    "inputs": "set",  # what the messages hold: text, image, file, audio
    "prompt_tokens": "number",  # estimated
    "max_tokens": "number",  # 0 where the client sets none
    "stream": "yes_no",
    "tools": "yes_no",
    "json_schema": "yes_no",
}
METADATA = "metadata."
"""`metadata.plan`: a text that the client sends under that name in `metadata`; empty where there is none."""

_OPERATORS: dict[Kind, tuple[str, ...]] = {
    "text": ("eq", "ne", "in", "not_in", "like"),
    "set": ("any", "all", "none"),
    "number": ("eq", "gt", "gte", "lt", "lte"),
    "yes_no": ("eq",),
}
_WORDS: dict[str, frozenset[str]] = {
    "operation": frozenset(one.value for one in Operation),
    "inputs": frozenset({"text", "image", "file", "audio", "video"}),
}
_COMBINATIONS = ("any_of", "all_of", "not")


class Fact(Struct, frozen=True, tag="test"):
    """`value` is a text, a number, a bool, or a tuple of texts, as `operator` needs it."""

    fact: str
    operator: str
    value: str | float | bool | tuple[str, ...]


class All(Struct, frozen=True, tag="all"):
    """Each holds; always where there is none."""

    of: "tuple[Condition, ...]" = ()


class OneOf(Struct, frozen=True, tag="any"):
    """One of them holds."""

    of: "tuple[Condition, ...]"


class Not(Struct, frozen=True, tag="not"):
    of: "Condition"


Condition: TypeAlias = Fact | All | OneOf | Not
ALWAYS = All()


def parse(data: object) -> Condition:
    """A condition out of plain data. Raises ValueError in words, also for one that can never hold."""
    found = _parse(data)
    if never(found):
        raise ValueError("can never hold: its parts contradict each other")
    return found


def _parse(data: object) -> Condition:
    if not isinstance(data, dict) or not data:
        raise ValueError(f"must be a mapping of facts, such as {{tags: batch}}; facts: {', '.join(_facts())}")
    parts = [part for name, value in data.items() for part in _part(str(name), value)]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _part(name: str, value: object) -> Iterator[Condition]:
    if name == "not":
        yield Not(_parse(value))
    elif name in ("any_of", "all_of"):
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} needs a list of conditions")
        each = tuple(_parse(one) for one in value)
        yield OneOf(each) if name == "any_of" else All(each)
    else:
        yield from _tests(name, value)


def _facts() -> list[str]:
    return [*FACTS, f"{METADATA}<name>"]


def kind_of(fact: str) -> Kind | None:
    """What a fact is; None for one that nobody knows."""
    return "text" if fact.startswith(METADATA) and len(fact) > len(METADATA) else FACTS.get(fact)


def _tests(fact: str, value: object) -> Iterator[Fact]:
    kind = kind_of(fact)
    if kind is None:
        near = get_close_matches(fact, [*FACTS, *_COMBINATIONS], 1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{fact!r} is no fact of a request{guess}; facts: {', '.join(_facts())}")
    if not isinstance(value, dict):
        value = {"any" if kind == "set" else "in" if isinstance(value, list) and kind == "text" else "eq": value}
    if not value:
        raise ValueError(f"{fact}: says nothing; operators: {', '.join(_OPERATORS[kind])}")
    for operator, operand in value.items():
        if operator not in _OPERATORS[kind]:
            raise ValueError(f"{fact}: has no operator {operator!r}; operators: {', '.join(_OPERATORS[kind])}")
        yield Fact(fact, operator, _operand(fact, kind, operator, operand))


def _operand(fact: str, kind: Kind, operator: str, value: object) -> str | float | bool | tuple[str, ...]:
    if kind == "yes_no":
        if not isinstance(value, bool):
            raise ValueError(f"{fact}: must be true or false")
        return value
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{fact}.{operator}: must be a number")
        return value
    if kind == "set" or operator in ("in", "not_in"):
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not words or not all(isinstance(one, str) and one for one in words):
            raise ValueError(f"{fact}.{operator}: must be a word or a list of words, and not empty")
        _check_words(fact, words)
        return tuple(words)
    if not isinstance(value, str):
        raise ValueError(f"{fact}.{operator}: must be text")  # noqa: TRY004 - pydantic collects ValueError
    if operator != "like":
        _check_words(fact, [value])
    return value


def _check_words(fact: str, words: list[Any]) -> None:
    known = _WORDS.get(fact)
    for word in words if known else ():
        if known and word not in known:
            raise ValueError(f"{fact}: is never {word!r}; it may be {', '.join(sorted(known))}")


def never(condition: Condition) -> bool:
    """Can it be seen that it never holds? Contradictions between the comparisons of one fact are found, deeper ones
    are not."""
    if isinstance(condition, OneOf):
        return all(never(one) for one in condition.of)
    if isinstance(condition, Not):
        return condition.of == ALWAYS
    tests = [*_flat(condition)]
    if any(never(one) for one in tests if not isinstance(one, Fact)):
        return True
    by_fact: dict[str, list[Fact]] = {}
    for test in tests:
        if isinstance(test, Fact):
            by_fact.setdefault(test.fact, []).append(test)
        elif isinstance(test, Not) and test.of in tests:
            return True
    return any(_contradict(fact, each) for fact, each in by_fact.items())


def implies(condition: Condition, other: Condition) -> bool:
    """Can it be seen that `other` holds whenever `condition` does? It can where every part of it is a part of the
    other one."""
    return set(_flat(other)) <= set(_flat(condition))


def _flat(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, All):
        for one in condition.of:
            yield from _flat(one)
    else:
        yield condition


def _contradict(fact: str, tests: list[Fact]) -> bool:
    kind = kind_of(fact)
    if kind == "number":
        return _no_number(tests)
    if kind == "set":
        none = {word for test in tests if test.operator == "none" for word in _words(test)}
        wanted = [set(_words(test)) for test in tests if test.operator == "any"]
        every = {word for test in tests if test.operator == "all" for word in _words(test)}
        return bool(every & none) or any(words <= none for words in wanted)
    return _no_text(tests)


def _no_number(tests: list[Fact]) -> bool:
    """The numbers are whole and never below 0."""
    low, high = 0.0, float("inf")
    for test in tests:
        value = float(test.value)  # type: ignore[arg-type]
        if test.operator in ("eq", "gte"):
            low = max(low, value)
        if test.operator in ("eq", "lte"):
            high = min(high, value)
        if test.operator == "gt":
            low = max(low, value // 1 + 1)
        if test.operator == "lt":
            high = min(high, -(-value // 1) - 1)
    return low > high


def _no_text(tests: list[Fact]) -> bool:
    allowed: set[object] | None = None
    for test in tests:
        if test.operator in ("eq", "in"):
            words: set[object] = {test.value} if test.operator == "eq" else set(_words(test))
            allowed = words if allowed is None else allowed & words
    refused = {test.value for test in tests if test.operator == "ne"}
    refused |= {word for test in tests if test.operator == "not_in" for word in _words(test)}
    return allowed is not None and not allowed - refused


def _words(test: Fact) -> tuple[str, ...]:
    return test.value if isinstance(test.value, tuple) else (str(test.value),)
