"""What processes tell each other of the deployments: who is ejected, and how fast answers came. Pure: words in and out.

Each tells its own findings only, never what it heard, and whoever hears of an ejection changes nothing that it found
out itself: so no two processes can keep a deployment ejected by telling each other so. What is lost is told again
within a second, as long as it holds. Deciding stays everybody's own business: without any news all goes on.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from xrouter.core.clock import Clock
from xrouter.core.ids import ulid
from xrouter.core.ports import Topics
from xrouter.gateway.breaker import RATE_LIMITED
from xrouter.gateway.health import Health, Station

TOPIC_HEALTH: Final = "health"

EVERY_S: Final = 0.5
"""How often what has changed is told; an ejection is told at once."""

_PAUSE_S: Final = 0.05

_MOST_KEYS: Final = 200
"""Deployments in one message."""

_MOST_ORIGINS: Final = 1_000
_LONGEST_S: Final = 330.0
"""No ejection lasts longer; whoever says so is not believed."""


class _Ejection(Struct, array_like=True, frozen=True):
    key: str
    reason: str
    left_s: float


class _Speed(Struct, array_like=True, frozen=True):
    key: str
    streams: list[float]
    wholes: list[float]
    rates: list[float]


class _News(Struct, array_like=True, frozen=True):
    """`number` counts the messages of `origin`; `ejections` are all that hold there."""

    origin: str
    number: int
    ejections: list[_Ejection]
    speeds: list[_Speed]


_decode: Final = msgspec.json.Decoder(_News).decode
_encode: Final = msgspec.json.Encoder().encode


class Gossip:
    """One for each process, named `origin`."""

    def __init__(self, health: Health, origin: str | None = None) -> None:
        self._health = health
        self._origin = origin or ulid()
        self._number = 0
        self._told = False  # an ejection, with the last message
        self._heard: dict[str, int] = {}  # the number of each origin's last message
        self._ejected_by: dict[str, frozenset[str]] = {}  # by origin, what it ejects
        self._hurry = asyncio.Event()

    async def run(self, topics: Sequence[Topics], clock: Clock) -> None:
        """Beside the requests: tell, on every way that there is. Nothing here waits for anybody."""
        while True:
            words = self.news(clock.monotonic())
            if words is not None:
                for one in topics:
                    one.publish(TOPIC_HEALTH, words)
            await asyncio.sleep(_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S - _PAUSE_S):
                    await self._hurry.wait()
            self._hurry.clear()

    def hurry(self) -> None:
        """There is something that others should know at once."""
        self._hurry.set()

    def news(self, now: float) -> str | None:
        """What is to be told now; None where that is nothing."""
        ejections: list[_Ejection] = []
        speeds: list[_Speed] = []
        for station in self._health.stations():
            found = _ejection(station, now)
            if found is not None and len(ejections) < _MOST_KEYS:
                ejections.append(found)
            measured = station.measured
            if measured and len(speeds) < _MOST_KEYS:
                speeds.append(_Speed(station.vitals.key, measured.streams, measured.wholes, measured.rates))
                measured.streams, measured.wholes, measured.rates = [], [], []
        if not (ejections or speeds or self._told):
            return None
        self._told = bool(ejections)
        self._number += 1
        return _encode(_News(self._origin, self._number, ejections, speeds)).decode()

    def hear(self, words: str, now: float) -> None:
        """A message of another process, or of our own. What cannot be read is passed over."""
        try:
            news = _decode(words)
        except msgspec.DecodeError:
            return
        if news.origin == self._origin or news.number <= self._heard.get(news.origin, 0):
            return  # ours, or one that came by two ways
        if news.origin not in self._heard and len(self._heard) >= _MOST_ORIGINS:
            oldest = next(iter(self._heard))
            del self._heard[oldest]
            self._ejected_by.pop(oldest, None)
        self._heard[news.origin] = news.number
        self._take_ejections(news, now)
        for speed in news.speeds:
            station = self._health.known(speed.key)
            if station is not None:
                _take_speed(station, speed, now)

    def _take_ejections(self, news: _News, now: float) -> None:
        health = self._health
        for one in news.ejections:
            station = health.known(one.key)
            if station is not None and 0 < one.left_s <= _LONGEST_S:
                if one.reason == RATE_LIMITED:
                    health.rests(station, now, now + one.left_s)
                else:
                    health.told(station, now, now + one.left_s, one.reason)
        held = frozenset(one.key for one in news.ejections)
        for key in self._ejected_by.get(news.origin, frozenset()) - held:
            station = health.known(key)
            if station is not None and station.adopted:
                health.may_be_tried(station, now)
        if held:
            self._ejected_by[news.origin] = held
        else:
            self._ejected_by.pop(news.origin, None)


def _ejection(station: Station, now: float) -> _Ejection | None:
    """Its own ejection, while nobody should go there."""
    state = station.breaker
    if state.reason is not None and state.until > now and not station.adopted:
        return _Ejection(station.vitals.key, state.reason, round(state.until - now, 3))
    if station.cooled_until > now and not station.rest_adopted:
        return _Ejection(station.vitals.key, RATE_LIMITED, round(station.cooled_until - now, 3))
    return None


def _take_speed(station: Station, speed: _Speed, now: float) -> None:
    vitals = station.vitals
    for seconds in speed.streams:
        if 0 <= seconds < 3_600:
            vitals.took(seconds, now)
            vitals.ttft_samples.add(seconds)
    for seconds in speed.wholes:
        if 0 <= seconds < 3_600:
            vitals.took(seconds, now)
    for rate in speed.rates:
        if 0 < rate < 1e6:
            vitals.wrote(rate)
