"""Which candidates can and may serve a request: one filter after the other, each with a code and words. Pure.

What nobody has said of a deployment (its parameters, its inputs, its context) takes it out for nothing; a demand does:
a region, a tag or a price that nobody has told is not the one that is demanded.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Struct

from xrouter.core.call import Call, Request
from xrouter.core.chat import TEXT, ChatRequest
from xrouter.core.deployment import Deployment
from xrouter.core.preferences import NOTHING, MaxPrice
from xrouter.gateway import rules
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.group import Group
from xrouter.gateway.trace import Trace

INPUTS: Final = "inputs"
TOOLS: Final = "tools"
JSON_SCHEMA: Final = "json_schema"
CONTEXT: Final = "context_length"
PARAMETERS: Final = "parameters"
REGION: Final = "region"
TAGS: Final = "tags"
ONLY: Final = "only"
IGNORE: Final = "ignore"
ORDER: Final = "order"
MAX_PRICE: Final = "max_price"
EJECTED: Final = "ejected"
KEY: Final = "key"
FALLBACKS: Final = "allow_fallbacks"

CAPABILITIES: Final = frozenset({INPUTS, TOOLS, JSON_SCHEMA, CONTEXT, PARAMETERS})
"""Codes of what a deployment cannot do: the request must change. The others say that it may not."""

_WISHES: Final = frozenset({ONLY, IGNORE, ORDER, MAX_PRICE})
"""Codes of what nobody but a request can demand."""

BYTES_PER_TOKEN: Final = 10
"""A token is hardly ever longer: 4 bytes are usual for English, 6 to 8 for Russian. Whoever does not fit by this count
does not fit; an estimate of the middle (`meter.estimate_tokens`) would refuse what the vendor takes."""


class Needs(Struct, frozen=True):
    """What this call asks of a deployment. `tokens` is the least that prompt and answer can take; 0: not asked.
    `parameters` must all be followed. `order_only`: nobody but those on `order` may serve. `route_regions` and
    `route_tags` are what the route demands by itself."""

    inputs: frozenset[str] = TEXT
    tools: bool = False
    json_schema: bool = False
    tokens: int = 0
    parameters: frozenset[str] = frozenset()
    regions: frozenset[str] | None = None
    tags: frozenset[str] = frozenset()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    order_only: tuple[str, ...] = ()
    max_price: tuple[tuple[str, Decimal], ...] = ()
    now: float = 0.0
    route_regions: frozenset[str] | None = None
    route_tags: frozenset[str] = frozenset()


def fits_all(request: Request, group: Group) -> bool:
    """Is it plain that every deployment of `group` can do what a request without wishes asks for? False means: look at
    each of them. Costs a microsecond, for it is asked of every call."""
    if type(request) is not ChatRequest:
        return True
    fields = request.fields
    if request.inputs is not TEXT and request.inputs != TEXT:
        return False
    if group.follows is not None and (
        ("tools" in fields and "tools" not in group.follows)
        or ("response_format" in fields and "response_format" not in group.follows)
    ):
        return False
    most = group.context_tokens
    return most is None or _quick_tokens(request) <= most


def needs(
    request: Request,
    call: Call | None,
    *,
    regions: frozenset[str] | None = None,
    tags: frozenset[str] = frozenset(),
    shortest: int | None = None,
) -> Needs:
    """What the request needs; `regions` and `tags` are what its route demands, `shortest` is the least context that
    any candidate is known to have."""
    wishes = NOTHING if call is None or call.preferences is None else call.preferences
    strict = (call is not None and call.strict) or bool(wishes.require_parameters)
    wished, route_regions = wishes.regions, regions
    if wished is not None:
        regions = wished if regions is None else regions & wished
    chat = isinstance(request, ChatRequest)
    return Needs(
        inputs=request.inputs if isinstance(request, ChatRequest) else TEXT,
        tools=chat and "tools" in request.fields,
        json_schema=rules.wants_schema(request),
        tokens=0 if shortest is None or not isinstance(request, ChatRequest) else _tokens(request, shortest),
        parameters=frozenset(request.fields) - _NEVER_ASKED if strict and chat else frozenset(),
        regions=regions,
        tags=tags | wishes.demanded_tags,
        only=lower(wishes.only),
        ignore=lower(wishes.ignore),
        order_only=lower(wishes.order) if wishes.allow_fallbacks is False else (),
        max_price=_most(wishes.max_price),
        now=0.0 if call is None else call.started_at,
        route_regions=route_regions,
        route_tags=tags,
    )


_NEVER_ASKED: Final = frozenset({"messages", "provider"})


def keep(candidates: Iterable[Candidate], wanted: Needs, trace: Trace | None) -> list[Candidate]:
    """Those that every filter lets pass, in their order."""
    filters = [(code, look) for code, asked, look in _FILTERS if asked(wanted)]
    if not filters:
        return list(candidates)
    kept: list[Candidate] = []
    for candidate in candidates:
        for code, look in filters:
            words = look(candidate, wanted)
            if words is not None:
                if trace is not None:
                    trace.remove(candidate, code, words, wished=_only_wished(candidate, code, wanted))
                break
        else:
            kept.append(candidate)
    return kept


def _only_wished(candidate: Candidate, code: str, wanted: Needs) -> bool:
    """Is it the request's own wish that takes it out, which its route alone would not?"""
    deployment = candidate.deployment
    if code == REGION:
        return wanted.route_regions is None or deployment.region in wanted.route_regions
    return code in _WISHES or (code == TAGS and wanted.route_tags <= deployment.tags)


def lower(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a request's `order`, `only` or `ignore`, to be looked for among `Candidate.names`."""
    return tuple([name.lower() for name in names])


def _inputs(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    if not deployment.inputs_known or wanted.inputs <= deployment.inputs:
        return None
    return (
        f"takes no {', '.join(sorted(wanted.inputs - deployment.inputs))}, only {', '.join(sorted(deployment.inputs))}"
    )


def _tools(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    return "has no tools" if _lacks(deployment, "tools") else None


def _json_schema(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    return "knows no JSON schema" if _lacks(deployment, "response_format") else None


def _lacks(deployment: Deployment, parameter: str) -> bool:
    return bool(deployment.parameters) and parameter not in deployment.parameters


def _context(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    most = deployment.context_tokens
    if most is None or wanted.tokens <= most:
        return None
    return f"reads and writes {most} tokens together, and this takes at least {wanted.tokens}"


def _parameters(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    missing = wanted.parameters - deployment.parameters if deployment.parameters else ()
    return f"does not know the parameter '{min(missing)}'" if missing else None


def _region(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    assert wanted.regions is not None, "asked only then"
    if deployment.region in wanted.regions:
        return None
    allowed = ", ".join(sorted(wanted.regions)) or "no region at all"
    if deployment.region is None:
        return f"has no region, and {allowed} is demanded"
    return f"processes data in {deployment.region}, and {allowed} is demanded"


def _tags(candidate: Candidate, wanted: Needs) -> str | None:
    deployment = candidate.deployment
    missing = wanted.tags - deployment.tags
    return f"lacks the tag {', '.join(sorted(missing))}" if missing else None


def _only(candidate: Candidate, wanted: Needs) -> str | None:
    if not candidate.names.isdisjoint(wanted.only):
        return None
    return f"is not among provider.only: {', '.join(wanted.only)[:200]}"


def _ignore(candidate: Candidate, wanted: Needs) -> str | None:
    if candidate.names.isdisjoint(wanted.ignore):
        return None
    return f"is named by provider.ignore: {next(name for name in wanted.ignore if name in candidate.names)[:100]}"


def _order(candidate: Candidate, wanted: Needs) -> str | None:
    if not candidate.names.isdisjoint(wanted.order_only):
        return None
    return "is not in provider.order, and allow_fallbacks is false"


def _max_price(candidate: Candidate, wanted: Needs) -> str | None:
    price = candidate.deployment.price
    price = None if price is None else price.at(wanted.now)
    if price is None:
        return "has no price, and provider.max_price is given"
    for word, most in wanted.max_price:
        costs: Decimal | None = getattr(price, _COLUMNS[word])
        if costs is not None and costs > most:
            return f"costs {costs:f} roubles for {word}, and provider.max_price allows {most:f}"
    return None


_COLUMNS: Final = {"prompt": "input_rub_per_1m", "completion": "output_rub_per_1m", "image": "image_rub"}


def _most(wished: MaxPrice | None) -> tuple[tuple[str, Decimal], ...]:
    """The bounds that are given, of those that somebody's price can break."""
    found = ((word, getattr(wished, word)) for word in _COLUMNS if wished is not None)
    return tuple([(word, Decimal(str(bound))) for word, bound in found if bound is not None])


_Filter = tuple[str, Callable[[Needs], object], Callable[[Candidate, Needs], str | None]]
_FILTERS: tuple[_Filter, ...] = (
    (ONLY, lambda wanted: wanted.only, _only),
    (IGNORE, lambda wanted: wanted.ignore, _ignore),
    (ORDER, lambda wanted: wanted.order_only, _order),
    (REGION, lambda wanted: wanted.regions is not None, _region),
    (TAGS, lambda wanted: wanted.tags, _tags),
    (MAX_PRICE, lambda wanted: wanted.max_price, _max_price),
    (INPUTS, lambda wanted: wanted.inputs != TEXT, _inputs),
    (TOOLS, lambda wanted: wanted.tools, _tools),
    (JSON_SCHEMA, lambda wanted: wanted.json_schema, _json_schema),
    (PARAMETERS, lambda wanted: wanted.parameters, _parameters),
    (CONTEXT, lambda wanted: wanted.tokens, _context),
)
"""Code, whether a request asks for it at all, and what is wrong with a deployment, if anything."""

CODES: Final = (KEY, *(code for code, _, _ in _FILTERS), EJECTED, FALLBACKS)
"""Every code, in the order in which the filters look."""


# ── how long it is ───────────────────────────────────────────────────────────────────────────────────────


def _tokens(request: ChatRequest, shortest: int) -> int:
    """As `least_tokens`; 0 where it is plain that they fit into `shortest`."""
    return 0 if _quick_tokens(request) <= shortest else least_tokens(request)


def least_tokens(request: ChatRequest) -> int:
    """The fewest tokens that prompt and answer can take together. Pictures and files count nothing: nobody knows."""
    raw = request.fields.get("messages")
    prompt = 0 if raw is None else len(_text_of(raw).encode()) // BYTES_PER_TOKEN
    return prompt + _answer(request)


def _quick_tokens(request: ChatRequest) -> int:
    """The same from the length of the JSON text alone: never less."""
    raw = request.fields.get("messages")
    return (0 if raw is None else len(memoryview(raw)) // BYTES_PER_TOKEN) + _answer(request)


def _answer(request: ChatRequest) -> int:
    fields = request.fields
    return (request.max_tokens or 0) if "max_tokens" in fields or "max_completion_tokens" in fields else 0


class _Content(Struct):
    content: object = None


_MESSAGES = msgspec.json.Decoder(list[_Content])


def _text_of(raw: msgspec.Raw) -> str:
    """What is text in the messages: a client may write each letter as `\\u0439`, which is six bytes for two."""
    words: list[str] = []
    for message in _MESSAGES.decode(raw):
        content = message.content
        if isinstance(content, str):
            words.append(content)
        elif isinstance(content, list):
            words += [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "".join(words)
