"""What a simulated model answers to a conversation, before a vendor's form is put around it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from xrouter.simulators import continuing, schema_example, speech


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. `schema` describes its arguments."""

    name: str
    schema: object


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation as far as an answer depends on it.

    `user_text` is the last user message. `results` are the tool results (name, content) after it, if the
    conversation ends with them. `call` is `none`, `auto`, `required` or the name of a tool. `json_schema` None
    means plain text, True any JSON object; `json_please`: the conversation only asks for an object in words, and
    the user's `echo:` or `say` order is obeyed before that. `given` are arguments that the caller has already decided.
    `said` and `exact` as in `continuing.Parted`.
    """

    user_text: str
    results: Sequence[tuple[str, str]] = ()
    ends_with_user: bool = True
    tools: Sequence[Tool] = ()
    call: str = "none"
    parallel: bool = True
    json_schema: object = None
    json_please: bool = False
    thinking: bool = False
    given: dict[str, Any] = field(default_factory=dict)
    said: str | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call."""

    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        return msgspec.json.encode(self.arguments).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """Reasoning, then either text or calls."""

    reasoning: str = ""
    text: str = ""
    calls: Sequence[Call] = ()


def answer(question: Question, rng: Random) -> Answer:
    """The answer; `rng` decides everything that the question leaves open."""
    russian = speech.is_russian(question.user_text)
    reasoning = speech.musing(russian=russian) if question.thinking else ""
    order = speech.ordered(question.user_text, rng)
    calls = _calls(question, rng, has_order=order is not None)
    if calls:
        return Answer(reasoning, calls=calls)
    text = _text(question, rng, order, russian=russian)
    if question.said is None:
        return Answer(reasoning, text)
    exact = question.exact
    return Answer("" if exact else reasoning, continuing.rest(text, question.said, question.user_text, exact=exact))


def _calls(question: Question, rng: Random, *, has_order: bool) -> list[Call]:
    if question.call == "none" or not question.tools:
        return []
    if question.call == "auto" and (has_order or not question.ends_with_user):
        return []
    if question.call in ("auto", "required"):
        wanted = [tool for tool in question.tools if _mentions(question.user_text, tool.name)]
        wanted = wanted or [question.tools[0]]
        wanted = wanted if question.parallel else wanted[:1]
    else:
        wanted = [tool for tool in question.tools if tool.name == question.call]
    return [Call(tool.name, {**_arguments(tool, rng), **question.given}) for tool in wanted]


def _mentions(text: str, name: str) -> bool:
    text = text.casefold()
    return name.casefold() in text or name.replace("_", " ").casefold() in text


def _arguments(tool: Tool, rng: Random) -> dict[str, Any]:
    value = schema_example.example(tool.schema, rng) if tool.schema else {}
    return value if isinstance(value, dict) else {}


def _text(question: Question, rng: Random, order: str | None, *, russian: bool) -> str:
    if question.json_schema is True or (question.json_please and question.json_schema is None and order is None):
        return msgspec.json.encode({"answer": speech.passage(rng, russian=russian), "sure": True}).decode()
    if question.json_schema is not None:
        return msgspec.json.encode(schema_example.example(question.json_schema, rng)).decode()
    if question.results:
        intro = "Результат {}: {}" if russian else "The result of {}: {}"
        return "\n".join(intro.format(name, content) for name, content in question.results)
    return speech.passage(rng, russian=russian) if order is None else order
