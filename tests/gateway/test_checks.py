"""Ejected vendors are asked, beside the calls, whether they are back."""

import asyncio
from random import Random

import pytest
from tests.gateway.test_health import DOWN, A, Stage, of

from xrouter.core.errors import ProviderAuthFailed, ProviderQuotaExhausted, ProviderUnavailable
from xrouter.gateway.checks import Checks

SIBLING = of("a", "n")


class Vendor:
    """Lists its models, or fails to."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def list_models(self) -> list[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ["m"]


class Room:
    def __init__(self, vendor: object) -> None:
        self.stage = Stage()
        self.checks = Checks(self.stage.health, {"a": vendor}, self.stage.clock, 30.0, Random(1))  # type: ignore[dict-item]

    async def after(self, seconds: float) -> None:
        """A look every second, and whatever comes of it."""
        for _ in range(int(seconds)):
            self.stage.clock.advance(1.0)
            self.checks.look(self.stage.now)
            for _ in range(5):
                await asyncio.sleep(0)


async def test_a_vendor_that_answers_may_be_tried_by_one_call_and_no_more() -> None:
    vendor = Vendor()
    room = Room(vendor)
    room.stage.health.of(SIBLING)
    room.stage.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=401))
    await room.after(26)
    assert (vendor.asked, room.stage.why_not(A)) == (0, "auth_failed")
    await room.after(10)
    assert vendor.asked == 1, "one question for the whole account"
    for one in (A, SIBLING):
        assert room.stage.why_not(one) is None
        assert room.stage.health.station(one).breaker.state(room.stage.now).name == "half_open"
    await room.after(100)
    assert vendor.asked == 1, "nobody is ejected any more"


@pytest.mark.parametrize("error", [ProviderUnavailable("down", provider="a"), TimeoutError()])
async def test_a_vendor_that_does_not_answer_is_asked_again(error: Exception) -> None:
    vendor = Vendor()
    vendor.error = error
    room = Room(vendor)
    room.stage.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=401))
    await room.after(200)
    assert 5 <= vendor.asked <= 8
    assert room.stage.why_not(A) == "auth_failed"


async def test_an_empty_account_and_a_forbidden_model_are_not_asked_about() -> None:
    vendor = Vendor()
    for error in (
        ProviderQuotaExhausted("no", provider="a", upstream_status=402),
        ProviderAuthFailed("no", provider="a", upstream_status=403),
    ):
        room = Room(vendor)
        room.stage.fail(A, error)
        await room.after(200)
    assert vendor.asked == 0


async def test_a_vendor_without_a_list_is_left_alone() -> None:
    room = Room(object())
    room.stage.fail(A, DOWN, 5)
    await room.after(40)
    assert room.stage.health.station(A).breaker.ejections == 1
