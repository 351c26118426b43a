"""The port `Telemetry` as the gateway gets it: numbers and access log behind one object."""

from collections.abc import Callable, Iterable

import structlog

from xrouter.core.call import Call
from xrouter.core.vitals import Change
from xrouter.telemetry.access import AccessLog
from xrouter.telemetry.metrics import Metrics

_log = structlog.get_logger()


class Observer:
    """Counts everything in `metrics` and writes the line of each ended call to `access_log`."""

    def __init__(self, metrics: Metrics, access_log: AccessLog) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self.attempt_ended = metrics.attempt_ended
        self.request_refused = metrics.request_refused
        self.first_content = metrics.first_content
        self.in_flight = metrics.in_flight

    def deployment_changed(self, change: Change) -> None:
        """One line for each episode, however long it lasts and however often it is ejected in it."""
        self._metrics.deployment_changed(change)
        name, account = change.deployment.id, change.deployment.speaker
        if change.reason is None:
            _log.info("deployment serves again", deployment=name, account=account, after_s=round(change.seconds, 1))
        else:
            _log.warning(
                "deployment ejected",
                deployment=name,
                account=account,
                why=change.reason,
                for_s=round(change.seconds, 1),
                told_by_others=change.adopted,
            )

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
