"""How each deployment does, told from the attempts that this process makes. Pure: no clock of its own, no I/O.

`gateway/record.py` and `gateway/dispatch.py` tell what happens (`began`, `shown`, `ended`, `withdrawn`); whoever
chooses asks `of` and `ejected`. It runs for every attempt, so it finds a deployment by a precomputed key and only
counts.
"""

from math import sqrt

from xrouter.core.call import Attempt, Phase, State
from xrouter.core.deployment import Deployment
from xrouter.core.errors import ProviderRateLimited, ProviderRefused, UpstreamError
from xrouter.core.vitals import Vitals

_MOST = 10_000  # deployments; simulated ones can be asked for under any number of faults
_SHORTEST_S = 0.001  # what comes in one piece has no speed


class Health:
    """The vitals of every deployment that was asked about, by `Deployment.key`."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Vitals] = {}

    def of(self, deployment: Deployment) -> Vitals:
        """The live object: it changes with every attempt. To be read only."""
        return self._known.get(deployment.key) or self._new(deployment.key)

    def _new(self, key: str) -> Vitals:
        if len(self._known) >= _MOST:
            idle = next((one for one, vitals in self._known.items() if not vitals.in_flight), None)
            if idle is not None:
                del self._known[idle]
        vitals = self._known[key] = Vitals(key)
        return vitals

    def ejected(self, deployment: Deployment, now: float) -> str | None:
        """Why it should get no traffic at the monotonic `now`, one of `core.vitals.EJECTED`; None where it may."""
        vitals = self._known.get(deployment.key)
        return None if vitals is None or vitals.ejected_until <= now else vitals.ejected

    def began(self, attempt: Attempt) -> None:
        """An attempt was made; it may still wait for a slot."""
        self.of(attempt.deployment).in_flight += 1

    def shown(self, attempt: Attempt, now: float) -> None:
        """The first content of an answer came."""
        if attempt.call.request.stream:
            vitals, took_s = self.of(attempt.deployment), now - attempt.began
            vitals.took(took_s, now)
            vitals.ttft_samples.add(took_s)

    def withdrawn(self, attempt: Attempt) -> None:
        """It was no attempt after all: nothing left this machine, and nobody is to blame."""
        self.of(attempt.deployment).in_flight -= 1

    def ended(self, attempt: Attempt, error: BaseException | None) -> None:
        """It is over, with its fields final."""
        vitals = self.of(attempt.deployment)
        vitals.in_flight -= 1
        if attempt.state is State.SUCCEEDED:
            vitals.succeeded += 1
            vitals.failures = 0
            self._speed(attempt, vitals)
        elif isinstance(error, UpstreamError) and not isinstance(error, ProviderRefused | ProviderRateLimited):
            vitals.failed += 1
            vitals.failures += 1
            vitals.last_failure_at = attempt.began if attempt.ended is None else attempt.ended

    @staticmethod
    def _speed(attempt: Attempt, vitals: Vitals) -> None:
        ended, usage = attempt.ended, attempt.usage
        if ended is None or usage is None or attempt.phase is not Phase.SHOWN:
            return
        if not attempt.call.request.stream:
            vitals.took((ended - attempt.began) / sqrt(max(1, usage.output_tokens)), ended)
        elif attempt.first_content_at is not None and attempt.ended_at is not None:
            wrote_s = attempt.ended_at - attempt.first_content_at
            if wrote_s > _SHORTEST_S and usage.output_tokens:
                vitals.wrote(usage.output_tokens, wrote_s)
