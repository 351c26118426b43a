"""`GET /v1/models` and `GET /v1/models/{id}`; ids hold slashes, plain or as `%2F`."""

from typing import Any

import msgspec

from xrouter.core.deployment import Deployment
from xrouter.dialects.exchange import JSON, Exchange
from xrouter.gateway import pipeline
from xrouter.gateway.gateway import Gateway

PREFIX = "/v1/models/"


class Models:
    """The list. Made once: the catalog does not change while the process runs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        data = [_model(name, found) for name, found in gateway.catalog.served.items()]
        self._body = msgspec.json.encode({"object": "list", "data": data})

    async def __call__(self, exchange: Exchange) -> None:
        await pipeline.admit(exchange.credential(), self._gateway)
        await exchange.answer(200, [JSON], self._body)


class Model:
    """One model, or the 404 that names the nearest ones."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        await pipeline.admit(exchange.credential(), self._gateway)
        name = exchange.path.removeprefix(PREFIX)  # the server has decoded %2F already
        found = self._gateway.catalog.exactly(name)
        await exchange.answer(200, [JSON], msgspec.json.encode(_model(name, found)))


def _model(name: str, deployments: tuple[Deployment, ...]) -> dict[str, Any]:
    """OpenAI's four fields, and what we know of prices: roubles per million tokens, as decimal text."""
    first = deployments[0]
    model: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": first.created,
        "owned_by": first.provider if len({one.provider for one in deployments}) == 1 else "xrouter",
    }
    if first.price is not None:
        model["pricing"] = {
            "currency": "RUB",
            "input_per_1m": str(first.price.input_rub_per_1m),
            "output_per_1m": str(first.price.output_rub_per_1m),
        }
    return model
