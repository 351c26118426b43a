"""The port `Telemetry` as the gateway gets it: numbers and access log behind one object."""

from collections.abc import Callable

from xrouter.core.call import Attempt, Call
from xrouter.telemetry.access import AccessLog
from xrouter.telemetry.metrics import Metrics


class Observer:
    """Counts everything in `metrics` and writes the line of each ended call to `access_log`."""

    def __init__(self, metrics: Metrics, access_log: AccessLog) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def attempt_ended(self, attempt: Attempt) -> None:
        self._metrics.attempt_ended(attempt)

    def call_ended(
        self, call: Call, status: int, code: str | None, seconds: float, client: Callable[[], str | None]
    ) -> None:
        self._metrics.call_ended(call, status, code, seconds)
        self._access_log.call_ended(call, status, code, seconds, client)

    def request_refused(self, dialect: str, status: int, code: str | None) -> None:
        self._metrics.request_refused(dialect, status, code)

    def first_content(self, call: Call, seconds: float) -> None:
        self._metrics.first_content(call, seconds)

    def in_flight(self, change: int) -> None:
        self._metrics.in_flight(change)
