"""After a failed attempt: may the same deployment be tried again, may another, and how long to wait first.

This is the table of attempt phases. In words: nothing sent -> both (only another where the address itself is
forbidden: the same rules would refuse it again); sent without an answer -> only another
(the vendor may have done the work); an answer -> by its status; content shown -> neither, unless another attempt goes
on with it.
"""

import random
from dataclasses import dataclass

from xrouter.core.call import Phase
from xrouter.core.errors import (
    Invalid,
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    UpstreamError,
)

MAX_ATTEMPTS = 3
"""Upstream calls per client request, the first included."""

MAX_PER_DEPLOYMENT = 2
"""Of these on one deployment."""

_RETRYABLE_STATUS = frozenset({408, 409, 425, 500, 502, 503, 504, 529}) | frozenset(range(520, 525))
_HOPELESS_CODES = frozenset({"provider_address_forbidden"})
_FALLBACK_CODES = frozenset({"context_length_exceeded", "model_not_found"})
_MAX_WAIT_S = 10.0
_RATE_LIMIT_WAIT_S = 1.0
_JITTER_S = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be tried after an error. `wait_s` comes before a repeat on the same deployment."""

    same: bool
    other: bool
    wait_s: float = 0.0


NEVER = Verdict(same=False, other=False)
OTHER = Verdict(same=False, other=True)


def judge(error: UpstreamError | Invalid, phase: Phase, tries: int) -> Verdict:
    """The verdict on an attempt that failed in `phase`, the `tries`-th on its deployment (from 1).

    The class of the error decides; a status says more only where the class leaves it open, that is for a vendor
    who was unavailable or late. `Invalid` is our own adapter's: this vendor cannot be asked such a thing, another
    one may. The wait is the vendor's Retry-After when it is at most 10 s (a longer one makes a repeat pointless);
    without one 1 s after a rate limit, else full jitter up to 0.5 s, doubled for each further try.
    """
    if phase is Phase.SHOWN:
        return NEVER
    if phase is Phase.SENT or phase is Phase.BODY or isinstance(error, Invalid):
        return OTHER
    if isinstance(error, ProviderRefused):
        return OTHER if error.code in _FALLBACK_CODES or error.upstream_status == 404 else NEVER
    if isinstance(error, ProviderAuthFailed | ProviderQuotaExhausted) or error.code in _HOPELESS_CODES:
        return OTHER
    if isinstance(error, ProviderRateLimited):
        return _again(error, _RATE_LIMIT_WAIT_S)
    status = error.upstream_status
    if phase is Phase.STATUS and status is not None and status not in _RETRYABLE_STATUS:
        return OTHER
    return _again(error, _jitter_s(tries), other=status != 409)


def judge_broken(error: UpstreamError, tries: int) -> Verdict:
    """The verdict on an answer that broke off after content was shown, and that somebody may go on with. That is a new
    request, so how far the one before had come says nothing."""
    return judge(error, Phase.CONNECTING, tries)


def _again(error: UpstreamError, usual_wait_s: float, *, other: bool = True) -> Verdict:
    wait_s = usual_wait_s if error.retry_after_s is None else error.retry_after_s
    return Verdict(same=wait_s <= _MAX_WAIT_S, other=other, wait_s=wait_s)


def _jitter_s(tries: int) -> float:
    return random.uniform(0, _JITTER_S * 2 ** (tries - 1))  # noqa: S311 - spreads load, guards nothing
