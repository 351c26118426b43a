"""After a failed attempt: may the same deployment be tried again, may another, how long to wait first, and what the
failure says about the deployment's health.

This is the table of attempt phases. In words: nothing sent -> both (only another where the address itself is
forbidden: the same rules would refuse it again); sent without an answer -> only another, once, and only where doing the
work twice harms nobody (the vendor may have done it); an answer -> by its status; a success that broke -> only another
(the vendor has done it); content shown -> neither, unless another attempt goes on with it.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from xrouter.core.call import Attempt, Phase, Request
from xrouter.core.chat import ChatRequest
from xrouter.core.errors import (
    NEVER_LEFT,
    QUEUE_FULL,
    Invalid,
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    UpstreamError,
)
from xrouter.core.images import ImagesRequest

MAX_ATTEMPTS: Final = 3
"""Upstream calls per client request, the first included."""

MAX_PER_DEPLOYMENT: Final = 2
"""Of these on one deployment."""

CONTEXT_LENGTH: Final = "context_length_exceeded"

_RETRYABLE_STATUS: Final = frozenset({408, 409, 425, 500, 502, 503, 504, 529}) | frozenset(range(520, 525))
_HOPELESS_STATUS: Final = frozenset({501, 505})  # whoever else we ask gets the same request
_HOPELESS_CODES: Final = frozenset({"provider_address_forbidden", QUEUE_FULL})
_NO_ADDRESS: Final = "provider_name_unknown"
_FALLBACK_CODES: Final = frozenset({CONTEXT_LENGTH, "model_not_found"})
_OWN_TOOLS: Final = ("function", "custom")
"""Tools that the client runs; every other one acts on the vendor's side."""

_LONGEST_WAIT_S: Final = 10.0
_RATE_LIMIT_WAIT_S: Final = 1.0
_BASE_S: Final = 0.25
_LONGEST_JITTER_S: Final = 8.0
_OTHER_JITTER_S: Final = 0.025


class Signal(StrEnum):
    """What a failure says about the deployment: see `gateway/health.py`."""

    NOTHING = "nothing"
    FAILED = "failures"
    SATURATED = "rate_limited"
    REFUSES_CREDENTIAL = "auth_failed"
    FORBIDS = "forbidden"
    EMPTY = "quota_exhausted"
    NO_ADDRESS = "dns"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be tried after an error. `wait_s` comes before a repeat on the same deployment, `other_wait_s` before
    another one. `ambiguous`: the vendor may have done the work, so that one further attempt is enough."""

    same: bool
    other: bool
    wait_s: float = 0.0
    other_wait_s: float = 0.0
    ambiguous: bool = False


NEVER: Final = Verdict(same=False, other=False)


def judge(
    error: UpstreamError | Invalid, phase: Phase, tries: int, chance: Random, *, repeatable: bool = True
) -> Verdict:
    """The verdict on an attempt that failed in `phase`, the `tries`-th on its deployment (from 1).

    The class of the error decides; a status says more only where the class leaves it open, that is for a vendor
    who was unavailable or late. `Invalid` is our own adapter's: this vendor cannot be asked such a thing, another
    one may. The wait is the vendor's Retry-After when it is at most 10 s (a longer one makes a repeat pointless);
    without one 1 s after a rate limit, else full jitter up to 0.5 s, doubled for each further try. Another deployment
    is asked within 25 ms, after a rate limit at once. `repeatable` is what the function of that name says.
    """
    if phase is Phase.SHOWN:
        return NEVER
    if isinstance(error, Invalid):
        return Verdict(same=False, other=True)
    other_wait_s = chance.uniform(0, _OTHER_JITTER_S)
    if phase is Phase.SENT:
        return Verdict(same=False, other=repeatable, other_wait_s=other_wait_s, ambiguous=True)
    other = Verdict(same=False, other=True, other_wait_s=other_wait_s)
    if phase is Phase.BODY:
        return other
    if isinstance(error, ProviderRefused):
        return other if error.code in _FALLBACK_CODES or error.upstream_status == 404 else NEVER
    if isinstance(error, ProviderAuthFailed | ProviderQuotaExhausted) or error.code in _HOPELESS_CODES:
        return other
    if isinstance(error, ProviderRateLimited):
        wait_s = _RATE_LIMIT_WAIT_S if error.retry_after_s is None else error.retry_after_s
        return Verdict(same=wait_s <= _LONGEST_WAIT_S, other=True, wait_s=wait_s)
    status = error.upstream_status
    if phase is Phase.STATUS and status is not None and status not in _RETRYABLE_STATUS:
        return NEVER if status in _HOPELESS_STATUS else other
    jitter_s = chance.uniform(0, min(_LONGEST_JITTER_S, _BASE_S * 2**tries))
    wait_s = jitter_s if error.retry_after_s is None else error.retry_after_s
    return Verdict(wait_s <= _LONGEST_WAIT_S, status != 409, wait_s, other_wait_s)


def judge_broken(error: UpstreamError, tries: int, chance: Random) -> Verdict:
    """The verdict on an answer that broke off after content was shown, and that somebody may go on with. That is a new
    request, so how far the one before had come says nothing."""
    return judge(error, Phase.CONNECTING, tries, chance)


def repeatable(request: Request) -> bool:
    """May it be sent once more where nobody knows whether the first one arrived? Not where the vendor would do
    something twice: pictures are paid for by the piece, and tools on the vendor's side act."""
    if isinstance(request, ImagesRequest):
        return False
    if not isinstance(request, ChatRequest) or "tools" not in request.fields:
        return True
    tools = request.field("tools")
    return not tools or all(isinstance(one, dict) and one.get("type") in _OWN_TOOLS for one in tools)


def signal(error: BaseException, attempt: Attempt) -> Signal:
    """What the failure of an attempt says about its deployment. A request that the vendor found wrong, one of ours that
    never left, and a client who left or would not wait say nothing."""
    if not isinstance(error, UpstreamError) or isinstance(error, ProviderRefused) or error.code in NEVER_LEFT:
        return Signal.NOTHING
    if isinstance(error, ProviderRateLimited):
        return Signal.SATURATED
    if isinstance(error, ProviderAuthFailed):
        return Signal.FORBIDS if error.upstream_status == 403 else Signal.REFUSES_CREDENTIAL
    if isinstance(error, ProviderQuotaExhausted):
        return Signal.EMPTY
    if error.code == _NO_ADDRESS:
        return Signal.NO_ADDRESS
    if attempt.phase is Phase.STATUS and (error.upstream_status == 409 or error.upstream_status in _HOPELESS_STATUS):
        return Signal.NOTHING
    if isinstance(error, ProviderTimeout) and _hurried(attempt):
        return Signal.NOTHING
    return Signal.FAILED


def _hurried(attempt: Attempt) -> bool:
    """The client's own deadline ended it before its deployment had the time that the operator gives it."""
    call, limits = attempt.call, attempt.deployment.timeouts
    if call.timeout_s is None or attempt.ended is None or attempt.upstream_status == 408:
        return False
    stream = call.request.stream
    if attempt.phase is Phase.SHOWN:
        return attempt.ended >= call.deadline
    patience_s = limits.connect_s if attempt.phase is Phase.CONNECTING else limits.first_s
    if attempt.phase is not Phase.CONNECTING and not stream:
        patience_s = limits.total_s / 2
    return attempt.ended - attempt.began < patience_s
