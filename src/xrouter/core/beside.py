"""What may be asked beside a call: a second attempt for the first token, and a copy that nobody waits for. A route says
so, in these words."""

from typing import Final

from msgspec import Struct

SHADOW_PREFIX: Final = "shadow:"
"""Before the name of a route: the key under which its shadow's attempts stand in the books. No key that is made has
such an id."""


class Hedge(Struct, frozen=True):
    """A stream without content after `after_s` seconds is asked of another deployment, too; None: after the p95 of the
    first one's own times to the first content. At most `budget_percent` of the calls may have such a second attempt."""

    after_s: float | None = None
    budget_percent: float = 5.0


class Shadow(Struct, frozen=True):
    """So many percent of the calls are also sent to `model`, and its answers are thrown away. All of them together cost
    at most `max_micro_per_day` micro-roubles a day (UTC)."""

    model: str
    percent: float
    max_micro_per_day: int
