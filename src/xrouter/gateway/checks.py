"""Asks vendors whose deployments are ejected, beside the calls, whether they are back. Costs no tokens.

A vendor that answers a cheap question (`ModelLister`) may be tried by a call at once instead of when its ejection ends;
more it does not prove. Whoever has no such question waits. An empty account and a model that is forbidden to us are not
asked about: both answer cheap questions well.
"""

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Final

from xrouter.core.clock import Clock
from xrouter.core.errors import UpstreamError
from xrouter.core.ports import ChatProvider, ModelLister
from xrouter.gateway.health import Health, Station
from xrouter.gateway.retry import Signal

TIMEOUT_S: Final = 5.0

_LOOK_S: Final = 1.0
_JITTER: Final = 0.1
_WORTH_ASKING: Final = frozenset({Signal.FAILED.value, Signal.REFUSES_CREDENTIAL.value, Signal.NO_ADDRESS.value})


class Checks:
    """One for each process. Each account is asked every `every_s`, as long as any of its deployments is ejected."""

    def __init__(
        self, health: Health, providers: Mapping[str, ChatProvider], clock: Clock, every_s: float, chance: Random
    ) -> None:
        self._health = health
        self._providers = providers
        self._clock = clock
        self._every_s = every_s
        self._chance = chance
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Beside the requests, until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(min(_LOOK_S, self._every_s))
                self.look(self._clock.monotonic())
        finally:
            for task in self._running.values():
                task.cancel()

    def look(self, now: float) -> None:
        """Ask whoever is to be asked at the monotonic `now`."""
        ejected = {one.deployment.speaker for one in self._health.stations() if _worth_asking(one, now)}
        self._due = {name: due for name, due in self._due.items() if name in ejected}
        for name in ejected:
            due = self._due.setdefault(name, now + self._pause_s())
            provider = self._providers.get(name)
            if now >= due and name not in self._running and isinstance(provider, ModelLister):
                self._due[name] = now + self._pause_s()
                task = self._running[name] = asyncio.create_task(self._ask(name, provider))
                task.add_done_callback(lambda _, name=name: self._running.pop(name, None))

    def _pause_s(self) -> float:
        return self._every_s * self._chance.uniform(1 - _JITTER, 1 + _JITTER)

    async def _ask(self, name: str, provider: ModelLister) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await provider.list_models()
        except (UpstreamError, TimeoutError):
            return
        now = self._clock.monotonic()
        for station in list(self._health.stations()):
            if station.deployment.speaker == name and _worth_asking(station, now):
                self._health.may_be_tried(station, now)


def _worth_asking(station: Station, now: float) -> bool:
    state = station.breaker
    return state.reason in _WORTH_ASKING and state.until > now
