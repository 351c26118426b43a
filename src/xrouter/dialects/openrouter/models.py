"""`GET /api/v1/models` and `GET /api/v1/models/{id}` with every field that OpenRouter's SDK 1.3.84 insists on.

What this gateway does not know of a model is null or empty. Prices are roubles for one token, as text; `-1`, as
OpenRouter writes where it has none to tell, for a model without a price.
"""

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from xrouter.core.deployment import Deployment
from xrouter.core.errors import Invalid
from xrouter.core.money import price_text
from xrouter.core.operation import Operation
from xrouter.dialects.exchange import JSON, Exchange
from xrouter.gateway import permit, pipeline
from xrouter.gateway.gateway import Gateway

PATH = "/api/v1/models"
PREFIXES = (f"{PATH}/", "/api/v1/model/")
"""The SDK asks for one model under the singular."""

MAX_LIMIT = 1000
DEFAULT_LIMIT = 500

_OUTPUTS = {
    Operation.CHAT: "text",
    Operation.EMBEDDINGS: "embeddings",
    Operation.IMAGES: "image",
    Operation.RERANK: "rerank",
}
# OpenRouter's words for what a model follows, in its order.
_PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty", "repetition_penalty",
    "max_tokens", "max_completion_tokens", "logit_bias", "logprobs", "top_logprobs", "prediction", "seed",
    "response_format", "structured_outputs", "stop", "tools", "tool_choice", "parallel_tool_calls",
    "include_reasoning", "reasoning", "reasoning_effort", "web_search_options", "verbosity",
)  # fmt: skip
# What this door makes of other parameters.
_MADE_OF = {
    "structured_outputs": "response_format",
    "reasoning": "reasoning_effort",
    "include_reasoning": "reasoning_effort",
}
_INPUTS = ("text", "image", "file", "audio", "video")
_UNKNOWN_PRICE = "-1"


class Models:
    """The list, in pages of `limit` from number `offset` on."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        caller = await pipeline.admit(exchange.credential(), self._gateway, exchange.address)
        catalog = self._gateway.catalog
        query = dict(parse_qsl(exchange.scope["query_string"].decode("latin-1")))
        offset = _number(query, "offset", 0, 0)
        limit = _number(query, "limit", DEFAULT_LIMIT, 1)
        served = [(name, found) for name, found in catalog.served.items() if permit.sees(caller, name, found, catalog)]
        following = offset + limit
        now = self._gateway.clock.now()
        more = following < len(served)
        body = {
            "data": [shown_model(name, found, now) for name, found in served[offset:following]],
            "links": {"next": f"{PATH}?offset={following}&limit={limit}" if more else None},
            "total_count": len(served),
        }
        await exchange.answer(200, [JSON], msgspec.json.encode(body))


class Model:
    """One model, or the 404 that names the nearest ones."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, exchange: Exchange) -> None:
        caller = await pipeline.admit(exchange.credential(), self._gateway, exchange.address)
        prefix = next(one for one in PREFIXES if exchange.path.startswith(one))
        name = exchange.path.removeprefix(prefix)
        found = self._gateway.catalog.exactly(name)
        if not permit.sees(caller, name, found, self._gateway.catalog):
            raise permit.refusal(caller, name)
        await exchange.answer(
            200, [JSON], msgspec.json.encode({"data": shown_model(name, found, self._gateway.clock.now())})
        )


def _number(query: dict[str, str], name: str, usual: int, least: int) -> int:
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise Invalid(f"'{name}' must be a whole number from {least} on, not '{text[:40]}'.", param=name)
    return int(text) if name == "offset" else min(int(text), MAX_LIMIT)


def shown_model(name: str, deployments: tuple[Deployment, ...], now: float) -> dict[str, Any]:
    """One entry of the list."""
    first = deployments[0]
    served = frozenset[Operation]().union(*(one.serves for one in deployments))
    outputs = [word for operation, word in _OUTPUTS.items() if operation in served]
    taken = frozenset[str]().union(*(one.inputs for one in deployments))
    inputs = [word for word in _INPUTS if word in taken]
    followed = frozenset[str]().union(*(one.parameters for one in deployments))
    return {
        "id": name,
        "canonical_slug": name,
        "name": name,
        "created": first.created,
        "context_length": first.context_tokens,
        "architecture": {
            "input_modalities": inputs,
            "output_modalities": outputs,
            "modality": f"{'+'.join(inputs)}->{'+'.join(outputs)}",
        },
        "pricing": pricing_of(first, now),
        "top_provider": {"is_moderated": False, "context_length": first.context_tokens, "max_completion_tokens": None},
        "per_request_limits": None,
        "default_parameters": None,
        "supported_parameters": supported_by(followed),
        "supported_voices": None,
        "links": {"details": f"{PATH}/{name}"},
    }


def supported_by(followed: frozenset[str]) -> list[str]:
    """OpenRouter's words for the parameters that are followed."""
    return [word for word in _PARAMETERS if word in followed or _MADE_OF.get(word) in followed]


def pricing_of(deployment: Deployment, now: float) -> dict[str, str]:
    """Roubles for one token, as text."""
    price = None if deployment.price is None else deployment.price.at(now)
    if price is None:
        return {"prompt": _UNKNOWN_PRICE, "completion": _UNKNOWN_PRICE, "currency": "RUB"}
    found = {
        "prompt": _per_token(price.input_rub_per_1m),
        "completion": _per_token(price.output_rub_per_1m),
        "currency": "RUB",
    }
    if price.cached_rub_per_1m is not None:
        found["input_cache_read"] = _per_token(price.cached_rub_per_1m)
    if price.image_rub is not None:
        found["image"] = price_text(price.image_rub)
    return found


def _per_token(rub_per_1m: Decimal) -> str:
    """`0.000065`: exact, without an exponent."""
    return format((rub_per_1m / 1_000_000).normalize(), "f")
