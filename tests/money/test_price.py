"""Prices: exact to the micro-rouble, rounded once, and charged by the moment when an attempt starts."""

from datetime import date
from decimal import Decimal, localcontext
from fractions import Fraction
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.money import Price, in_order, moscow_day, moscow_midnight, price_text, pricing, rub_text

RUB = st.decimals(min_value=0, max_value=10**9, places=12, allow_nan=False, allow_infinity=False)
MAYBE = st.none() | RUB
TOKENS = st.integers(min_value=0, max_value=10**18)
PRICES = st.builds(Price, RUB, RUB, MAYBE, MAYBE, MAYBE, MAYBE, MAYBE)


def half_even(exact: Fraction) -> int:
    return round(exact)  # Python rounds a Fraction half-even


@given(PRICES, TOKENS, TOKENS, TOKENS, TOKENS, st.integers(0, 1000))
def test_a_call_costs_the_sum_of_its_columns_rounded_once(
    price: Price, prompt: int, answer: int, cached: int, tool: int, images: int
) -> None:
    cached = min(cached, prompt)
    tool = min(tool, prompt - cached)
    base = Fraction(price.input_rub_per_1m)
    exact = (
        (prompt - cached - tool) * base
        + cached * (base if price.cached_rub_per_1m is None else Fraction(price.cached_rub_per_1m))
        + tool * (base if price.tool_rub_per_1m is None else Fraction(price.tool_rub_per_1m))
        + answer * Fraction(price.output_rub_per_1m)
        + images * 10**6 * Fraction(price.image_rub or 0)
    )
    found = price.micro(
        input_tokens=prompt, output_tokens=answer, cached_tokens=cached, tool_tokens=tool, images=images
    )
    assert found == half_even(exact)
    assert isinstance(found, int)


@given(PRICES, TOKENS, TOKENS)
def test_a_batch_has_columns_of_its_own(price: Price, prompt: int, answer: int) -> None:
    given_input = price.batch_input_rub_per_1m
    given_output = price.batch_output_rub_per_1m
    exact = prompt * Fraction(price.input_rub_per_1m if given_input is None else given_input)
    exact += answer * Fraction(price.output_rub_per_1m if given_output is None else given_output)
    assert price.micro(input_tokens=prompt, output_tokens=answer, batch=True) == half_even(exact)


@given(PRICES, TOKENS, TOKENS)
def test_a_vendor_cannot_report_more_cached_tokens_than_there_are(price: Price, prompt: int, more: int) -> None:
    everything = price.micro(input_tokens=prompt, cached_tokens=prompt)
    assert price.micro(input_tokens=prompt, cached_tokens=prompt + more, tool_tokens=more) == everything


@given(PRICES, TOKENS, TOKENS)
def test_more_tokens_never_cost_less(price: Price, prompt: int, more: int) -> None:
    assert price.micro(input_tokens=prompt + more) >= price.micro(input_tokens=prompt) >= 0


@given(RUB, TOKENS)
def test_the_precision_of_decimals_does_not_matter(rub: Decimal, tokens: int) -> None:
    with localcontext(prec=3):
        found = Price(rub, Decimal(0)).micro(input_tokens=tokens)
    assert found == half_even(tokens * Fraction(rub))


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_the_text_of_money_is_exact(micro: int) -> None:
    assert Decimal(rub_text(micro)) == Decimal(micro).scaleb(-6)
    assert "E" not in rub_text(micro)


@pytest.mark.parametrize(
    ("rub", "text"), [("65.00", "65"), ("32.50", "32.5"), ("0", "0"), ("1E+3", "1000"), ("100", "100")]
)
def test_the_text_of_a_price(rub: str, text: str) -> None:
    assert price_text(Decimal(rub)) == text


FEBRUARY, NOVEMBER = moscow_midnight(date(2026, 2, 1)), moscow_midnight(date(2026, 11, 21))


def test_days_begin_in_moscow() -> None:
    assert FEBRUARY == 1769893200.0  # 2026-01-31T21:00:00Z
    assert moscow_day(FEBRUARY) == date(2026, 2, 1)
    assert moscow_day(FEBRUARY - 0.001) == date(2026, 1, 31)


def _price(rub: int, begin: float, end: float) -> Price:
    return Price(Decimal(rub), Decimal(rub), valid_from=begin, valid_to=end)


def test_the_price_in_force_is_found_by_the_moment() -> None:
    chain = in_order([_price(3, NOVEMBER, inf), _price(1, -inf, FEBRUARY), _price(2, FEBRUARY, FEBRUARY + 10)])
    assert chain is not None
    found = [chain.at(moment) for moment in (0, FEBRUARY, FEBRUARY + 10, NOVEMBER - 1, NOVEMBER, 1e12)]
    assert [None if one is None else int(one.input_rub_per_1m) for one in found] == [1, 2, None, None, 3, 3]


@given(st.lists(st.integers(0, 100), min_size=2, max_size=8, unique=True), st.integers(-5, 105))
def test_at_most_one_price_is_in_force(days: list[int], day: int) -> None:
    days.sort()
    periods = [_price(begin + 1, begin, end) for begin, end in zip(days[::2], days[1::2], strict=False)]
    chain = in_order(reversed(periods))
    assert chain is not None
    holding = [one for one in periods if one.valid_from <= day < one.valid_to]
    found = chain.at(day)
    assert [None if found is None else found.input_rub_per_1m] == [one.input_rub_per_1m for one in holding or ()] or (
        found is None and not holding
    )


def test_two_prices_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two prices hold at once from 2026-02-01 on; end the earlier one"):
        in_order([_price(1, -inf, inf), _price(2, FEBRUARY, inf)])


def test_a_price_without_dates_holds_always() -> None:
    price = Price(Decimal(1), Decimal(2))
    assert price.at(-1e12) is price
    assert price.at(1e12) is price


def test_what_the_apis_show() -> None:
    price = Price(Decimal("65.0"), Decimal(70), cached_rub_per_1m=Decimal("0.5"), image_rub=Decimal(2))
    assert pricing(price) == {
        "currency": "RUB",
        "input_per_1m": "65",
        "output_per_1m": "70",
        "cached_per_1m": "0.5",
        "image": "2",
        "vat_percent": "22",
    }
    assert pricing(None) == {"currency": "RUB", "unpriced": True}
