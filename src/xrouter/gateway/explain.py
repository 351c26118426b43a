"""How a route was chosen, for people: out of the trace of a plan, the same for a call that runs and for one that is
repeated from what was noted of it. Pure."""

from math import inf
from typing import Any

from xrouter.core.call import Call
from xrouter.core.decision import Considered, Explanation, Removed, Tried
from xrouter.core.vitals import Vitals
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.trace import Trace


def told(
    plan: tuple[Candidate, ...], trace: Trace, catalog: Catalog, health: Health, now: float, error: str | None = None
) -> Explanation:
    """The explanation of a plan that was made with `trace` at the monotonic `now`."""
    removed = {id(one.candidate): one for one in trace.removed}
    places = {id(candidate): place for place, candidate in enumerate(plan, 1)}
    each = list(plan) + [one.candidate for one in trace.removed if id(one.candidate) not in places]
    candidates = []
    for candidate in each:
        place, out = places.get(id(candidate)), removed.get(id(candidate))
        candidates.append(
            Considered(
                candidate.model,
                candidate.deployment.id,
                candidate.deployment.provider,
                place,
                None if out is None or place is not None else Removed(out.code, out.words),
                trace.moved.get(candidate),
                {name: _shown(term) for name, term in trace.scores.get(candidate, {}).items()},
                vitals(health.of(candidate.deployment), health.ejected(candidate.deployment, now), now),
            )
        )
    return Explanation(
        catalog.revision,
        f"{trace.seed:016x}",
        trace.strategies,
        tuple(candidates),
        trace.rules,
        trace.canaries,
        trace.panic,
        trace.tokens,
        error,
    )


def _shown(term: Any) -> Any:
    """JSON has no infinity."""
    return None if isinstance(term, float) and abs(term) == inf else term


def vitals(known: Vitals, ejected: str | None, now: float) -> dict[str, Any]:
    """What is known of a deployment at the monotonic `now`, as the APIs show it: times as seconds from then."""
    return {
        "in_flight": known.in_flight,
        "ttft_s": known.ttft_s,
        "tokens_per_s": known.tokens_per_s,
        "failures_in_a_row": known.failures,
        "last_failure_s_ago": None if known.last_failure_at == -inf else max(0.0, now - known.last_failure_at),
        "ejected": ejected,
        "ejected_for_s": None if ejected is None else max(0.0, known.ejected_until - now),
    }


def tried(call: Call) -> list[Tried]:
    """The attempts of a call so far."""
    found = []
    for attempt in call.attempts:
        sign = attempt.first_content_at or attempt.ended_at
        latency_ms = None if sign is None else max(0, round((sign - attempt.started_at) * 1000))
        found.append(
            Tried(
                attempt.number,
                attempt.deployment.id,
                attempt.state.value,
                attempt.phase.value,
                attempt.upstream_status,
                attempt.error,
                latency_ms,
            )
        )
    return found


def short(explanation: Explanation) -> str:
    """The same in a header: ASCII, and as long as three names."""
    strategies = ",".join(dict.fromkeys(explanation.strategies.values()))
    tried = sum(one.place is not None for one in explanation.candidates)
    words = f"strategy={strategies}; candidates={tried}; removed={len(explanation.candidates) - tried}"
    words += f"; revision={explanation.revision}; seed={explanation.seed}"
    return words + ("; panic" if explanation.panic else "")
