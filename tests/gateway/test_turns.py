"""Turns: fair between tenants, bounded, and nobody is lost."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xrouter.core.turns import Turns

_TENANTS = ("a", "b", "c", "d")


class TurnsLikeLists(RuleBasedStateMachine):
    """Against a plain list of (tenant, number) and one of tenants in their order."""

    MOST = 6

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[int] = Turns()
        self.lines: dict[str, list[int]] = {}
        self.gone: list[int] = []
        self.number = 0

    @rule(tenant=st.sampled_from(_TENANTS))
    def join(self, tenant: str) -> None:
        self.number += 1
        mine = len(self.lines.get(tenant, []))
        before = sum(map(len, self.lines.values()))
        leaves = self.turns.join(tenant, self.number, self.MOST)
        if before < self.MOST:
            assert leaves is None
        else:
            longest = max(map(len, self.lines.values()))
            assert leaves is not None
            if longest <= mine + 1:
                assert leaves == self.number
                return
            owner = next(name for name, line in self.lines.items() if leaves in line)
            assert len(self.lines[owner]) == longest
            assert self.lines[owner][-1] == leaves
            self._out(owner, leaves)
        self.lines.setdefault(tenant, []).append(self.number)

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(sorted(self.lines)))
        one = data.draw(st.sampled_from(self.lines[tenant]))
        assert self.turns.leave(tenant, one)
        assert not self.turns.leave(tenant, one)
        self._out(tenant, one)

    @rule()
    def serve(self) -> None:
        served = self.turns.next()
        if not self.lines:
            assert served is None
            return
        tenant = next(iter(self.lines))
        line = self.lines.pop(tenant)
        assert served == line.pop(0)
        if line:
            self.lines[tenant] = line

    @invariant()
    def as_many_as_the_lists_hold(self) -> None:
        assert self.turns.waiting == sum(map(len, self.lines.values())) <= self.MOST

    def _out(self, tenant: str, one: int) -> None:
        self.lines[tenant].remove(one)
        if not self.lines[tenant]:
            del self.lines[tenant]


TestTurnsLikeLists = TurnsLikeLists.TestCase


@given(st.lists(st.sampled_from(_TENANTS), min_size=1, max_size=200))
@settings(max_examples=100)
def test_between_two_turns_of_one_who_waits_every_other_has_at_most_one(arrivals: list[str]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for number, tenant in enumerate(arrivals):
        assert turns.join(tenant, (tenant, number), 1_000) is None
    left = {tenant: arrivals.count(tenant) for tenant in set(arrivals)}
    since: dict[str, list[str]] = {tenant: [] for tenant in left}
    while (served := turns.next()) is not None:
        tenant = served[0]
        left[tenant] -= 1
        assert len(since[tenant]) == len(set(since[tenant]))
        since[tenant] = []
        for other, seen in since.items():
            if other != tenant and left[other]:
                seen.append(tenant)
    assert not any(left.values())


def test_a_hundred_of_one_do_not_stand_before_one_of_another() -> None:
    turns: Turns[str] = Turns()
    for number in range(100):
        turns.join("crowd", f"crowd {number}", 1_000)
    turns.join("single", "single", 1_000)
    assert [turns.next(), turns.next()] == ["crowd 0", "single"]


def test_who_fills_the_queue_makes_room_for_a_newcomer() -> None:
    turns: Turns[str] = Turns()
    for number in range(3):
        assert turns.join("crowd", f"crowd {number}", 3) is None
    assert turns.join("crowd", "one more", 3) == "one more"
    assert turns.join("single", "single", 3) == "crowd 2"
    assert turns.join("another", "another", 3) == "crowd 1"
    assert turns.join("fourth", "fourth", 3) == "fourth", "three lines of one: nobody has too many"
    assert [turns.next() for _ in range(4)] == ["crowd 0", "single", "another", None]


def test_no_place_at_all_refuses_everybody() -> None:
    turns: Turns[str] = Turns()
    assert turns.join("a", "one", 0) == "one"
    assert turns.waiting == 0
