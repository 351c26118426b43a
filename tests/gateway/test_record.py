"""What the intent says, should nothing come after it."""

from decimal import Decimal

from tests.gateway.script import Script, call, world

from xrouter.core.call import Attempt
from xrouter.core.chat import Usage
from xrouter.core.money import Price
from xrouter.gateway import meter, record, route


def test_the_intent_carries_the_estimated_prompt_and_leaves_no_trace_of_it() -> None:
    place, one = world(a=Script([])), call("a/m")
    seen: list[tuple[Usage, int]] = []

    class Journal:
        def intend(self, attempt: Attempt, expected: Usage, expected_cost_micro: int) -> None:
            seen.append((expected, expected_cost_micro))

        def settle(self, attempt: Attempt) -> None: ...

    object.__setattr__(place.gateway, "journal", Journal())
    attempt = record.begin(one, route.plan(one.request, place.gateway.catalog)[0], place.gateway)
    attempt.sending()
    tokens = meter.prompt_tokens(one.request)
    assert tokens > 0
    assert seen == [(Usage(tokens, 0, estimated=True), 65 * tokens)]
    assert (attempt.usage, attempt.cost_micro) == (None, 0)


def test_an_unpriced_deployment_costs_nothing() -> None:
    assert meter.cost_micro(None, Usage(10, 10)) == 0
    assert meter.cost_micro(Price(Decimal("0.5"), Decimal(0)), Usage(3, 10)) == 2  # 1.5 rounds half-even
