"""Money is an integer of micro-roubles (10^-6 RUB); prices are Decimal roubles, VAT included, each with its validity.

One micro-rouble per token equals one rouble per million tokens, so a price needs no conversion.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from math import inf, lcm
from typing import Final

MICRO_PER_RUB = 1_000_000

CURRENCY: Final = "RUB"

VAT_PERCENT: Final = Decimal(22)
"""The usual Russian rate since 2026-01-01."""

_MOSCOW: Final = timezone(timedelta(hours=3), "MSK")  # without summer time since 2014


@lru_cache(1024)  # the cost of a call is told three times: header, usage, log
def rub_text(micro: int) -> str:
    """Micro-roubles as decimal text in roubles without an exponent or trailing zeros, fit for a JSON number:
    `rub_text(1_300)` is `0.0013`."""
    whole, part = divmod(abs(micro), MICRO_PER_RUB)
    text = f"{whole}.{part:06d}".rstrip("0") if part else str(whole)
    return f"-{text}" if micro < 0 else text


def price_text(rub: Decimal) -> str:
    """A price as decimal text, the same way: `65`, `32.5`, `0.2`."""
    text = f"{rub:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def moscow_midnight(day: date) -> float:
    """When `day` begins in Moscow, where price lists change: seconds since the epoch."""
    return datetime.combine(day, time(), _MOSCOW).timestamp()


def moscow_day(moment: float) -> date:
    """The day in Moscow; `moment` is seconds since the epoch."""
    return datetime.fromtimestamp(moment, UTC).astimezone(_MOSCOW).date()


@dataclass(frozen=True, slots=True)
class Price:
    """What a deployment charges, VAT included, in roubles per million tokens, or for one picture.

    - `cached_rub_per_1m`: the cached part of the input; None means the input price;
    - `tool_rub_per_1m`: the part of the input that tools take, where the vendor counts it apart; None the same;
    - `batch_input_rub_per_1m`, `batch_output_rub_per_1m`: the whole input and the output of a batch; None means that
      a batch costs what a call costs;
    - `image_rub`: one picture; None: pictures are billed by their tokens, or not at all;
    - `vat_percent`: how much tax is in it, for whoever books it apart.

    Holds from `valid_from` until before `valid_to` (seconds since the epoch), then `following` does, where there is
    one. `at()` finds the price in force: one comparison as long as nothing changes, and nothing to be re-chosen.
    """

    input_rub_per_1m: Decimal
    output_rub_per_1m: Decimal
    cached_rub_per_1m: Decimal | None = None
    tool_rub_per_1m: Decimal | None = None
    batch_input_rub_per_1m: Decimal | None = None
    batch_output_rub_per_1m: Decimal | None = None
    image_rub: Decimal | None = None
    vat_percent: Decimal = VAT_PERCENT
    valid_from: float = -inf
    valid_to: float = inf
    following: "Price | None" = None
    _whole: "_Whole" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_whole", _Whole(self))

    def at(self, moment: float) -> "Price | None":
        """The price in force at `moment` (seconds since the epoch); None where none is known for it."""
        price: Price | None = self
        while price is not None and moment >= price.valid_to:
            price = price.following
        return price if price is not None and moment >= price.valid_from else None

    def micro(
        self,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        tool_tokens: int = 0,
        images: int = 0,
        batch: bool = False,
    ) -> int:
        """Cost of one attempt in micro-roubles, exact until it is rounded half-even, once.

        `cached_tokens` and `tool_tokens` are parts of `input_tokens`; a vendor that reports more is cut to it.
        """
        whole = self._whole
        if batch:
            exact = input_tokens * whole.batch_input + output_tokens * whole.batch_output
        else:
            cached = min(cached_tokens, input_tokens)
            tool = min(tool_tokens, input_tokens - cached)
            exact = (
                (input_tokens - cached - tool) * whole.input
                + cached * whole.cached
                + tool * whole.tool
                + output_tokens * whole.output
            )
        exact += images * whole.image
        micro, rest = divmod(exact, whole.unit)
        if 2 * rest > whole.unit or (2 * rest == whole.unit and micro & 1):
            micro += 1
        return micro


class _Whole:
    """The columns of a price as integers: what one token or picture costs in parts of a micro-rouble, `unit` of them.

    Decimal would round each step to 28 digits, and costs five times as much.
    """

    __slots__ = ("batch_input", "batch_output", "cached", "image", "input", "output", "tool", "unit")

    def __init__(self, price: Price) -> None:
        first, last = price.input_rub_per_1m, price.output_rub_per_1m
        columns = (
            first,
            last,
            _or(price.cached_rub_per_1m, first),
            _or(price.tool_rub_per_1m, first),
            _or(price.batch_input_rub_per_1m, first),
            _or(price.batch_output_rub_per_1m, last),
            _or(price.image_rub, Decimal(0)),
        )
        ratios = [column.as_integer_ratio() for column in columns]
        self.unit: Final = lcm(*(below for _, below in ratios))
        wholes = [above * (self.unit // below) for above, below in ratios]
        self.input, self.output, self.cached, self.tool, self.batch_input, self.batch_output, image = wholes
        self.image: Final = image * MICRO_PER_RUB


def _or(value: Decimal | None, default: Decimal) -> Decimal:
    return default if value is None else value


def pricing(price: Price | None) -> dict[str, str | bool]:
    """A price as the APIs show it: decimal text in roubles with VAT, the columns that it has; or `unpriced`."""
    if price is None:
        return {"currency": CURRENCY, "unpriced": True}
    columns = {
        "input_per_1m": price.input_rub_per_1m,
        "output_per_1m": price.output_rub_per_1m,
        "cached_per_1m": price.cached_rub_per_1m,
        "tool_per_1m": price.tool_rub_per_1m,
        "batch_input_per_1m": price.batch_input_rub_per_1m,
        "batch_output_per_1m": price.batch_output_rub_per_1m,
        "image": price.image_rub,
    }
    shown: dict[str, str | bool] = {"currency": CURRENCY}
    shown |= {name: price_text(rub) for name, rub in columns.items() if rub is not None}
    return shown | {"vat_percent": price_text(price.vat_percent)}


def in_order(prices: Iterable[Price]) -> Price | None:
    """The prices of one deployment over time as one: the earliest, with the others behind it. None where there are
    none. Raises ValueError for two that hold at once."""
    found = sorted(prices, key=lambda price: price.valid_from)
    following: Price | None = None
    for price in reversed(found):
        if following is not None and price.valid_to > following.valid_from:
            day = moscow_day(following.valid_from).isoformat() if following.valid_from != -inf else "the beginning"
            raise ValueError(f"two prices hold at once from {day} on; end the earlier one with valid_to")
        following = replace(price, following=following)
    return following
