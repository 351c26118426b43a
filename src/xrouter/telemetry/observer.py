"""The port `Telemetry` as the gateway gets it: numbers and access log behind one object."""

from collections.abc import Callable, Iterable

from xrouter.core.call import Call
from xrouter.telemetry.access import AccessLog
from xrouter.telemetry.metrics import Metrics


class Observer:
    """Counts everything in `metrics` and writes the line of each ended call to `access_log`."""

    def __init__(self, metrics: Metrics, access_log: AccessLog) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self.attempt_ended = metrics.attempt_ended
        self.request_refused = metrics.request_refused
        self.first_content = metrics.first_content
        self.in_flight = metrics.in_flight

    def call_ended(
        self, call: Call, status: int, code: str | None, seconds: float, client: Callable[[], str | None]
    ) -> None:
        self._metrics.call_ended(call, status, code, seconds)
        self._access_log.call_ended(call, status, code, seconds, client)

    def serve(self, models: Iterable[str]) -> None:
        """These models are served from now on."""
        names = frozenset(models)
        self._metrics.serve(names)
        self._access_log.serve(names)
