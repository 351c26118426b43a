"""What a model costs, as the operator's file says it."""

from datetime import date, timedelta
from decimal import Decimal
from math import inf
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from xrouter.core.money import VAT_PERCENT, Price, in_order, moscow_midnight
from xrouter.settings.strict import Strict

_Rub = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=12)]
UNPRICED = "unpriced"
_COLUMNS = ("input", "output", "cached", "tool", "batch_input", "batch_output")


class PriceSettings(Strict):
    """What a model costs, in roubles. Each column is given for a million or for a thousand tokens. A model whose
    price changes has a list of them."""

    input_rub_per_1m: _Rub | None = Field(None, description="Prompt.")
    input_rub_per_1k: _Rub | None = None
    output_rub_per_1m: _Rub | None = Field(None, description="Answer. Needed for chat.")
    output_rub_per_1k: _Rub | None = None
    cached_rub_per_1m: _Rub | None = Field(None, description="Part of the prompt that the vendor had. Unset: as input.")
    cached_rub_per_1k: _Rub | None = None
    tool_rub_per_1m: _Rub | None = Field(None, description="Part of the prompt that tools take. Unset: as input.")
    tool_rub_per_1k: _Rub | None = None
    batch_input_rub_per_1m: _Rub | None = Field(None, description="Prompt in a batch. Unset: as input.")
    batch_input_rub_per_1k: _Rub | None = None
    batch_output_rub_per_1m: _Rub | None = Field(None, description="Answer in a batch. Unset: as output.")
    batch_output_rub_per_1k: _Rub | None = None
    image_rub: _Rub | None = Field(None, description="One picture.")
    currency: Literal["RUB"] = "RUB"
    vat: Literal["included", "excluded"] = Field("included", description="Whether the figures hold the tax.")
    vat_percent: Annotated[Decimal, Field(ge=0, lt=100, decimal_places=4)] = Field(
        VAT_PERCENT, description="Its rate. What we count and show always includes it."
    )
    valid_from: date | None = Field(None, description="First day in force (Moscow). Unset: since ever.")
    valid_to: date | None = Field(None, description="Last day in force (Moscow). Unset: until further notice.")

    @model_validator(mode="after")
    def _is_a_price(self) -> Self:
        for column in _COLUMNS:
            if self._given(column, "1m") is not None and self._given(column, "1k") is not None:
                raise ValueError(f"{column} is given per 1k and per 1m; keep one of them")
        if self._rub("input") is None and self.image_rub is None:
            raise ValueError("needs input_rub_per_1m (or input_rub_per_1k) or image_rub; for none write `unpriced`")
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from")
        return self

    def _given(self, column: str, unit: str) -> Decimal | None:
        found: Decimal | None = getattr(self, f"{column}_rub_per_{unit}")
        return found

    def _rub(self, column: str) -> Decimal | None:
        """One column per million tokens, VAT included."""
        per_1k = self._given(column, "1k")
        return self._with_tax(self._given(column, "1m") if per_1k is None else per_1k * 1000)

    def _with_tax(self, rub: Decimal | None) -> Decimal | None:
        if rub is None or self.vat == "included":
            return rub
        return rub * (100 + self.vat_percent) / 100

    @property
    def prices_output(self) -> bool:
        """Whether it says what an answer costs."""
        return self._rub("output") is not None

    def price(self) -> Price:
        """The same as the word of the core."""
        return Price(
            self._rub("input") or Decimal(0),
            self._rub("output") or Decimal(0),
            self._rub("cached"),
            self._rub("tool"),
            self._rub("batch_input"),
            self._rub("batch_output"),
            self._with_tax(self.image_rub),
            vat_percent=self.vat_percent,
            valid_from=-inf if self.valid_from is None else moscow_midnight(self.valid_from),
            valid_to=inf if self.valid_to is None else moscow_midnight(self.valid_to + timedelta(days=1)),
        )


def price_over_time(given: list[PriceSettings]) -> Price | None:
    """The prices of one model as one, the later ones behind the first; None for an empty list, which is `unpriced`.
    Raises ValueError for two that hold at once."""
    return in_order(one.price() for one in given)


def _as_list(value: object) -> object:
    """One price as a list of one; `unpriced` as an empty list."""
    if value == UNPRICED:
        return []
    if isinstance(value, str):
        raise ValueError(f"must be a price, a list of prices with their dates, or `{UNPRICED}`")  # noqa: TRY004
    if value == []:
        raise ValueError(f"is empty; for no price write `{UNPRICED}`")
    return [value] if isinstance(value, dict) else value


def _one_at_a_time(value: list[PriceSettings]) -> list[PriceSettings]:
    price_over_time(value)
    return value


Prices = Annotated[list[PriceSettings], BeforeValidator(_as_list), AfterValidator(_one_at_a_time)]
