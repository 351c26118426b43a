"""Open and close the record of an attempt. Synchronous: it runs in `finally`, where nothing may be awaited."""

from functools import partial

from xrouter.core.call import Attempt, Call, Phase, Request, State
from xrouter.core.errors import UpstreamError
from xrouter.core.ports import Journal
from xrouter.gateway import meter
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.route import Candidate


def begin(call: Call, candidate: Candidate, gateway: Gateway, part: Request | None = None) -> Attempt:
    """A new attempt of `call`, or of a `part` of it. It reaches the journal when the provider marks it as sending."""
    now = gateway.clock.monotonic()
    made = call.attempts
    attempt = Attempt(
        call=call,
        deployment=candidate.deployment,
        model=candidate.model,
        number=made[-1].number + 1 if made else 1,
        began=now,
        started_at=wall(call, now),
        journal_intent=partial(_intend, gateway.journal),
        part=part,
        on_operator=call.on_operator,
    )
    made.append(attempt)
    gateway.health.began(attempt)
    return attempt


def _intend(journal: Journal, attempt: Attempt) -> None:
    """The intent carries what is known before the first byte: the estimated prompt and its cost."""
    expected = meter.expected(attempt.request)
    journal.intend(attempt, expected, meter.cost_micro(attempt.price, expected))


def end(attempt: Attempt, error: BaseException | None, gateway: Gateway) -> bool:
    """The attempt is over: with an answer, an error, or because the client left or the process ends.

    What never left this machine and was not the vendor's doing (the client left in the queue, the request
    could not be expressed in the vendor's terms) was no attempt: it leaves no row and is counted nowhere. This is
    the one place that says so; it returns whether it was one.
    """
    if attempt.phase is Phase.CONNECTING and not isinstance(error, UpstreamError):
        attempt.call.attempts.remove(attempt)
        gateway.health.withdrawn(attempt)
        return False
    now = gateway.clock.monotonic()
    attempt.ended, attempt.ended_at = now, wall(attempt.call, now)
    if error is None:
        attempt.state = State.SUCCEEDED
    elif isinstance(error, Exception):
        attempt.state = State.FAILED
        attempt.error = getattr(error, "code", None) or "internal_error"
    else:
        attempt.state, attempt.error = State.CANCELLED, attempt.cut_by or attempt.call.cut_by
    meter.settle(attempt)
    gateway.health.ended(attempt, error)
    gateway.journal.settle(attempt)
    gateway.telemetry.attempt_ended(attempt)
    return True


def wall(call: Call, monotonic: float) -> float:
    """A point on the monotonic clock as wall time, by the call's own start: one clock read serves both."""
    return call.started_at + (monotonic - call.started)
