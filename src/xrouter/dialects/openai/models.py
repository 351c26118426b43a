"""`GET /v1/models` and `GET /v1/models/{id}`; ids hold slashes, plain or as `%2F`."""

from typing import Any

import msgspec

from xrouter.core.deployment import Deployment
from xrouter.core.money import pricing
from xrouter.dialects.exchange import JSON, Exchange
from xrouter.gateway import permit, pipeline
from xrouter.gateway.gateway import Gateway

PREFIX = "/v1/models/"


class Models:
    """The list. Made again each time: prices and what is served change while the process runs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        caller = await pipeline.admit(exchange.credential(), self._gateway, exchange.address)
        catalog = self._gateway.catalog
        now = self._gateway.clock.now()
        data = [
            _model(name, found, now)
            for name, found in catalog.served.items()
            if permit.sees(caller, name, found, catalog)
        ]
        await exchange.answer(200, [JSON], msgspec.json.encode({"object": "list", "data": data}))


class Model:
    """One model, or the 404 that names the nearest ones."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        caller = await pipeline.admit(exchange.credential(), self._gateway, exchange.address)
        name = exchange.path.removeprefix(PREFIX)  # the server has decoded %2F already
        found = self._gateway.catalog.exactly(name)
        if not permit.sees(caller, name, found, self._gateway.catalog):
            raise permit.refusal(caller, name)
        await exchange.answer(200, [JSON], msgspec.json.encode(_model(name, found, self._gateway.clock.now())))


def _model(name: str, deployments: tuple[Deployment, ...], now: float) -> dict[str, Any]:
    """OpenAI's four fields, and the price in force (`core.money.pricing`)."""
    first = deployments[0]
    return {
        "id": name,
        "object": "model",
        "created": first.created,
        "owned_by": first.provider if len({one.provider for one in deployments}) == 1 else "xrouter",
        "pricing": pricing(None if first.price is None else first.price.at(now)),
    }
