"""An attempt costs what was in force when it started, however long it ran."""

from datetime import date
from decimal import Decimal

import pytest

from xrouter.core.call import Attempt, Call, Caller, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price, in_order, moscow_midnight
from xrouter.gateway import meter

CHANGE = moscow_midnight(date(2026, 12, 1))
PRICE = in_order(
    [
        Price(Decimal(1), Decimal(1), valid_from=CHANGE - 86_400, valid_to=CHANGE),
        Price(Decimal(3), Decimal(3), valid_from=CHANGE),
    ]
)


def attempt(started_at: float, price: Price | None) -> Attempt:
    call = Call(
        request=ChatRequest(model="a/m", stream=False, fields={}),
        caller=Caller("k", "n", frozenset()),
        request_id="req",
        started_at=started_at,
        started=0.0,
    )
    return Attempt(
        call=call,
        deployment=Deployment("a/m", "a", "vllm", "m", price=price),
        model="a/m",
        number=1,
        began=0.0,
        started_at=started_at,
        journal_intent=lambda _: None,
        state=State.SUCCEEDED,
        usage=Usage(input_tokens=5, output_tokens=5),
    )


@pytest.mark.parametrize(
    ("started_at", "micro"), [(CHANGE - 0.001, 10), (CHANGE, 30), (CHANGE + 1e6, 30), (CHANGE - 86_401, 0)]
)
def test_the_moment_of_the_start_decides(started_at: float, micro: int) -> None:
    one = attempt(started_at, PRICE)
    meter.settle(one)
    assert one.cost_micro == micro
    assert (one.price is None) == (micro == 0), "before the first known price it is unpriced, which the books say"


def test_without_a_price_it_is_unpriced() -> None:
    one = attempt(CHANGE, None)
    meter.settle(one)
    assert (one.cost_micro, one.price) == (0, None)
