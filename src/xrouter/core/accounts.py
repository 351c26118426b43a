"""Who stands above a key: organisations, their teams and users, and plans, which are named bundles of limits.

organisation > team > user > key. Everything but the organisation itself may leave out a level: a key may belong to the
installation, to an organisation, to a team, to a user. What stands above narrows: disabled, models, operations and
networks are those that every level allows, and the limits of every level must pass.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from xrouter.core.errors import NotFound
from xrouter.core.limits import DAY_S, MINUTE_S, Per, Unit
from xrouter.core.operation import Operation

MAX_NAME_LENGTH: Final = 100
MAX_LIMITS: Final = 32
MAX_GLOBS: Final = 200
MAX_NETWORKS: Final = 200
MAX_GLOB_LENGTH: Final = 200
MAX_AMOUNT: Final = 10**15
WINDOWS: Final = {"minute": MINUTE_S, "day": DAY_S}
_WINDOW_NAMES: Final = {seconds: name for name, seconds in WINDOWS.items()}
_UNITS: Final = frozenset(unit.value for unit in Unit)
_PERS: Final = {per.value: per for per in Per}


TOPIC_ACCOUNTS: Final = "accounts"
"""The topic on which processes and nodes tell each other that a key, an account or a plan has changed: whoever hears it
polls at once."""


class Kind(StrEnum):
    """What may stand above a key, from the widest to the narrowest."""

    ORGANISATION = "organisation"
    TEAM = "team"
    USER = "user"


def nobody(kind: Kind, account_id: str, param: str) -> NotFound:
    """The same words for an id that nobody has and for one that is another tenant's."""
    return NotFound(f"No {kind.value} has the id '{account_id[:64]}'.", param=param)


Slot = tuple[Unit, int, str | None, Per | None]


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit as data, before it is anybody's: at most `amount` of `unit` in each `window_s` seconds (0 for
    `concurrent`, which has no window). `model` and `exact` as in `core.limits.Limit`. With `per` it holds for each end
    user, or for each tag, by itself: of everybody below whoever has it together.

    As text `20 requests/minute`, `5 concurrent`, `1000 tokens/day acme/* exact`, `9 requests/day per end_user`.
    """

    unit: Unit
    amount: int
    window_s: int
    model: str | None = None
    exact: bool = False
    per: Per | None = None

    @property
    def slot(self) -> "Slot":
        """What it limits: an own allowance takes the place of the plan's with the same slot."""
        return self.unit, self.window_s, self.model, self.per

    def __str__(self) -> str:
        window = f"/{_WINDOW_NAMES.get(self.window_s, f'{self.window_s}s')}" if self.window_s else ""
        model = f" {self.model}" if self.model is not None else ""
        per = f" per {self.per.value}" if self.per is not None else ""
        return f"{self.amount} {self.unit.value}{window}{model}{per}{' exact' if self.exact else ''}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A named bundle of limits. A disabled one is given to nobody any more; whoever has it keeps it."""

    id: str
    name: str
    limits: tuple[Allowance, ...]
    created_at: float
    updated_at: float
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an organisation something stands; None for a level that it does not have."""

    organisation_id: str | None = None
    team_id: str | None = None
    user_id: str | None = None

    @property
    def is_anywhere(self) -> bool:
        """Is this the installation itself?"""
        return self.organisation_id is None and self.team_id is None and self.user_id is None

    def is_within(self, wide: "Place") -> bool:
        """Is this `wide` itself or somewhere below it? Everything is below the installation."""
        return (
            wide.organisation_id in (None, self.organisation_id)
            and wide.team_id in (None, self.team_id)
            and wide.user_id in (None, self.user_id)
        )


ANYWHERE: Final = Place()
"""The installation itself: everything is below it."""


@dataclass(frozen=True, slots=True)
class Account:
    """An organisation, a team or a user. `models` are globs, `networks` CIDR; None allows all. Times are seconds since
    the epoch.

    Its own id stands in the place, too: a team's `team_id` is its `id`.
    """

    kind: Kind
    id: str
    name: str
    place: Place
    created_at: float
    updated_at: float
    disabled: bool = False
    plan_id: str | None = None
    limits: tuple[Allowance, ...] = ()
    models: tuple[str, ...] | None = None
    operations: frozenset[Operation] | None = None
    networks: tuple[str, ...] | None = None


def own_place(kind: Kind, account_id: str, above: Place) -> Place:
    """The place of an account that is made below `above`."""
    if kind is Kind.ORGANISATION:
        return Place(account_id)
    if kind is Kind.TEAM:
        return Place(above.organisation_id, account_id)
    return Place(above.organisation_id, above.team_id, account_id)


def _built_in(name: str, requests_a_minute: int, requests_a_day: int, concurrent: int) -> Plan:
    return Plan(
        name,
        name,
        (
            Allowance(Unit.REQUESTS, requests_a_minute, MINUTE_S),
            Allowance(Unit.REQUESTS, requests_a_day, DAY_S),
            Allowance(Unit.CONCURRENT, concurrent, 0),
        ),
        created_at=0.0,
        updated_at=0.0,
    )


BUILT_IN_PLANS: Final = {
    "free": _built_in("free", 20, 200, 5),
    "pro": _built_in("pro", 100, 1000, 20),
    "enterprise": Plan("enterprise", "enterprise", (), created_at=0.0, updated_at=0.0),
}
"""Plans that are there without anybody having made them, by id. Changing one stores it; `enterprise` has no limits
until somebody sets them."""


def effective(plan: Plan | None, own: Iterable[Allowance]) -> tuple[Allowance, ...]:
    """The limits of an object: its plan's, where its own do not stand in their place."""
    found = {} if plan is None else {one.slot: one for one in plan.limits}
    return tuple((found | {one.slot: one for one in own}).values())


def check_limits(limits: Iterable[Allowance]) -> None:
    """Raises ValueError, in words, for limits that nobody may have."""
    seen: set[Slot] = set()
    for count, one in enumerate(limits, 1):
        if count > MAX_LIMITS:
            raise ValueError(f"at most {MAX_LIMITS} limits")
        if not 0 <= one.amount <= MAX_AMOUNT:
            raise ValueError(f"'{one}': the amount must be a whole number from 0 to {MAX_AMOUNT}")
        if (one.unit is Unit.CONCURRENT) != (one.window_s == 0):
            raise ValueError(f"'{one}': requests and tokens have a window, minute or day; concurrent has none")
        if one.window_s not in (0, *_WINDOW_NAMES):
            raise ValueError(f"'{one}': the window must be minute or day")
        if one.model is not None:
            check_globs((one.model,))
        if one.slot in seen:
            raise ValueError(f"'{one}': there is another limit of the same unit, window, model and `per`")
        seen.add(one.slot)


_GLOB = re.compile(rf"[\x21-\x7e]{{1,{MAX_GLOB_LENGTH}}}")


def check_globs(globs: Iterable[str]) -> None:
    """Raises ValueError, in words, for what no model id can be like."""
    for count, one in enumerate(globs, 1):
        if count > MAX_GLOBS:
            raise ValueError(f"at most {MAX_GLOBS} models")
        if not _GLOB.fullmatch(one):
            raise ValueError(
                f"'{one[:MAX_GLOB_LENGTH]}' is no model id: 1 to {MAX_GLOB_LENGTH} characters of ASCII without spaces, "
                "`*` for any run of them"
            )


def read_allowance(text: str) -> Allowance:
    """The limit that `text` says, in the form that `str(allowance)` has. Raises ValueError in words."""
    words = text.split()
    exact = len(words) > 2 and words[-1] == "exact"
    if exact:
        words.pop()
    per = _PERS.get(words[-1]) if len(words) > 3 and words[-2] == "per" else None
    if per is not None:
        del words[-2:]
    unit, slash, window = words[1].partition("/") if len(words) in (2, 3) else ("", "", "")
    if (
        not (words and words[0].isascii() and words[0].isdigit())
        or unit not in _UNITS
        or (slash and window not in WINDOWS)
        or words[2:] in (["per"], ["exact"])  # meant as something else than a model
    ):
        raise ValueError(
            f"'{text}' is no limit; write '20 requests/minute', '1000 tokens/day acme/*', '5 concurrent', "
            "then 'per end_user' or 'per tag' where it holds for each of them, "
            "with 'exact' at the end where all nodes must share one counter"
        )
    found = Allowance(
        Unit(unit), int(words[0]), WINDOWS[window] if slash else 0, words[2] if len(words) == 3 else None, exact, per
    )
    check_limits((found,))
    return found
