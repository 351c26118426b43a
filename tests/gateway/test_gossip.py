"""What processes tell each other, and that they do not talk each other into anything."""

from random import Random

import pytest
from tests.gateway.test_health import DOWN, A, B, Stage, of

from xrouter.core.clock import ManualClock
from xrouter.core.errors import ProviderAuthFailed, ProviderRateLimited
from xrouter.gateway.gossip import Gossip


class Node(Stage):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.gossip = Gossip(self.health)
        for one in (A, B):
            self.health.of(one)

    def state(self) -> str:
        return self.health.station(A).breaker.state(self.now).name


class Town:
    """Some nodes on one clock, and messages that take a while and may be lost or come twice."""

    def __init__(self, nodes: int, seed: int = 1, *, delay_s: float = 0.05, lost: float = 0.0) -> None:
        self.clock = ManualClock()
        self.nodes = [Node(self.clock) for _ in range(nodes)]
        self._random = Random(seed)
        self._delay_s, self._lost = delay_s, lost
        self._under_way: list[tuple[float, Node, str]] = []

    def run(self, seconds: float, step_s: float = 0.1) -> None:
        until = self.clock.monotonic() + seconds
        rounds = 0
        while self.clock.monotonic() < until:
            now = self.clock.monotonic()
            if rounds % 5 == 0:
                for node in self.nodes:
                    words = node.gossip.news(now)
                    for other in self.nodes if words is not None else ():
                        for _ in range(self._random.choice((1, 1, 2))):
                            if self._random.random() >= self._lost:
                                at = now + self._random.random() * 2 * self._delay_s
                                self._under_way.append((at, other, words or ""))
            due = [one for one in self._under_way if one[0] <= now]
            self._under_way = [one for one in self._under_way if one[0] > now]
            for _, node, words in due:
                node.gossip.hear(words, now)
            self.clock.advance(step_s)
            rounds += 1


def test_an_ejection_is_known_everywhere_within_a_second() -> None:
    town = Town(3)
    first, *others = town.nodes
    first.fail(A, DOWN, 5)
    town.run(1.0)
    for node in others:
        assert node.why_not(A) == "failures"
        assert node.why_not(B) is None
        assert node.changes == [("a/m", "failures")]


@pytest.mark.parametrize("delay_s", [0.05, 0.6, 3.0])
@pytest.mark.parametrize("seed", range(10))
def test_nobody_is_kept_ejected_by_hearsay(seed: int, delay_s: float) -> None:
    """Nobody finds anything out any more: each ejection ends when its first teller said, but for the delays."""
    town = Town(3, seed, delay_s=delay_s, lost=0.2)
    for node in town.nodes[: 1 + seed % 3]:
        node.fail(A, DOWN, 5)
        town.run(Random(seed).random())
    town.run(11.0 + 2 * delay_s + 1.5)
    assert [node.why_not(A) for node in town.nodes] == [None] * 3
    assert [node.state() for node in town.nodes] == ["half_open"] * 3


def test_who_heard_of_it_tries_it_with_one_call_and_says_what_it_found() -> None:
    town = Town(2)
    first, second = town.nodes
    first.fail(A, DOWN, 5)
    town.run(13.0)
    probe = second.begin(A)
    assert second.why_not(A) == "probing"
    assert first.why_not(A) is None
    second.end(probe, DOWN)
    town.run(1.0)
    assert first.why_not(A) == "failures", "the probe's own finding is told"


def test_it_may_be_tried_elsewhere_when_the_first_finds_it_well() -> None:
    town = Town(2)
    first, second = town.nodes
    first.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=401))
    town.run(1.0)
    assert second.why_not(A) == "auth_failed"
    first.health.may_be_tried(first.health.station(A), first.now)
    first.succeed(A, 2)
    town.run(1.0)
    assert (second.why_not(A), second.state()) == (None, "half_open")
    second.succeed(A, 2)
    assert second.changes[-1] == ("a/m", None)


def test_what_a_node_found_out_itself_is_not_changed_by_others() -> None:
    town = Town(2)
    first, second = town.nodes
    first.fail(A, DOWN, 5)
    until = first.health.station(A).breaker.until
    second.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=401))
    town.run(2.0)
    assert first.health.station(A).breaker.until == until


def test_a_whole_account_is_ejected_elsewhere_too() -> None:
    town, sibling = Town(2), of("a", "n")
    first, second = town.nodes
    second.health.of(sibling)
    first.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=401))
    town.run(1.0)
    assert second.why_not(sibling) == "auth_failed"


def test_a_rest_is_shared_and_not_told_on() -> None:
    town = Town(3)
    first, second, third = town.nodes
    first.fail(A, ProviderRateLimited("slow", provider="a", retry_after_s=5.0))
    town.run(1.0)
    assert [node.why_not(A) for node in (second, third)] == ["rate_limited"] * 2
    town.run(5.0)
    assert [node.why_not(A) for node in town.nodes] == [None] * 3


def test_speeds_are_told_once() -> None:
    town = Town(2)
    first, second = town.nodes
    attempt = first.begin(A)
    town.clock.advance(0.7)
    first.health.shown(attempt, first.now)
    town.clock.advance(2.0)
    attempt.first_content_at = town.clock.now() - 2.0
    first.end(attempt, tokens=100)
    town.run(3.0)
    vitals = second.health.of(A)
    assert vitals.ttft_s == pytest.approx(0.7)
    assert vitals.tokens_per_s == pytest.approx(50.0)
    assert (vitals.ttft_samples.count, vitals.rate_samples.count) == (1, 1)
    assert first.health.of(A).ttft_samples.count == 1


def test_who_has_nothing_to_tell_says_nothing() -> None:
    town = Town(1)
    (node,) = town.nodes
    assert node.gossip.news(node.now) is None
    node.fail(A, DOWN, 5)
    assert node.gossip.news(node.now) is not None
    town.clock.advance(12.0)
    assert node.gossip.news(node.now) is not None, "that it is over"
    assert node.gossip.news(node.now) is None


@pytest.mark.parametrize(
    "words",
    ["", "[", "{}", "[1,2,3,4]", '["x",1,[["a",1]],[]]', '["x",1,[["a/m c","failures",1e9]],[]]',
     '["x",1,[["nobody","failures",5.0]],[["nobody",[1.0],[],[]]]]', '["x",1,[],[["a/m c",[-1.0],[1e99],[0.0]]]]'],
)  # fmt: skip
def test_nonsense_is_passed_over(words: str) -> None:
    node = Node(ManualClock())
    node.gossip.hear(words, node.now)
    assert node.why_not(A) is None
    assert node.health.of(A).ttft_s is None
