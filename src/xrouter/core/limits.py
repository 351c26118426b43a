"""Limits: how much of what a subject may use in which time. Every level of an account has its own; all must pass.

Besides the limits themselves: the words in which whoever admits calls (`gateway/limiter.py`) speaks with whoever
counts for everybody (the ports `Counters` and `SharedCounters`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import quote


class Level(StrEnum):
    """Whose limit it is, from the widest to the narrowest."""

    ORGANISATION = "organisation"
    TEAM = "team"
    USER = "user"
    KEY = "key"
    END_USER = "end_user"
    TAG = "tag"


class Per(StrEnum):
    """For each of whom among the calls of a subject a limit holds by itself."""

    END_USER = Level.END_USER.value
    TAG = Level.TAG.value


class Unit(StrEnum):
    """What is counted. `concurrent` has no window: it counts the calls that run now."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


TOPIC_RECALL = "recall"
"""The topic on which a counter is named whose unused units are wanted back (`Topics`)."""

MINUTE_S = 60
DAY_S = 86_400

_NAMED: Final = {Level.END_USER: "end user", Level.TAG: "tag"}
_LONGEST_SHOWN: Final = 16
_SHOWN: Final = 11
"""Of a pseudonym, in messages: `eu_` and 8 characters find its rows; the whole of it is for the books."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` of `unit` in `window_s` seconds, for one subject: a store of `amount` that fills evenly, the
    whole of it within `window_s` (`core/gcra.py`). Who was away may use it all at once.

    `subject` is the id of the organisation, team, user or key; for an end user or a tag, the id of whoever they belong
    to and their own name (`for_name`). `owner` are the words of an error message ("API key 'ci'", "team 'payments',
    plan 'free'"). `model` is a glob over model ids, and only matching calls count; None counts all. `exact` asks one
    counter for all nodes before each call instead of working from leased slices.
    """

    level: Level
    subject: str
    owner: str
    unit: Unit
    amount: int
    window_s: int
    model: str | None = None
    exact: bool = False

    @property
    def counter(self) -> str:
        """The name of what is counted: the same for every key that this limit stands above."""
        model = "" if self.model is None else f":{self.model}"
        return f"{self.level}:{self.subject}:{self.unit}:{self.window_s}{model}"

    def for_name(self, name: str) -> "Limit":
        """The limit of one end user (a pseudonym) or of one tag, made from the one that holds for each of them."""
        shown = name if len(name) <= _LONGEST_SHOWN or self.level is not Level.END_USER else f"{name[:_SHOWN]}..."
        owner = f"{_NAMED[self.level]} '{shown}' of {self.owner}"
        # Clients choose tags: none may look like another counter.
        return replace(self, subject=f"{self.subject}:{quote(name, safe='')}", owner=owner)


def no_units() -> int:
    """What is held of a counter that counts no concurrency."""
    return 0


@dataclass(slots=True, eq=False)
class Draw:
    """What one process wants of one counter in one exchange.

    First `back` units come back; below 0 it is a debt: so many were used beyond what had been given. Then, if `need`
    units are free, between `need` and `want` are given. `window_s` is 0 where running calls are counted; for these
    `held` tells, when it is called, how many units the process holds, in use or not.
    """

    counter: str
    amount: int
    window_s: int
    need: float = 0
    want: float = 0
    back: float = 0
    held: Callable[[], int] = no_units


@dataclass(slots=True, eq=False)
class Grant:
    """`given` units; `free` are left for everybody. Where `need` was not free, it is `wait_s` from now on if nobody
    else comes; 0 otherwise."""

    given: float
    free: float
    wait_s: float = 0.0


class Hold(Protocol):
    """What a call holds of its limits, from its admission to its end."""

    @property
    def by_model(self) -> bool:
        """Does any of these limits count certain models only?"""
        ...

    def settle(self, tokens: int, reached: Sequence[str] = ()) -> None:
        """The call has ended and used so many tokens: give back the rest, once. A limit for certain models that is for
        none of `reached`, where any are named, gets all of it back."""
        ...

    def refund(self) -> None:
        """The call was refused before anything was done for it: give back all of it, once."""
        ...

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What is left of the tightest limits, as OpenAI tells it (`x-ratelimit-...`)."""
        ...
