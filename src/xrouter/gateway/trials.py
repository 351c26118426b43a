"""Who is tried next, and what became of those who were: the decisions between two attempts of one call."""

import asyncio
from types import TracebackType

from xrouter.core.call import Attempt, Call, Request
from xrouter.core.errors import Invalid, UpstreamError
from xrouter.gateway import record, retry
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.route import Candidate

MIN_REMAINING_S = 1.0
"""A further attempt is pointless with less time than this left."""


class Trials:
    """Who was tried and what became of it. As a context, it closes the attempt that runs: writes its record, and
    swallows what another attempt may mend."""

    __slots__ = ("_allowed", "_attempt", "_call", "_candidate", "_due", "_failed_by", "_failure", "_gateway", "_made",
                 "_part", "_plan", "_refusal", "_tries")  # fmt: skip

    _attempt: Attempt
    _candidate: Candidate
    _failed_by: BaseException | None

    def __init__(self, call: Call, plan: tuple[Candidate, ...], gateway: Gateway, part: Request | None) -> None:
        self._call = call
        self._plan = plan
        self._gateway = gateway
        self._part = part
        self._tries: dict[Candidate, int] = {}
        self._due: dict[Candidate, float] = {}  # when a candidate may be asked once more
        self._allowed = plan
        self._made = 0
        self._failure: UpstreamError | None = None
        self._refusal: Invalid | None = None

    def begin(self, candidate: Candidate) -> Attempt:
        """The next attempt. To be used as: `with trials`."""
        self._candidate = candidate
        self._tries[candidate] = self._tries.get(candidate, 0) + 1
        self._attempt = record.begin(self._call, candidate, self._gateway, self._part)
        return self._attempt

    def due(self) -> float:
        """Until when the running attempt may take for its first content.

        A whole answer shows no sign of life before it is there, so a silent vendor would eat the whole deadline:
        with another candidate to spare it gets half of what is left.
        """
        began, deadline = self._attempt.began, self._call.deadline
        if self._call.request.stream:
            return min(deadline, began + self._attempt.deployment.timeouts.first_s)
        has_spare = self._made + 1 < retry.MAX_ATTEMPTS and len(self._tries) < len(self._plan)
        return (began + deadline) / 2 if has_spare else deadline

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        attempt, candidate = self._attempt, self._candidate
        self._made += record.end(attempt, error, self._gateway)
        self._failed_by = error
        if isinstance(error, UpstreamError):
            self._failure = error
        elif isinstance(error, Invalid):
            self._refusal = self._refusal or error
        else:
            return False
        verdict = retry.judge(error, attempt.phase, self._tries[candidate])
        self._due.pop(candidate, None)
        if verdict.same:
            self._due[candidate] = self._gateway.clock.monotonic() + verdict.wait_s
        self._allowed = self._plan if verdict.other else (candidate,)
        return True

    def resume(self) -> None:
        """What the last attempt has shown shall be gone on with: by another candidate, or by the same where there is no
        other and its error allows it."""
        if isinstance(self._failed_by, UpstreamError):
            candidate = self._candidate
            verdict = retry.judge_broken(self._failed_by, self._tries[candidate])
            if verdict.same:
                self._due[candidate] = self._gateway.clock.monotonic() + verdict.wait_s
            if verdict.other:
                self._allowed = self._plan

    async def next(self) -> Candidate | None:
        """The next candidate: an untried one at once, else the repeatable one that is due first, after its wait. As
        long as there was no attempt, there is no lack of time either: nothing has been waited for."""
        clock, tries = self._gateway.clock, self._tries
        remaining_s = self._call.deadline - clock.monotonic()
        if self._made >= retry.MAX_ATTEMPTS or (self._made and remaining_s < MIN_REMAINING_S):
            return None
        for candidate in self._allowed:
            if candidate not in tries:
                return candidate
        repeatable = {
            one: at for one, at in self._due.items() if one in self._allowed and tries[one] < retry.MAX_PER_DEPLOYMENT
        }
        if not repeatable:
            return None
        candidate = min(repeatable, key=repeatable.__getitem__)
        wait_s = max(0.0, repeatable[candidate] - clock.monotonic())
        if remaining_s - wait_s < MIN_REMAINING_S:
            return None
        await asyncio.sleep(wait_s)
        return candidate

    def error(self) -> UpstreamError | Invalid:
        """What the client is told when nobody answered."""
        if self._failure is None:
            assert self._refusal is not None, "the trials end by an answer or an error"
            return self._refusal
        self._failure.metadata["attempts"] = [_account(one) for one in self._call.attempts]
        return self._failure


def _account(attempt: Attempt) -> dict[str, object]:
    """One attempt as the error's metadata tells it."""
    return {
        "provider": attempt.deployment.provider,
        "model": attempt.deployment.id,
        "status": attempt.upstream_status,
        "error": attempt.error,
        "attempt_id": attempt.id,
    }
