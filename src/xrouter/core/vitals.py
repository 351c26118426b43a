"""What is known of one deployment at a moment: plain numbers, so that a choice can be made from them, written down and
made once more."""

from math import exp, inf

from msgspec import Struct, field

from xrouter.core.deployment import Deployment

EJECTED = ("failures", "auth_failed", "forbidden", "quota_exhausted", "dns", "rate_limited", "probing")
"""Why a deployment gets no traffic (`Vitals.ejected`): it failed too often; its credential was refused; it is forbidden
to us; its account is empty; its name has no address; it asked for a pause (429); one call is trying it."""

_DECAY_S = 10.0
_SAMPLES = 128
_SORT_AFTER = 16


class Vitals(Struct, eq=False):
    """One deployment, as this process sees it. `key` is the deployment's (`Deployment.key`).

    `in_flight` are attempts that run now, those that wait for a slot included. `ttft_s` is the peak-EWMA of the seconds
    to the first content (decay 10 s; a slower sample counts at once and in full); a whole answer counts as its seconds
    by the square root of its tokens, which is of the same size. `tokens_per_s` is the EWMA of a stream's output after
    its first content. Both are None while nothing is known. `succeeded` and `failed` count attempts since the start,
    as far as they say something about the deployment; `failures` are those in a row. `ejected` is one of `EJECTED`
    until the monotonic `ejected_until`, None while it may be chosen; `Health.ejected` reads both.
    """

    key: str
    in_flight: int = 0
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    succeeded: int = 0
    failed: int = 0
    failures: int = 0
    last_failure_at: float = -inf
    ejected: str | None = None
    ejected_until: float = -inf
    ttft_samples: "Samples" = field(default_factory=lambda: Samples())
    rate_samples: "Samples" = field(default_factory=lambda: Samples())
    ttft_at: float = -inf

    @property
    def success_share(self) -> float | None:
        """Between 0 and 1; None while nothing is known."""
        known = self.succeeded + self.failed
        return self.succeeded / known if known else None

    def took(self, seconds: float, now: float) -> None:
        """A first content came after so many seconds, or what stands for it."""
        known = self.ttft_s
        if known is None or seconds >= known:
            self.ttft_s = seconds
        else:
            weight = exp((self.ttft_at - now) / _DECAY_S)
            self.ttft_s = known * weight + seconds * (1.0 - weight)
        self.ttft_at = now

    def wrote(self, rate: float) -> None:
        """An answer came at so many tokens per second after its first content."""
        known = self.tokens_per_s
        self.tokens_per_s = rate if known is None else known * 0.9 + rate * 0.1
        self.rate_samples.add(rate)


class Samples(Struct, eq=False):
    """The last 128 of a figure, for percentiles, which are reckoned anew after every 16th."""

    count: int = 0
    seen: list[float] = field(default_factory=list)
    sorted_at: int = -_SORT_AFTER
    in_order: list[float] = field(default_factory=list)

    def add(self, sample: float) -> None:
        count = self.count
        if count < _SAMPLES:
            self.seen.append(sample)
        else:
            self.seen[count % _SAMPLES] = sample
        self.count = count + 1

    def percentile(self, share: float) -> float | None:
        """The sample that `share` (0 to 1) of them do not exceed; None while there is none."""
        if self.count - self.sorted_at >= _SORT_AFTER or not self.in_order:
            self.in_order = sorted(self.seen)
            self.sorted_at = self.count
        known = self.in_order
        return known[min(int(len(known) * share), len(known) - 1)] if known else None


class Change(Struct, frozen=True):
    """A deployment was ejected because of `reason`, for `seconds` at first; or it serves again (None), after `seconds`.
    `adopted`: another process says so."""

    deployment: Deployment
    reason: str | None
    seconds: float
    adopted: bool = False
