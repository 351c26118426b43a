"""Limits: how much of what a subject may use in which time. Every level of an account has its own; all must pass."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Whose limit it is, from the widest to the narrowest."""

    ORGANISATION = "organisation"
    TEAM = "team"
    USER = "user"
    KEY = "key"
    END_USER = "end_user"
    TAG = "tag"


class Unit(StrEnum):
    """What is counted. `concurrent` has no window: it counts the calls that run now."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


MINUTE_S = 60
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` of `unit` in each `window_s` seconds, for one subject.

    `subject` is the id of the organisation, team, user or key; for an end user or a tag, the id of whoever they belong
    to and their own name. `owner` are the words of an error message ("API key 'ci'", "team 'payments', plan 'free'").
    `model` is a glob over model ids, and only matching calls count; None counts all. `exact` asks one counter for all
    nodes before each call instead of working from leased slices.
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
