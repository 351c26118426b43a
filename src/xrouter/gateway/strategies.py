"""In which order eligible candidates are tried: one function for each strategy. Pure.

Each gives all of its candidates back. Smaller terms go first unless a strategy says otherwise; what ties stays in the
order of the file. What is unknown of a deployment is taken to be as usual in its group (the median): it is neither
flooded nor starved.

Chance chooses among models: those of one model, each with another credential, draw the same number (`Candidate.place`)
and stand together; `gateway/rotation.py` says which of them is asked.
"""

from collections.abc import Callable, Mapping
from math import exp, inf, log
from typing import Final

from xrouter.core.policy import Strategy
from xrouter.core.vitals import Vitals
from xrouter.gateway import draws
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.group import rub_per_1m
from xrouter.gateway.situation import Situation

UNSTABLE_S: Final = 30.0
"""So long after a failure a deployment is tried after those without one (`price_weighted`)."""

_FORGET_S: Final = 10.0
"""An idle deployment's slowness fades with this time constant, so that it is tried again some day."""

_LEAST: Final = 1e-9


_Scored = list[tuple[float, int, Candidate]]
_Order = Callable[[list[Candidate], Situation], list[Candidate]]


def arrange(strategy: Strategy, candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """All candidates, the best first."""
    return candidates if len(candidates) < 2 else _STRATEGIES[strategy](candidates, situation)


def _in_order(scored: _Scored) -> list[Candidate]:
    scored.sort()  # the number in the middle is unique: candidates are never compared
    return [candidate for _, _, candidate in scored]


def _priority(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    return candidates


# ── by chance ────────────────────────────────────────────────────────────────────────────────────────────


def _weighted(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """Drawn one after the other without putting back, each with a chance by its weight: the order of -ln(u)/weight.
    Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006."""
    seed, trace = situation.seed, situation.trace
    scored: _Scored = []
    for place, candidate in enumerate(candidates):
        drawn = -log(draws.uniform(seed, candidate.place)) / candidate.weight
        scored.append((drawn, place, candidate))
        if trace is not None:
            trace.score(candidate, weight=candidate.weight, drawn=drawn)
    return _in_order(scored)


def _price_weighted(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """OpenRouter's default: a chance by one over the square of the price, those that failed lately last. What is free
    goes before what is not, what has no price after."""
    health, now, seed, trace = situation.health, situation.now, situation.seed, situation.trace
    scored: list[tuple[int, float, int, Candidate]] = []
    for place, candidate in enumerate(candidates):
        price = _expected_price(candidate, situation)
        unstable = now - health.of(candidate.deployment).last_failure_at < UNSTABLE_S
        rank = _SHAKEN if unstable else _UNPRICED if price is None else _STABLE if price else _FREE
        drawn = -log(draws.uniform(seed, candidate.place)) * (price * price if price else 1.0)
        scored.append((rank, drawn, place, candidate))
        if trace is not None:
            trace.score(candidate, price=price, unstable=unstable, drawn=drawn)
    scored.sort()
    return [candidate for _, _, _, candidate in scored]


_FREE, _STABLE, _UNPRICED, _SHAKEN = range(4)


def _sticky(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """Rendezvous hashing with weights: the candidate with the highest score for what the choice sticks to. One that is
    lost moves only its own. Without anything to stick to: by weight.

    Thaler and Ravishankar, A name-based mapping scheme for rendezvous, 1996.
    """
    if situation.sticky is None:
        return _weighted(candidates, situation)
    sticky, trace = situation.sticky, situation.trace
    scored: _Scored = []
    for place, candidate in enumerate(candidates):
        drawn = -log(draws.uniform(sticky ^ candidate.mark, 0)) / candidate.weight
        scored.append((drawn, place, candidate))
        if trace is not None:
            trace.score(candidate, weight=candidate.weight, drawn=drawn)
    return _in_order(scored)


# ── by load and speed ────────────────────────────────────────────────────────────────────────────────────


def _least_busy(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """The model with the fewest running attempts for its weight; equally busy ones by chance."""
    health, seed, trace = situation.health, situation.seed, situation.trace
    running = _running(candidates, [health.of(candidate.deployment) for candidate in candidates])
    scored: list[tuple[float, float, int, Candidate]] = []
    for place, candidate in enumerate(candidates):
        busy = running[candidate.place] / candidate.weight
        drawn = draws.uniform(seed, candidate.place)
        scored.append((busy, drawn, place, candidate))
        if trace is not None:
            trace.score(candidate, busy=busy, drawn=drawn)
    scored.sort()
    return [candidate for _, _, _, candidate in scored]


def _running(candidates: list[Candidate], found: list[Vitals]) -> dict[int, int]:
    """The running attempts of each model, by its place."""
    running: dict[int, int] = {}
    for candidate, vitals in zip(candidates, found, strict=True):
        running[candidate.place] = running.get(candidate.place, 0) + vitals.in_flight
    return running


def _fastest(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """Of two models chosen by chance the one with the lower peak-EWMA x (running attempts + 1) / weight; then the
    others, the lowest first. A model costs what its cheapest deployment does."""
    costs = _costs(candidates, situation)
    models: dict[int, float] = {}
    for candidate, cost in zip(candidates, costs, strict=True):
        models[candidate.place] = min(cost, models.get(candidate.place, inf))
    places, seed = [*models], situation.seed
    count = len(places)
    one = other = places[0]
    if count > 1:
        first = int(draws.uniform(seed, 0) * count) % count
        second = int(draws.uniform(seed, 1) * (count - 1)) % (count - 1)
        one, other = places[first], places[second + (second >= first)]
    chosen = one if models[one] <= models[other] else other
    if situation.trace is not None:
        for candidate, cost in zip(candidates, costs, strict=True):
            situation.trace.score(candidate, cost=cost, compared=candidate.place in (one, other))
    scored: list[tuple[bool, float, int, float, int, Candidate]] = []
    for number, (candidate, cost) in enumerate(zip(candidates, costs, strict=True)):
        model = candidate.place
        scored.append((model != chosen, models[model], model, cost, number, candidate))
    scored.sort()
    return [candidate for *_, candidate in scored]


def _costs(candidates: list[Candidate], situation: Situation) -> list[float]:
    """What each costs: its own speed, under the load of its model."""
    health, now = situation.health, situation.now
    found = [health.of(candidate.deployment) for candidate in candidates]
    speeds = [_ttft_s(vitals, now) for vitals in found]
    usual, running = _usual(speeds, 1.0), _running(candidates, found)
    costs: list[float] = []
    for candidate, speed in zip(candidates, speeds, strict=True):
        costs.append((usual if speed is None else speed) * (running[candidate.place] + 1) / candidate.weight)
    if situation.trace is not None:
        for candidate, speed in zip(candidates, speeds, strict=True):
            situation.trace.score(
                candidate,
                ttft_s=usual if speed is None else speed,
                in_flight=running[candidate.place],
                weight=candidate.weight,
            )
    return costs


def _ttft_s(vitals: Vitals, now: float) -> float | None:
    known = vitals.ttft_s
    if known is None:
        return None
    if vitals.in_flight == 0 and now > vitals.ttft_at:
        known *= exp((vitals.ttft_at - now) / _FORGET_S)
    return known if known > _LEAST else _LEAST


def _usual(known: list[float | None], otherwise: float) -> float:
    """The median of what is known."""
    found = sorted([one for one in known if one is not None])
    return found[len(found) // 2] if found else otherwise


def _latency(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """The shortest time to the first content, without any balancing of load."""
    return _by_figure(candidates, situation, "ttft_s", 1.0)


def _throughput(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """The most output tokens a second."""
    return _by_figure(candidates, situation, "tokens_per_s", -1.0)


def _by_figure(candidates: list[Candidate], situation: Situation, name: str, sign: float) -> list[Candidate]:
    """By one figure of their vitals: the least first, or the most where `sign` is negative."""
    health, trace = situation.health, situation.trace
    known: list[float | None] = [getattr(health.of(candidate.deployment), name) for candidate in candidates]
    usual = _usual(known, 0.0)
    terms = [usual if one is None else one for one in known]
    if trace is not None:
        for candidate, term in zip(candidates, terms, strict=True):
            trace.score(candidate, **{name: term})
    return _in_order(
        [(sign * term, place, one) for place, (term, one) in enumerate(zip(terms, candidates, strict=True))]
    )


# ── by price ─────────────────────────────────────────────────────────────────────────────────────────────


def _cheapest(candidates: list[Candidate], situation: Situation) -> list[Candidate]:
    """The price of the tokens that the request is expected to take; what has no price last."""
    trace = situation.trace
    scored: _Scored = []
    for place, candidate in enumerate(candidates):
        price = _expected_price(candidate, situation)
        scored.append((inf if price is None else price, place, candidate))
        if trace is not None:
            trace.score(candidate, price=price)
    return _in_order(scored)


def _expected_price(candidate: Candidate, situation: Situation) -> float | None:
    """Micro-roubles for the expected tokens, or for one picture where pictures are what is billed; None without a
    price."""
    price, (asks, answers) = candidate.deployment.price, candidate.rub
    if price is None:
        return None
    if not price.valid_from <= situation.wall < price.valid_to:
        price = price.at(situation.wall)
        if price is None:
            return None
        asks, answers = rub_per_1m(price)
    tokens = situation.input_tokens * asks + situation.output_tokens * answers
    return tokens or (0.0 if price.image_rub is None else float(price.image_rub))


_STRATEGIES: Mapping[Strategy, _Order] = {
    Strategy.PRIORITY: _priority,
    Strategy.WEIGHTED: _weighted,
    Strategy.LEAST_BUSY: _least_busy,
    Strategy.FASTEST: _fastest,
    Strategy.LATENCY: _latency,
    Strategy.CHEAPEST: _cheapest,
    Strategy.THROUGHPUT: _throughput,
    Strategy.PRICE_WEIGHTED: _price_weighted,
    Strategy.STICKY: _sticky,
}
