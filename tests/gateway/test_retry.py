"""The table of what is tried again."""

import pytest

from xrouter.core.call import Phase
from xrouter.core.errors import (
    Invalid,
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.gateway.retry import judge

ERRORS = (
    ProviderAuthFailed, ProviderQuotaExhausted, ProviderRateLimited, ProviderRefused, ProviderTimeout,
    ProviderUnavailable,
)  # fmt: skip


def said(kind: type[UpstreamError], status: int | None = None, **more: object) -> UpstreamError:
    return kind("no", provider="a", upstream_status=status, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ERRORS)
def test_a_phase_decides_before_the_error_does(kind: type[UpstreamError]) -> None:
    for status in (None, 400, 429, 503):
        shown = judge(said(kind, status), Phase.SHOWN, 1)
        assert not shown.same
        assert not shown.other
        for phase in (Phase.SENT, Phase.BODY):
            sent = judge(said(kind, status), phase, 1)
            assert not sent.same
            assert sent.other


@pytest.mark.parametrize("status", [420, 429, 503, None])
def test_a_rate_limit_is_waited_out_whatever_status_told_it(status: int | None) -> None:
    verdict = judge(said(ProviderRateLimited, status), Phase.STATUS, 1)
    assert (verdict.same, verdict.other, verdict.wait_s) == (True, True, 1.0)
    advised = judge(said(ProviderRateLimited, status, retry_after_s=4.0), Phase.STATUS, 1)
    assert (advised.same, advised.wait_s) == (True, 4.0)
    assert not judge(said(ProviderRateLimited, status, retry_after_s=10.5), Phase.STATUS, 1).same


@pytest.mark.parametrize(
    ("status", "same", "other"),
    [
        (500, True, True),
        (503, True, True),
        (529, True, True),
        (409, True, False),
        (301, False, True),
        (501, False, True),
    ],
)
def test_an_unavailable_vendor_by_its_status(status: int, same: bool, other: bool) -> None:
    verdict = judge(said(ProviderUnavailable, status), Phase.STATUS, 1)
    assert (verdict.same, verdict.other) == (same, other)


def test_a_wait_is_at_most_half_a_second_and_then_a_second() -> None:
    for tries, longest_s in ((1, 0.5), (2, 1.0)):
        waits = [judge(said(ProviderUnavailable, 503), Phase.STATUS, tries).wait_s for _ in range(200)]
        assert 0 <= min(waits) < longest_s / 2 < max(waits) <= longest_s


def test_what_cannot_be_expressed_goes_elsewhere() -> None:
    verdict = judge(Invalid("n must be 1", param="n"), Phase.CONNECTING, 1)
    assert (verdict.same, verdict.other) == (False, True)
