"""Which rule of a route holds for a call. Pure; the conditions were checked when the file was read."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct

from xrouter.core.call import Call, Request
from xrouter.core.chat import TEXT, ChatRequest
from xrouter.core.conditions import METADATA, All, Condition, Fact, Not, OneOf
from xrouter.core.globs import matches
from xrouter.core.policy import Policy, Rule, StickyBy
from xrouter.gateway import draws, meter


def first(rules: tuple[Rule, ...], request: Request, call: Call | None) -> Rule | None:
    """The first rule that holds; None where none does."""
    facts = Facts(request, call)
    for rule in rules:
        if holds(rule.when, facts):
            return rule
    return None


def changed(policy: Policy, rule: Rule) -> Policy:
    """The route as the rule wants it: what it demands comes on top of what the route does."""
    regions = policy.regions
    if rule.regions is not None:
        regions = rule.regions if regions is None else regions & rule.regions
    return msgspec.structs.replace(
        policy,
        strategy=rule.strategy or policy.strategy,
        regions=regions,
        with_tags=policy.with_tags | rule.with_tags,
    )


def holds(condition: Condition, facts: "Facts") -> bool:
    if isinstance(condition, Fact):
        return _COMPARE[condition.operator](facts.of(condition.fact), condition.value)
    if isinstance(condition, All):
        return all(holds(one, facts) for one in condition.of)
    if isinstance(condition, OneOf):
        return any(holds(one, facts) for one in condition.of)
    assert isinstance(condition, Not), "the union is closed"
    return not holds(condition.of, facts)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, wanted: found == wanted,
    "ne": lambda found, wanted: found != wanted,
    "in": lambda found, wanted: found in wanted,
    "not_in": lambda found, wanted: found not in wanted,
    "like": lambda found, wanted: matches(wanted, found),
    "any": lambda found, wanted: not found.isdisjoint(wanted),
    "all": lambda found, wanted: found.issuperset(wanted),
    "none": lambda found, wanted: found.isdisjoint(wanted),
    "gt": lambda found, wanted: found > wanted,
    "gte": lambda found, wanted: found >= wanted,
    "lt": lambda found, wanted: found < wanted,
    "lte": lambda found, wanted: found <= wanted,
}


class Facts:
    """What the conditions ask for, each looked up once when it is asked for (`core/conditions.py`)."""

    __slots__ = ("_call", "_known", "_request")

    def __init__(self, request: Request, call: Call | None) -> None:
        self._request = request
        self._call = call
        self._known: dict[str, Any] = {}

    def of(self, fact: str) -> Any:
        """A text, a set of words, a number or a bool; a text that nobody gave is empty."""
        if fact not in self._known:
            look = _LOOK.get(fact) or partial(_metadata, fact.removeprefix(METADATA))
            self._known[fact] = look(self._request, self._call)
        return self._known[fact]


def _metadata(name: str, request: Request, call: Call | None) -> str:
    raw = request.fields.get("metadata")
    found = None if raw is None else msgspec.json.decode(raw)
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


def session(request: Request, call: Call | None) -> str:
    """The client's own name for what belongs together: a header's, else `prompt_cache_key` (which OpenRouter's
    `session_id` becomes); empty where there is none."""
    if call is not None and call.session is not None:
        return call.session
    raw = request.fields.get("prompt_cache_key")
    found = None if raw is None else msgspec.json.decode(raw)
    return found if isinstance(found, str) else ""


def end_user(request: Request, call: Call | None) -> str:
    """Whom the client asks for: our pseudonym, else the body's `safety_identifier` or `user`; empty for nobody."""
    if call is not None and call.end_user is not None:
        return call.end_user
    for name in ("safety_identifier", "user"):
        raw = request.fields.get(name)
        if raw is not None:
            found = msgspec.json.decode(raw)
            if isinstance(found, str) and found:
                return found
    return ""


class _Message(Struct):
    role: str
    content: Raw = Raw(b"null")


_MESSAGES = msgspec.json.Decoder(list[_Message])


def prompt_beginning(request: Request, call: Call | None) -> str:
    """A chat's messages up to the first of the user: they stay the same while the conversation grows, and vendors keep
    what begins alike. Empty where nobody chats."""
    raw = request.fields.get("messages") if isinstance(request, ChatRequest) else None
    said: list[str] = []
    for message in () if raw is None else _MESSAGES.decode(raw):
        said += (message.role, str(memoryview(message.content), "utf-8"))
        if message.role == "user":
            break
    return "\0".join(said)


def stick(by: StickyBy, request: Request, call: Call | None) -> int:
    """64 bits for what a choice may stick to; 0 where the request has nothing of that kind. Kept on the call: whoever
    makes its choice again has this alone."""
    known = None if call is None else call.sticks
    if known is not None and by in known:
        return known[by]
    value = _STICK[by](request, call)
    number = draws.digest(by, value) if value else 0
    if call is not None:
        if known is None:
            known = call.sticks = {}
        known[by] = number
    return number


_STICK: Mapping[StickyBy, Callable[[Request, Call | None], str]] = {
    "session": session,
    "user": end_user,
    "prompt": prompt_beginning,
}


def _max_tokens(request: Request, call: Call | None) -> int:
    return (request.max_tokens or 0) if isinstance(request, ChatRequest) else 0


def wants_schema(request: Request) -> bool:
    """Must the answer follow a JSON schema?"""
    raw = request.fields.get("response_format")
    if raw is None or not isinstance(request, ChatRequest):
        return False
    wanted = msgspec.json.decode(raw)
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema"


_LOOK: Mapping[str, Callable[[Request, Call | None], Any]] = {
    "key": lambda request, call: "" if call is None else call.caller.name,
    "team": lambda request, call: (call and call.caller.team_id) or "",
    "organisation": lambda request, call: (call and call.caller.organisation_id) or "",
    "user": lambda request, call: (call and call.caller.user_id) or "",
    "session": session,
    "operation": lambda request, call: request.operation.value,
    "model": lambda request, call: request.model,
    "tags": lambda request, call: frozenset(() if call is None else call.tags),
    "inputs": lambda request, call: request.inputs if isinstance(request, ChatRequest) else TEXT,
    "prompt_tokens": lambda request, call: meter.prompt_tokens(request),
    "max_tokens": _max_tokens,
    "stream": lambda request, call: request.stream,
    "tools": lambda request, call: "tools" in request.fields,
    "json_schema": lambda request, call: wants_schema(request),
}
