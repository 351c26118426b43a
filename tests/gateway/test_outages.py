"""However Redis fails, several nodes together never admit more than the limit; and nothing of it is lost for long.

What holds: in any stretch of time no more is admitted than the whole amount and what is filled up in it, as by a single
store that sees every call; beyond it only, once for each outage, each node's share of what the others had used since it
last heard of the counter. The next windows pay for that.
"""

import random
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.gateway.outages import STEP_S, Cluster
from tests.gateway.test_limiter import limit

from xrouter.core.limits import Unit

KINDS = ("flushed", "frozen", "refused", "restarted")
AMOUNT = {Unit.REQUESTS: 120, Unit.TOKENS: 12_000}


def load(cluster: Cluster, seconds: float, weights: list[float], times: float = 3.0) -> None:
    """So many times of what the limit allows is asked for; who has no weight asks nothing."""
    pick, tokens = cluster.pick, cluster.limit.unit is Unit.TOKENS
    until = cluster.clock.monotonic() + seconds
    while cluster.clock.monotonic() < until:
        cluster.step()
        wanted = times * 120 / 60 * STEP_S
        for _ in range(int(wanted) + (pick.random() < wanted % 1)):
            node = pick.choices(range(len(weights)), weights)[0]
            if tokens:
                units = pick.randint(50, 200)
                cluster.call(node, units, int(units * pick.choice((0.1, 0.5, 1.0))), 3 * pick.random())
            else:
                cluster.call(node)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("unit", [Unit.REQUESTS, Unit.TOKENS])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_nodes_that_share_the_load_admit_no_unit_too_many_and_use_the_limit(
    nodes: int, kind: str, unit: Unit, exact: bool
) -> None:
    for seed in range(3):
        pick = random.Random(seed)
        cluster = Cluster(limit(unit, AMOUNT[unit], exact=exact), nodes, pick)
        load(cluster, 5 + 30 * pick.random(), [1.0] * nodes)
        cluster.outage(kind, partial(load, cluster, 6 + 40 * pick.random(), [1.0] * nodes))
        load(cluster, 30, [1.0] * nodes)
        assert cluster.surplus <= 0.04 * AMOUNT[unit]
        assert cluster.ideal.least >= -cluster.surplus - 1e-3
        assert cluster.ideal.left <= 0.12 * AMOUNT[unit]


class Outages(RuleBasedStateMachine):
    """Any load on any nodes, and one outage after another."""

    @initialize(
        nodes=st.integers(1, 4),
        unit=st.sampled_from([Unit.REQUESTS, Unit.TOKENS]),
        exact=st.booleans(),
        seed=st.integers(0, 10**6),
    )
    def begin(self, nodes: int, unit: Unit, exact: bool, seed: int) -> None:
        self.nodes = nodes
        self.cluster = Cluster(limit(unit, AMOUNT[unit], exact=exact), nodes, random.Random(seed))

    def weights(self) -> list[float]:
        found = [self.cluster.pick.choice((0.0, 0.1, 1.0)) for _ in range(self.nodes)]
        return found if any(found) else [1.0] * self.nodes

    @rule(seconds=st.sampled_from([0.1, 1.0, 15.0]), times=st.sampled_from([0.3, 1.0, 5.0, 30.0]))
    def ask(self, seconds: float, times: float) -> None:
        load(self.cluster, seconds, self.weights(), times)

    @rule(seconds=st.sampled_from([0.3, 5.0, 70.0]))
    def rest(self, seconds: float) -> None:
        load(self.cluster, seconds, self.weights(), 0.0)

    @rule(
        kind=st.sampled_from(KINDS),
        seconds=st.sampled_from([6.0, 15.0, 70.0]),
        rest=st.booleans(),
        times=st.sampled_from([0.3, 3.0]),
    )
    def outage(self, kind: str, seconds: float, rest: bool, times: float) -> None:
        """Long enough that every node notices."""

        def meanwhile() -> None:
            load(self.cluster, seconds, self.weights(), times)
            load(self.cluster, 10.0 * rest, self.weights(), 0.0)
            load(self.cluster, 0.5, self.weights(), 10.0)

        self.cluster.outage(kind, meanwhile)
        load(self.cluster, 5.0, self.weights(), times)  # until all have told

    @invariant()
    def never_above(self) -> None:
        if hasattr(self, "cluster"):
            assert self.cluster.ideal.least >= -self.cluster.surplus - 1e-3


TestOutages = Outages.TestCase
TestOutages.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
