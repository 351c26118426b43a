"""Who is tried next, and what became of those who were: the decisions between two attempts of one call."""

import asyncio
from types import TracebackType

from xrouter.core.call import Attempt, Call, Phase, Piece, Request
from xrouter.core.chat import Answer, ChatRequest
from xrouter.core.errors import Invalid, UpstreamError
from xrouter.core.policy import CONTENT_POLICY
from xrouter.gateway import fallbacks, record, retry
from xrouter.gateway.continuation import Broken
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.group import plain_id
from xrouter.gateway.route import Candidate

MIN_REMAINING_S = 1.0
"""A further attempt is pointless with less time than this left."""

MODEL_NOT_FOUND = "model_not_found"

BUDGET_EXHAUSTED = "budget_exhausted"

_USUAL = 0.5
_CHANGING_S = 0.1  # from an attempt that ran out of its time to the next one, on a busy machine, too


class Trials:
    """Who was tried and what became of it. As a context, it closes the attempt that runs: writes its record, and
    swallows what another attempt may mend."""

    __slots__ = ("_allowed", "_ambiguous", "_attempt", "_beside", "_call", "_candidate", "_due", "_failed_by",
                 "_failure", "_gateway", "_made", "_other_wait_s", "_part", "_plan", "_refusal", "_tries")  # fmt: skip

    _attempt: Attempt
    _candidate: Candidate
    _failed_by: BaseException | None

    def __init__(
        self, call: Call, plan: tuple[Candidate, ...], gateway: Gateway, part: Request | None, *, beside: bool = False
    ) -> None:
        self._beside = beside
        self._call = call
        self._plan = plan
        self._gateway = gateway
        self._part = part
        self._tries: dict[Candidate, int] = {}
        self._due: dict[Candidate, float] = {}  # when a candidate may be asked once more
        self._allowed = plan
        self._made = 0
        self._other_wait_s = 0.0
        self._ambiguous = False
        self._failure: UpstreamError | None = None
        self._refusal: Invalid | None = None

    def begin(self, candidate: Candidate) -> Attempt:
        """The next attempt. To be used as: `with trials`."""
        self._candidate = candidate
        self._tries[candidate] = self._tries.get(candidate, 0) + 1
        self._attempt = record.begin(self._call, candidate, self._gateway, self._part)
        self._attempt.beside = self._beside
        return self._attempt

    def due(self) -> float:
        """Until when the running attempt may take for its first content.

        A whole answer shows no sign of life before it is there, so a silent vendor would eat the whole deadline: it
        gets half of what is left, where another candidate may be asked then and has time enough in the other half.
        """
        began, deadline = self._attempt.began, self._call.deadline
        if self._call.request.stream:
            return min(deadline, began + self._attempt.deployment.timeouts.first_s)
        half_s = (deadline - began) / 2
        return deadline - half_s if self._has_spare(half_s - _CHANGING_S) else deadline

    def _has_spare(self, left_s: float) -> bool:
        """Would there be somebody else to ask, with so much time left, if the running attempt got no answer?"""
        if self._made + 1 >= retry.MAX_ATTEMPTS or len(self._tries) >= len(self._plan) or self._beside:
            return False
        if self._ambiguous or not retry.repeatable(self._attempt.request):
            return False  # it was sent, and nobody would know whether it is done
        return any(one not in self._tries and self._in_time(one, left_s) for one in self._plan)

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        attempt, candidate, gateway = self._attempt, self._candidate, self._gateway
        self._made += record.end(attempt, error, gateway)
        self._failed_by = error
        if isinstance(error, UpstreamError):
            self._failure = _told(error, candidate, gateway)
        elif isinstance(error, Invalid):
            self._refusal = self._refusal or error
        else:
            return False
        again = not self._ambiguous and retry.repeatable(attempt.request)
        tries, chance = self._tries[candidate], gateway.health.chance
        verdict = retry.judge(error, attempt.phase, tries, chance, repeatable=again)
        self._ambiguous = self._ambiguous or verdict.ambiguous
        self._other_wait_s = verdict.other_wait_s
        self._due.pop(candidate, None)
        if verdict.same:
            self._due[candidate] = gateway.clock.monotonic() + verdict.wait_s
        self._allowed = self._others(error) if verdict.other else (candidate,)
        if attempt.phase is not Phase.SHOWN:
            self._allowed = (*self._opened(error), *self._allowed)
        return True

    def opens_for(self, event: Piece, broken: Broken | None) -> bool:
        """`event` completes an answer that the vendor's content filter has taken away, and nothing of it was shown: has
        the route kept somebody for that, who does well at present and could still be asked? Else the client gets the
        refusal as an answer, which it is. Not where a choice came through, nor for the end of an answer that is
        `broken`."""
        if not self._candidate.policy.fallbacks.get(CONTENT_POLICY) or self._beside or broken is not None:
            return False
        request = self._attempt.request
        if isinstance(event, Answer):
            if any(choice.finish_reason != "content_filter" for choice in event.choices):
                return False
        elif type(request) is not ChatRequest or (request.field("n") or 1) > 1:
            return False
        now, health = self._gateway.clock.monotonic(), self._gateway.health
        remaining_s = self._call.deadline - now
        return self._made + 1 < retry.MAX_ATTEMPTS and any(
            health.of(one.deployment).failures == 0 and self._in_time(one, remaining_s)
            for one in self._kept_for(CONTENT_POLICY)
        )

    def _opened(self, error: UpstreamError | Invalid) -> tuple[Candidate, ...]:
        """Whom the route keeps for failures of this class, as far as they were not tried."""
        kind = fallbacks.class_of(error)
        return () if kind is None else self._kept_for(kind)

    def _kept_for(self, kind: str) -> tuple[Candidate, ...]:
        tried = {one.deployment.key for one in self._tries}
        found = fallbacks.further(self._call, self._candidate, kind, self._gateway.catalog, self._gateway.health)
        return tuple(one for one in found if one.deployment.key not in tried)

    def _others(self, error: UpstreamError | Invalid) -> tuple[Candidate, ...]:
        """All, but where the request was too long for this one: those who may read more."""
        if error.code != retry.CONTEXT_LENGTH:
            return self._plan
        known = self._candidate.deployment.context_tokens
        return tuple(
            one
            for one in self._plan
            if known is None or one.deployment.context_tokens is None or one.deployment.context_tokens > known
        )

    def resume(self) -> None:
        """What the last attempt has shown shall be gone on with: by another candidate, or by the same where there is no
        other and its error allows it."""
        if isinstance(self._failed_by, UpstreamError):
            candidate, gateway = self._candidate, self._gateway
            verdict = retry.judge_broken(self._failed_by, self._tries[candidate], gateway.health.chance)
            self._other_wait_s = verdict.other_wait_s
            if verdict.same:
                self._due[candidate] = gateway.clock.monotonic() + verdict.wait_s
            if verdict.other:
                self._allowed = self._plan

    @property
    def _is_spent(self) -> bool:
        """Beside another attempt one is made; further ones may only go on with what it has shown."""
        return self._beside and self._attempt.phase is not Phase.SHOWN

    async def next(self) -> Candidate | None:
        """The next candidate: an untried one almost at once, else the repeatable one that is due first, after its
        wait. As long as there was no attempt, there is no lack of time either: nothing has been waited for."""
        clock, tries = self._gateway.clock, self._tries
        now = clock.monotonic()
        remaining_s = self._call.deadline - now
        if self._made >= retry.MAX_ATTEMPTS or self._is_spent or (self._made and remaining_s < MIN_REMAINING_S):
            return None
        candidate = self._untried(now, remaining_s)
        if candidate is not None:
            if self._other_wait_s:
                await asyncio.sleep(self._other_wait_s)
            return candidate
        repeatable = {
            one: at for one, at in self._due.items() if one in self._allowed and tries[one] < retry.MAX_PER_DEPLOYMENT
        }
        if not repeatable:
            return None
        candidate = min(repeatable, key=repeatable.__getitem__)
        wait_s = max(0.0, repeatable[candidate] - now)
        if not self._in_time(candidate, remaining_s - wait_s) or not self._affordable(now):
            return None
        await asyncio.sleep(wait_s)
        return candidate

    def _untried(self, now: float, remaining_s: float) -> Candidate | None:
        """The first that was not tried yet, does well at present, and usually answers in time. Else one who failed
        lately, as far as the budget goes; and one that is ejected by now, where the plan has nobody else."""
        health = self._gateway.health
        left: list[tuple[bool, int, Candidate]] = []
        for candidate in self._allowed:
            if candidate in self._tries or not (self._made == 0 or self._in_time(candidate, remaining_s)):
                continue
            vitals = health.of(candidate.deployment)
            if self._made == 0 or (vitals.failures == 0 and vitals.ejected_until <= now):
                return candidate
            left.append((vitals.ejected_until > now, len(left), candidate))
        return min(left)[-1] if left and self._affordable(now) else None

    def _in_time(self, candidate: Candidate, remaining_s: float) -> bool:
        """May it come to an answer? A second at least, and what its first content usually takes."""
        usual_s = self._gateway.health.of(candidate.deployment).ttft_samples.percentile(_USUAL)
        return remaining_s >= max(MIN_REMAINING_S, usual_s or 0.0)

    def _affordable(self, now: float) -> bool:
        """One repeat of the budget, which counts where the call would go first. Says in the error that there was
        none."""
        station = self._gateway.health.station(self._plan[0].deployment)
        if station.budget.draw(now):
            return True
        if self._failure is not None:
            self._failure.retry = BUDGET_EXHAUSTED
        return False

    def error(self) -> UpstreamError | Invalid:
        """What the client is told when nobody answered."""
        if self._failure is None:
            assert self._refusal is not None, "the trials end by an answer or an error"
            return self._refusal
        self._failure.metadata["attempts"] = [_account(one) for one in self._call.attempts]
        return self._failure


def _told(error: UpstreamError, candidate: Candidate, gateway: Gateway) -> UpstreamError:
    """The failure as the client is told of it. A model that its vendor does not know is the client's mistake only where
    the client named that very deployment: what a route or an alias leads to, the operator has written."""
    deployment = candidate.deployment
    if error.code != MODEL_NOT_FOUND or gateway.catalog.plain(candidate.model) == plain_id(deployment):
        return error
    return UpstreamError(
        f"{error.message} The operator of this gateway has '{candidate.model}' lead to {deployment.id}, and "
        f"{error.provider} knows no '{deployment.upstream_model}': take it out of the route, or correct the models of "
        f"the provider '{deployment.provider}'.",
        provider=error.provider,
        upstream_status=error.upstream_status,
        code="provider_model_missing",
    )


def _account(attempt: Attempt) -> dict[str, object]:
    """One attempt as the error's metadata tells it."""
    return {
        "provider": attempt.deployment.provider,
        "model": attempt.deployment.id,
        "status": attempt.upstream_status,
        "error": attempt.error,
        "attempt_id": attempt.id,
    }
