"""Which of several credentials is asked first."""

from collections import Counter

from tests.gateway.script import Slots

from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment
from xrouter.gateway.health import Health
from xrouter.gateway.rotation import Rota, spread
from xrouter.gateway.route import Candidate


def candidate(account: str, weight: float = 1.0, model: str = "many/m", asked: str = "any") -> Candidate:
    provider = account.partition("#")[0]
    several = account if "#" in account else ""
    return Candidate(asked, Deployment(model, provider, "x", "m", credential=account, account=several, weight=weight))


def accounts(plan: tuple[Candidate, ...]) -> list[str]:
    return [one.deployment.credential for one in plan]


class Place:
    def __init__(self) -> None:
        self.slots = Slots()
        self.health = Health()
        self.clock = ManualClock()
        self.rota = Rota(self.slots, self.health, self.clock)

    def first(self, *plan: Candidate) -> str:
        return accounts(spread(plan, self.rota))[0]


def test_those_that_are_as_busy_take_turns_by_their_weights() -> None:
    place = Place()
    plan = (candidate("many#1"), candidate("many#2", 3), candidate("many#3"))
    assert Counter(place.first(*plan) for _ in range(500)) == {"many#1": 100, "many#2": 300, "many#3": 100}


def test_the_least_busy_for_its_weight_is_first() -> None:
    place = Place()
    for account, running in (("many#1", 2), ("many#2", 3), ("many#3", 1)):
        room = place.slots.room(account, 10, 10)
        for _ in range(running):
            room.take()
    plan = (candidate("many#1"), candidate("many#2", weight=10), candidate("many#3"))
    assert accounts(spread(plan, place.rota)) == ["many#2", "many#3", "many#1"]


def test_one_that_should_get_no_calls_comes_last() -> None:
    place = Place()
    plan = (candidate("many#1"), candidate("many#2"))
    vitals = place.health.of(plan[0].deployment)
    vitals.ejected, vitals.ejected_until = "auth_failed", place.clock.monotonic() + 10
    assert {place.first(*plan) for _ in range(4)} == {"many#2"}
    place.clock.advance(11)
    assert {place.first(*plan) for _ in range(4)} == {"many#1", "many#2"}


def test_a_newcomer_does_not_make_up_for_the_time_before_it_came() -> None:
    place = Place()
    for _ in range(100):
        place.first(candidate("many#1"), candidate("many#2"))
    plan = (candidate("many#1"), candidate("many#2"), candidate("many#3"))
    assert Counter(place.first(*plan) for _ in range(30)) == {"many#1": 10, "many#2": 10, "many#3": 10}


def test_what_a_strategy_has_put_apart_stays_apart() -> None:
    place = Place()
    lone, other = candidate("lone", model="lone/m"), candidate("many#1", model="many/other")
    plan = (candidate("many#1"), lone, candidate("many#2"), other)
    assert spread(plan, place.rota) == plan
    assert spread((lone,), place.rota) == (lone,)
    assert spread((lone, candidate("more", model="more/m")), place.rota)[0] is lone
