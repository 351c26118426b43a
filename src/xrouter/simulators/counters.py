"""What was asked of the simulators, written down the moment it arrived."""

from collections import Counter
from typing import Final

import msgspec

from xrouter.core.clock import Clock

RING_ROWS: Final = 200_000
MAX_CREDENTIALS: Final = 10_000


class Row(msgspec.Struct, gc=False):
    """One request. Times are milliseconds: `at_ms` since the simulators started, the others since `at_ms`.

    `attempt_id` is the caller's x-request-id. `chunks` counts pieces of content, not envelopes. `gone_ms` says
    when the client left before its answer was complete, None if it did not; `end_ms` is None while the answer
    is under way. Tokens are those of the content that went out.
    """

    n: int
    at_ms: float
    form: str
    method: str
    path: str
    attempt_id: str
    model: str = ""
    credential: str = ""
    fault: str = ""
    status: int = 0
    bytes: int = 0
    chunks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    gone_ms: float | None = None
    end_ms: float | None = None


class Crowd(msgspec.Struct):
    """How many at once, now and at most."""

    now: int = 0
    most: int = 0

    def enter(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def leave(self) -> None:
        self.now -= 1


class Totals(msgspec.Struct):
    """Sums since the start or the last reset."""

    requests: int = 0
    logins: int = 0
    gone: int = 0
    bytes: int = 0
    chunks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    redirects_followed: int = 0
    by_form: Counter[str] = msgspec.field(default_factory=Counter)
    by_status: Counter[int] = msgspec.field(default_factory=Counter)


class Counters:
    """Every request in a ring of `rows` entries, and sums that never forget until they are reset.

    Rows are numbered from 1 and the numbers go on after a reset.
    """

    def __init__(self, clock: Clock, rows: int = RING_ROWS) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._size = rows
        self._ring: list[Row] = []
        self._last = 0
        self._kept_from = 1
        self.totals = Totals()
        self.everyone = Crowd()
        self.credentials: dict[str, Crowd] = {}

    @property
    def uptime_ms(self) -> float:
        return (self._clock.monotonic() - self._started) * 1000

    @property
    def last(self) -> int:
        """Number of the newest row."""
        return self._last

    def arrive(self, form: str, method: str, path: str, attempt_id: str) -> Row:
        """Write down a request whose head has just been parsed."""
        self._last += 1
        row = Row(self._last, self.uptime_ms, form, method, path, attempt_id)
        if len(self._ring) < self._size:
            self._ring.append(row)
        else:
            self._ring[(self._last - 1) % self._size] = row
            self._kept_from = max(self._kept_from, self._last - self._size + 1)
        self.totals.requests += 1
        self.totals.by_form[form] += 1
        return row

    def finish(self, row: Row, *, gone: bool) -> None:
        """Close a row; `gone`: the client left before its answer was complete."""
        elapsed = self.uptime_ms - row.at_ms
        row.end_ms = elapsed
        totals = self.totals
        if gone:
            row.gone_ms = elapsed
            totals.gone += 1
        totals.by_status[row.status] += 1
        totals.bytes += row.bytes
        totals.chunks += row.chunks
        totals.prompt_tokens += row.prompt_tokens
        totals.completion_tokens += row.completion_tokens

    def crowd(self, credential: str) -> Crowd:
        """The requests under way for one vendor account. Of very many accounts, idle ones are forgotten."""
        if credential not in self.credentials and len(self.credentials) >= MAX_CREDENTIALS:
            self.credentials = {name: crowd for name, crowd in self.credentials.items() if crowd.now}
        return self.credentials.setdefault(credential, Crowd())

    def after(self, number: int, limit: int) -> list[Row]:
        """Rows above `number` that are still kept, in the order of arrival."""
        first = max(number + 1, self._kept_from)
        return [self._ring[(n - 1) % self._size] for n in range(first, min(first + limit, self._last + 1))]

    def lost_after(self, number: int) -> int:
        """How many rows above `number` the ring no longer has."""
        return max(0, min(self._kept_from, self._last + 1) - number - 1)

    def reset(self) -> None:
        """Forget rows and sums. Requests under way stay counted as under way."""
        self._kept_from = self._last + 1
        self.totals = Totals()
        self.everyone.most = self.everyone.now
        self.credentials = {name: crowd for name, crowd in self.credentials.items() if crowd.now}
        for crowd in self.credentials.values():
            crowd.most = crowd.now
