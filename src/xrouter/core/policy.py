"""How a model id is routed: the operator's words, checked and precomputed. `settings/routes.py` makes them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct

from xrouter.core.conditions import Condition


class Strategy(StrEnum):
    """In which order the deployments of a model are tried."""

    PRIORITY = "priority"  # as they stand in the file
    WEIGHTED = "weighted"  # at random, by their weights
    LEAST_BUSY = "least_busy"  # the fewest running attempts for its weight
    FASTEST = "fastest"  # of two chosen at random the one with the lower peak-EWMA x running attempts
    LATENCY = "latency"  # the shortest time to the first content
    CHEAPEST = "cheapest"  # price x the tokens that this request is expected to take
    THROUGHPUT = "throughput"  # the most output tokens a second
    PRICE_WEIGHTED = "price_weighted"  # at random, by one over the square of the price; those that failed lately last
    STICKY = "sticky"  # the same one for the same session, user or beginning of a prompt

    __hash__ = str.__hash__


WEIGHING = frozenset({Strategy.WEIGHTED, Strategy.LEAST_BUSY, Strategy.FASTEST, Strategy.STICKY})
"""Strategies that read weights."""

StickyBy = Literal["session", "user", "prompt"]
STICKY_BY: tuple[StickyBy, ...] = ("session", "user", "prompt")


class Canary(Struct, frozen=True):
    """So many percent of the calls go to `model` first; the others never do. `by`: a `session` (or the user, where
    there is none) stays where it is, or each `call` is drawn by itself."""

    model: str
    percent: float
    by: Literal["session", "call"] = "session"


class Rule(Struct, frozen=True):
    """The first rule of a route whose condition holds changes it for this call. What is None stays."""

    name: str
    when: Condition
    models: tuple[str, ...] | None = None
    strategy: Strategy | None = None
    regions: frozenset[str] | None = None
    with_tags: frozenset[str] = frozenset()


class Policy(Struct, frozen=True):
    """The route of one model id or alias.

    `models` are ids in the order of the file; empty: those that the name stands for. `weights` by id, 1 where none is
    given. `regions`: where data may be processed, None for anywhere. `with_tags`: what a deployment must have.
    `fallbacks`: a class of failure -> the models that it opens. `continues`: an answer that breaks off is continued by
    another deployment.
    """

    strategy: Strategy = Strategy.PRIORITY
    models: tuple[str, ...] = ()
    weights: Mapping[str, float] = {}
    sticky: tuple[StickyBy, ...] = STICKY_BY
    regions: frozenset[str] | None = None
    with_tags: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    canary: Canary | None = None
    fallbacks: Mapping[str, tuple[str, ...]] = {}
    continues: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Every model that it may send a call to before anything has failed, each once."""
        found = [*self.models]
        for rule in self.rules:
            found += rule.models or ()
        if self.canary is not None:
            found.append(self.canary.model)
        return tuple(dict.fromkeys(found))


USUAL = Policy()
"""For whoever writes nothing: in the order of the file."""

CONTEXT_LENGTH = "context_length"
CONTENT_POLICY = "content_policy"
FALLBACK_CLASSES = (CONTEXT_LENGTH, CONTENT_POLICY)


def said(policy: Policy) -> bytes:
    """The policy as text that is the same for the same policy, for a digest of it."""
    return msgspec.json.encode(policy, order="deterministic")
