"""How a plan came about, written down while it is made: for whoever asks why, and for the error when nothing is left.

Made only then: a call that nobody asks about has none.
"""

from typing import Any

from msgspec import Struct, field

from xrouter.gateway.candidate import Candidate


class Removed(Struct, frozen=True, eq=False):
    """A candidate that a filter took out: `code` is the filter's (`gateway/eligibility.py`), `words` say why. `wished`:
    nothing but the request's own wishes demands it, neither the route nor the key."""

    candidate: Candidate
    code: str
    words: str
    wished: bool = False


class Trace(Struct, eq=False):
    """`seed` is what every draw came from. By asked-for name: `strategies` gave the order, `rules` held, `canaries`
    were drawn. `scores` are the terms that each candidate was compared by, `moved` says why one stands further back
    than they say. `panic`: every candidate was ejected, so nobody counts as such. `tokens`: prompt and answer as they
    were expected, where the price decided."""

    seed: int = 0
    strategies: dict[str, str] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    canaries: dict[str, str] = field(default_factory=dict)
    removed: list[Removed] = field(default_factory=list)
    scores: dict[Candidate, dict[str, Any]] = field(default_factory=dict)
    moved: dict[Candidate, str] = field(default_factory=dict)
    panic: bool = False
    tokens: tuple[int, int] | None = None

    def remove(self, candidate: Candidate, code: str, words: str, *, wished: bool = False) -> None:
        self.removed.append(Removed(candidate, code, words, wished))

    def score(self, candidate: Candidate, **terms: Any) -> None:
        """What it was compared by; smaller is better where nothing else is said."""
        self.scores.setdefault(candidate, {}).update(terms)
