"""Choices by chance: their shares, who moves when somebody is lost, and who gets how much of a fleet under load."""

import heapq
from collections import Counter
from collections.abc import Iterable
from math import exp, log

import pytest
from tests.gateway.fleet import NOW, asking, deployment, health, route, served

from xrouter.core.deployment import Deployment
from xrouter.core.policy import Strategy
from xrouter.gateway import draws, situation, strategies
from xrouter.gateway import route as router
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health

PICKS = 100_000
NAMES = [f"p{number}/m" for number in range(6)]


def fleet(**settings: object) -> Catalog:
    return served([deployment(name) for name in NAMES], {"r": route(models=NAMES, **settings)})


def chi_square(found: Counter[str], expected: dict[str, float]) -> float:
    total = sum(found.values())
    return sum((found[name] - share * total) ** 2 / (share * total) for name, share in expected.items())


def tail(chi: float, freedom: int) -> float:
    """P(X > chi): Wilson and Hilferty's cube root, good to a per cent where it matters here."""
    z = ((chi / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    return 0.5 * exp(-0.717 * z - 0.416 * z * z) if z > 0 else 1.0


def picks(catalog: Catalog, count: int, known: Health | None = None) -> Counter[str]:
    call, known = asking("r"), known or health(catalog)
    return Counter(
        router.plan(call.request, catalog, known, call, seed=draws.seed_of(str(number)))[0].deployment.id
        for number in range(count)
    )


def test_weights_are_the_shares_of_the_first_pick() -> None:
    weights = dict(zip(NAMES, (1, 2, 3, 5, 8, 0.5), strict=True))
    found = picks(fleet(strategy="weighted", weights=weights), PICKS)
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    assert tail(chi_square(found, shares), len(NAMES) - 1) > 0.001, found


def test_so_are_they_of_the_next_one_when_the_first_fails() -> None:
    weights = dict(zip(NAMES, (1, 2, 3, 5, 8, 0.5), strict=True))
    catalog = fleet(strategy="weighted", weights=weights)
    call, known = asking("r"), health(catalog)
    second: Counter[str] = Counter()
    for number in range(40_000):
        first, next_one, *_ = router.plan(call.request, catalog, known, call, seed=draws.seed_of(str(number)))
        if first.deployment.id == NAMES[4]:
            second[next_one.deployment.id] += 1
    others = {name: weight for name, weight in weights.items() if name != NAMES[4]}
    shares = {name: weight / sum(others.values()) for name, weight in others.items()}
    assert tail(chi_square(second, shares), len(others) - 1) > 0.001, second


def test_the_statistic_sees_a_bias_of_a_twentieth() -> None:
    weights = dict.fromkeys(NAMES, 1.0)
    found = picks(fleet(strategy="weighted", weights=weights | {NAMES[0]: 1.05}), PICKS)
    assert tail(chi_square(found, dict.fromkeys(NAMES, 1 / len(NAMES))), len(NAMES) - 1) < 0.001


def test_prices_are_weighed_by_one_over_their_square() -> None:
    prices = dict(zip(NAMES[:3], (1.0, 2.0, 3.0), strict=True))
    known = [deployment(name, (price, price)) for name, price in prices.items()]
    catalog = served(known, {"r": route(models=NAMES[:3], strategy="price_weighted")})
    total = sum(1 / price**2 for price in prices.values())
    shares = {name: 1 / price**2 / total for name, price in prices.items()}
    assert tail(chi_square(picks(catalog, PICKS), shares), 2) > 0.001
    shaken = picks(catalog, 1_000, health(catalog, p0={"last_failure_at": NOW - 10}))
    assert set(shaken) == set(NAMES[1:3]), "OpenRouter's example: who failed lately comes last"


def test_what_is_free_goes_first_and_what_has_no_price_last() -> None:
    known = [deployment("none/m", None), deployment("one/m", (1, 1)), deployment("free/m", (0, 0))]
    catalog = served(known, {"r": route(models=[one.id for one in known], strategy="price_weighted")})
    call = asking("r")
    plan = router.plan(call.request, catalog, health(catalog), call)
    assert [one.deployment.provider for one in plan] == ["free", "one", "none"]


# ── several credentials ──────────────────────────────────────────────────────────────────────────────────


def with_credentials(strategy: str, weights: dict[str, float]) -> Catalog:
    """`a/m` with one credential, `b/m` with two, `c/m` with three."""
    known = [
        deployment(name, credential=f"{name} {number}", account=f"{name[0]}#{number}")
        for name, count in (("a/m", 1), ("b/m", 2), ("c/m", 3))
        for number in range(count)
    ]
    return served(known, {"r": route(models=["a/m", "b/m", "c/m"], strategy=strategy, weights=weights)})


@pytest.mark.parametrize(
    ("strategy", "weights"),
    [
        ("weighted", {"a/m": 3}),
        ("sticky", {"a/m": 3}),
        ("price_weighted", {}),
        ("least_busy", {}),
    ],
)
def test_a_model_with_more_credentials_gets_no_more(strategy: str, weights: dict[str, float]) -> None:
    catalog = with_credentials(strategy, weights)
    shares = {name: weights.get(name, 1.0) / (2 + weights.get("a/m", 1.0)) for name in ("a/m", "b/m", "c/m")}
    if strategy == "sticky":
        found = Counter(homes(catalog, SESSIONS, health(catalog)).values())
    else:
        found = picks(catalog, 20_000)
    assert tail(chi_square(found, shares), 2) > 0.001, found


@pytest.mark.parametrize("strategy", ["weighted", "sticky", "price_weighted", "least_busy", "fastest"])
def test_the_credentials_of_a_model_stand_together(strategy: str) -> None:
    catalog = with_credentials(strategy, {})
    known = health(catalog)
    for number in range(200):
        call = asking("r", number=number, session=str(number))
        models = [one.deployment.id for one in router.plan(call.request, catalog, known, call)]
        assert sorted(models, key=models.index) == models, "what stands together can take turns"


def test_two_models_are_compared_and_not_two_credentials_of_one() -> None:
    catalog = with_credentials("fastest", {})
    speeds = {name: {"ttft_s": ttft_s, "ttft_at": NOW} for name, ttft_s in (("a", 1.0), ("b", 2.0), ("c", 9.0))}
    found = picks(catalog, 3_000, health(catalog, **speeds))
    assert set(found) == {"a/m", "b/m"}, "the slowest loses against whichever it is compared with"
    assert tail(chi_square(found, {"a/m": 2 / 3, "b/m": 1 / 3}), 1) > 0.001, found


def test_a_model_is_as_busy_as_all_of_its_credentials() -> None:
    catalog = with_credentials("least_busy", {})
    assert set(picks(catalog, 100, health(catalog, a={"in_flight": 3}, b={"in_flight": 2}, c={"in_flight": 2}))) == {
        "a/m"
    }


# ── sticky ───────────────────────────────────────────────────────────────────────────────────────────────


def homes(catalog: Catalog, sessions: Iterable[str], known: Health) -> dict[str, str]:
    found = {}
    for number, session in enumerate(sessions):
        call = asking("r", session=session, number=number)
        found[session] = router.plan(call.request, catalog, known, call)[0].deployment.id
    return found


SESSIONS = [f"session {number}" for number in range(3_000)]


def test_a_lost_deployment_moves_only_its_own_sessions_and_they_come_back() -> None:
    catalog = fleet(strategy="sticky")
    before = homes(catalog, SESSIONS, health(catalog))
    assert before == homes(catalog, SESSIONS, health(catalog))
    lost = health(catalog, p2={"ejected": "failures", "ejected_until": NOW + 5})
    after = homes(catalog, SESSIONS, lost)
    moved = {session for session in SESSIONS if before[session] != after[session]}
    assert moved == {session for session, home in before.items() if home == "p2/m"}
    assert len({after[session] for session in moved}) == len(NAMES) - 1, "they spread over all others"
    assert max(Counter(before.values()).values()) < 1.3 * len(SESSIONS) / len(NAMES)


def test_sessions_follow_the_weights() -> None:
    catalog = fleet(strategy="sticky", weights={"p0/m": 5})
    shares = {name: (5 if name == "p0/m" else 1) / 10 for name in NAMES}
    found = Counter(homes(catalog, SESSIONS, health(catalog)).values())
    assert tail(chi_square(found, shares), len(NAMES) - 1) > 0.001


@pytest.mark.parametrize(
    ("sticky", "same", "other"),
    [
        ("session", {"prompt_cache_key": "a"}, {"prompt_cache_key": "b"}),
        ("session", {"session": "a"}, {"session": "c"}),
        ("user", {"user": "anna"}, {"user": "boris"}),
        ("user", {"end_user": "eu_1", "user": "anna"}, {"end_user": "eu_2", "user": "anna"}),
        ("user", {"safety_identifier": "x"}, {"safety_identifier": "w"}),
        ("prompt", {"text": "Hello"}, {"text": "Goodbye!"}),
    ],
)
def test_what_a_choice_sticks_to(sticky: str, same: dict[str, str], other: dict[str, str]) -> None:
    catalog = fleet(strategy="sticky", sticky=[sticky])
    known = health(catalog)

    def firsts(more: dict[str, str]) -> list[str]:
        each = (asking("r", number=number, **more) for number in range(20))  # type: ignore[arg-type]
        return [router.plan(call.request, catalog, known, call)[0].deployment.id for call in each]

    assert len(set(firsts(same))) == 1
    assert len(set(firsts(other))) == 1
    assert firsts(same) != firsts(other), "these two were chosen to differ"
    unsaid = {"prompt": "session", "session": "user", "user": "session"}[sticky]
    catalog = fleet(strategy="sticky", sticky=[unsaid])
    known = health(catalog)
    assert len(set(firsts(same))) > 1, "without anything to stick to it is drawn"


def test_a_growing_conversation_stays() -> None:
    catalog = fleet(strategy="sticky", sticky=["prompt"])
    known = health(catalog)
    system = {"role": "system", "content": "You are kind."}
    user = {"role": "user", "content": "Hi"}
    said = [system, user]
    found = set()
    for number in range(10):
        call = asking("r", number=number, messages=said)
        found.add(router.plan(call.request, catalog, known, call)[0].deployment.id)
        said = [*said, {"role": "assistant", "content": "Hello"}, user]
    assert len(found) == 1


# ── the fastest, in virtual time ─────────────────────────────────────────────────────────────────────────


class Fleet:
    """Calls that come at a steady rate and take as long as their deployment takes, with the vitals that follow."""

    def __init__(self, latencies: dict[str, float], strategy: str = "fastest") -> None:
        self.latencies = latencies
        self.catalog = served(
            [deployment(name) for name in latencies], {"r": route(models=list(latencies), strategy=strategy)}
        )
        self.health = Health()
        self.running: list[tuple[float, int, Deployment, float]] = []
        self.count = 0

    def run(self, from_s: float, to_s: float, per_s: float) -> Counter[str]:
        found: Counter[str] = Counter()
        now = from_s
        while now < to_s:
            self.finish(now)
            found[self.call(now)] += 1
            self.count += 1
            now += -log(draws.uniform(7, self.count)) / per_s  # a Poisson process
        return found

    def call(self, now: float) -> str:
        policy = self.catalog.group("r").policy
        candidates = list(self.catalog.group("r").candidates[asking().request.operation])
        seen = situation.Situation(self.health, draws.seed_of(str(self.count)), now)
        chosen = strategies.arrange(policy.strategy, candidates, seen)[0].deployment
        self.health.of(chosen).in_flight += 1
        took_s = self.latencies[chosen.id] * (0.9 + 0.2 * draws.uniform(11, self.count))
        heapq.heappush(self.running, (now + took_s, self.count, chosen, took_s))
        return chosen.id

    def finish(self, now: float) -> None:
        while self.running and self.running[0][0] <= now:
            ended, _, chosen, took_s = heapq.heappop(self.running)
            vitals = self.health.of(chosen)
            vitals.in_flight -= 1
            vitals.took(took_s, ended)


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("per_s", [5, 50])
def test_with_equal_latency_the_load_is_spread_evenly(count: int, per_s: float) -> None:
    latencies = dict.fromkeys(NAMES[:count], 0.5)
    found = Fleet(latencies).run(0, 20_000 / per_s, per_s)
    assert max(found.values()) <= 1.3 * sum(found.values()) / count, found
    assert min(found.values()) >= 0.7 * sum(found.values()) / count, found


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("per_s", [2, 10, 40])
def test_one_that_is_ten_times_slower_gets_a_tenth_at_most_after_20_s(count: int, per_s: float) -> None:
    fleet = Fleet(dict.fromkeys(NAMES[:count], 0.5))
    fleet.run(0, 30, per_s)
    fleet.latencies[NAMES[0]] = 5.0
    fleet.run(30, 50, per_s)
    after = fleet.run(50, 350, per_s)
    assert after[NAMES[0]] <= 0.1 * sum(after.values()), after
    fleet.latencies[NAMES[0]] = 0.5
    fleet.run(350, 450, per_s)
    again = fleet.run(450, 650, per_s)
    assert again[NAMES[0]] >= 0.5 * sum(again.values()) / count, "it is found out that it is well again"


def test_every_strategy_is_known() -> None:
    assert set(strategies._STRATEGIES) == set(Strategy)
