"""After a failed attempt: may the same deployment be tried again, may another, and how long to wait first.

This is the table of attempt phases. In words: nothing sent -> both (only another where the address itself is
forbidden: the same rules would refuse it again); sent without an answer -> only another
(the vendor may have done the work); an answer -> by its status; content shown -> neither.
"""

import random
from dataclasses import dataclass

from xrouter.core.call import Phase
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    UpstreamError,
)

MAX_ATTEMPTS = 3
"""Upstream calls per client request, the first included."""

MAX_PER_DEPLOYMENT = 2

_RETRYABLE_STATUS = frozenset({408, 425, 500, 502, 503, 504, 529}) | frozenset(range(520, 525))
_HOPELESS_CODES = frozenset({"provider_address_forbidden"})
_FALLBACK_CODES = frozenset({"context_length_exceeded", "model_not_found"})
_MAX_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be tried after an error. `wait_s` comes before a repeat on the same deployment."""

    same: bool
    other: bool
    wait_s: float = 0.0


NEVER = Verdict(same=False, other=False)
OTHER = Verdict(same=False, other=True)


def judge(error: UpstreamError, phase: Phase, tries: int) -> Verdict:
    """The verdict on an attempt that failed in `phase`, the `tries`-th on its deployment (from 1).

    The wait is full jitter up to 0.25 s doubled per try, or the vendor's Retry-After when it is at most
    10 s; a longer one makes a repeat pointless.
    """
    if phase is Phase.SHOWN:
        return NEVER
    if phase is Phase.SENT or phase is Phase.BODY:
        return OTHER
    if isinstance(error, ProviderRefused):
        return OTHER if error.code in _FALLBACK_CODES or error.upstream_status == 404 else NEVER
    if isinstance(error, ProviderAuthFailed | ProviderQuotaExhausted) or error.code in _HOPELESS_CODES:
        return OTHER
    status = error.upstream_status
    if phase is Phase.STATUS and status is not None and status not in _RETRYABLE_STATUS and status not in (409, 429):
        return OTHER
    wait_s = error.retry_after_s
    if wait_s is None:
        wait_s = 1.0 if isinstance(error, ProviderRateLimited) else _jitter_s(tries)
    return Verdict(same=wait_s <= _MAX_WAIT_S, other=status != 409, wait_s=wait_s)


def _jitter_s(tries: int) -> float:
    return random.uniform(0, min(8.0, 0.25 * 2**tries))  # noqa: S311 - spreads load, guards nothing
