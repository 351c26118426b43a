"""How the deployments do: `GET /v1/providers/status`, and the figures for OpenRouter's list of endpoints.

Speeds are those of the last 128 answers that this worker gave, uptimes come from the books: over all workers and nodes.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Overloaded
from xrouter.core.ports import Uptimes
from xrouter.core.vitals import Samples
from xrouter.dialects.exchange import JSON, Exchange
from xrouter.gateway import explain, permit, pipeline
from xrouter.gateway.gateway import Gateway

WINDOWS_S: Final = {"last_5m": 300.0, "last_30m": 1_800.0, "last_1d": 86_400.0}

_KEPT_S: Final = 30.0
_SHARES: Final = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}


class UptimeMemory:
    """Uptimes that are asked from the books twice a minute at most, however many ask for them. Without an answer from
    the books they are unknown."""

    def __init__(self, books: Uptimes | None, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._known: Mapping[str, tuple[float | None, ...]] = {}
        self._at = float("-inf")
        self._asking = asyncio.Lock()

    async def of(self, deployment: str) -> dict[str, float | None]:
        """Percent by window: the share of minutes with traffic in which four attempts of five succeeded."""
        async with self._asking:
            now = self._clock.monotonic()
            if self._books is not None and now - self._at > _KEPT_S:
                wall = self._clock.now()
                try:
                    self._known = await self._books.uptimes(tuple(wall - window for window in WINDOWS_S.values()))
                except Overloaded:
                    self._known = {}
                self._at = now
        return dict(zip(WINDOWS_S, self._known.get(deployment, (None, None, None)), strict=True))


class ProviderStatus:
    """`GET /v1/providers/status`: of the models that the key may use, by provider."""

    def __init__(self, gateway: Gateway, uptimes: UptimeMemory) -> None:
        self._gateway = gateway
        self._uptimes = uptimes

    async def __call__(self, exchange: Exchange) -> None:
        gateway = self._gateway
        caller = await pipeline.admit(exchange.credential(), gateway, exchange.address)
        catalog = gateway.catalog
        seen: dict[str, Deployment] = {}
        for name, found in catalog.served.items():
            if permit.sees(caller, name, found, catalog):
                for one in found:
                    if permit.sees(caller, one.id, (one,), catalog):
                        seen[one.key] = one
        by_provider: dict[str, list[dict[str, Any]]] = {}
        for one in seen.values():
            by_provider.setdefault(one.provider, []).append(await self._shown(one))
        data = [
            {"provider": name, "status": _together([one["status"] for one in each]), "deployments": each}
            for name, each in by_provider.items()
        ]
        body = {"object": "list", "revision": catalog.revision, "data": data}
        await exchange.answer(200, [JSON], msgspec.json.encode(body))

    async def _shown(self, one: Deployment) -> dict[str, Any]:
        health, now = self._gateway.health, self._gateway.clock.monotonic()
        known, ejected = health.of(one), health.ejected(one, now)
        return {
            "id": one.id,
            "kind": one.kind,
            "region": one.region,
            "status": "up" if ejected is None else "ejected",
            "uptime": await self._uptimes.of(one.id),
            "latency_ms": latency_ms(known.ttft_samples),
            "tokens_per_s": throughput(known.rate_samples),
            "vitals": explain.vitals(known, ejected, now),
        }


def _together(each: list[str]) -> str:
    up = each.count("up")
    return "up" if up == len(each) else "degraded" if up else "down"


def latency_ms(samples: Samples) -> dict[str, float] | None:
    """Percentiles of the milliseconds to the first content; None while nobody was asked."""
    found = {word: samples.percentile(share) for word, share in _SHARES.items()}
    return _rounded(found, 1000.0)


def throughput(samples: Samples) -> dict[str, float] | None:
    """Percentiles of the tokens a second: p90 is what nine answers of ten reach."""
    found = {word: samples.percentile(1.0 - share) for word, share in _SHARES.items()}
    return _rounded(found, 1.0)


def _rounded(found: dict[str, float | None], unit: float) -> dict[str, float] | None:
    known = {word: round(value * unit, 3) for word, value in found.items() if value is not None}
    return known or None
