"""Money is an integer of micro-roubles (10^-6 RUB); prices are Decimal roubles per million tokens.

One micro-rouble per token equals one rouble per million tokens, so a price needs no conversion.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

MICRO_PER_RUB = 1_000_000


def rub_text(micro: int) -> str:
    """Micro-roubles as decimal text in roubles without an exponent or trailing zeros, fit for a JSON number:
    `rub_text(1_300)` is `0.0013`."""
    whole, part = divmod(abs(micro), MICRO_PER_RUB)
    text = f"{whole}.{part:06d}".rstrip("0") if part else str(whole)
    return f"-{text}" if micro < 0 else text


@dataclass(frozen=True, slots=True)
class Price:
    """What a deployment charges, VAT included, in roubles per million tokens.

    `cached_rub_per_1m` is the price of the cached part of the input; None means the input price.
    """

    input_rub_per_1m: Decimal
    output_rub_per_1m: Decimal
    cached_rub_per_1m: Decimal | None = None

    def micro(self, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        """Cost of one attempt in micro-roubles, rounded half-even once.

        `cached_tokens` is a subset of `input_tokens`; a vendor that reports more is cut to it.
        """
        cached = min(cached_tokens, input_tokens)
        cached_price = self.input_rub_per_1m if self.cached_rub_per_1m is None else self.cached_rub_per_1m
        exact = (
            (input_tokens - cached) * self.input_rub_per_1m
            + cached * cached_price
            + output_tokens * self.output_rub_per_1m
        )
        return int(exact.to_integral_value(ROUND_HALF_EVEN))
