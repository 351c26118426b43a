"""`GET /api/v1/models/{author}/{slug}/endpoints`: the deployments behind a model, with every field that OpenRouter's
SDK 1.3.84 insists on. What nobody says of one is null, and 0 where the SDK takes no null."""

from typing import Any, Final

import msgspec

from xrouter.core.deployment import Deployment
from xrouter.dialects.exchange import JSON, Exchange
from xrouter.dialects.openrouter.models import PATH, pricing_of, shown_model, supported_by
from xrouter.dialects.provider_status import UptimeMemory, latency_ms, throughput
from xrouter.gateway import permit, pipeline
from xrouter.gateway.gateway import Gateway

SUFFIX: Final = "/endpoints"

_WELL, _EJECTED = 0, -2  # of the SDK's EndpointStatus: 0 is well, what is below is not


class Endpoints:
    """The deployments that a model's name leads to, those that the key may use."""

    def __init__(self, gateway: Gateway, uptimes: UptimeMemory) -> None:
        self._gateway = gateway
        self._uptimes = uptimes

    async def __call__(self, exchange: Exchange) -> None:
        gateway = self._gateway
        caller = await pipeline.admit(exchange.credential(), gateway, exchange.address)
        catalog = gateway.catalog
        name = exchange.path.removeprefix(f"{PATH}/").removesuffix(SUFFIX)
        found = catalog.exactly(name)
        if not permit.sees(caller, name, found, catalog):
            raise permit.refusal(caller, name)
        model = shown_model(name, found, gateway.clock.now())
        body = {
            "id": name,
            "name": name,
            "created": model["created"],
            "description": "",
            "architecture": model["architecture"] | {"tokenizer": None, "instruct_type": None},
            "endpoints": [await self._shown(name, one) for one in found if permit.sees(caller, name, (one,), catalog)],
        }
        await exchange.answer(200, [JSON], msgspec.json.encode({"data": body}))

    async def _shown(self, name: str, one: Deployment) -> dict[str, Any]:
        gateway = self._gateway
        known = gateway.health.of(one)
        ejected = gateway.health.ejected(one, gateway.clock.monotonic())
        uptime = await self._uptimes.of(one.id)
        tools = "tools" in one.parameters
        return {
            "name": f"{one.provider} | {one.id}",
            "model_id": name,
            "model_name": name,
            "tag": one.id,
            "provider_name": one.provider,
            "context_length": one.context_tokens or 0,
            "max_completion_tokens": None,
            "max_prompt_tokens": None,
            "pricing": pricing_of(one, gateway.clock.now()),
            "quantization": None,
            "service_tier": None,
            "native_tools": {},
            "supported_parameters": supported_by(one.parameters),
            "supports_diarization": False,
            "supports_implicit_caching": False,
            "supports_tool_choice": {"auto": tools, "function": tools, "none": tools, "required": tools},
            "status": _WELL if ejected is None else _EJECTED,
            **{f"uptime_{window}": share for window, share in uptime.items()},
            "latency_last_30m": latency_ms(known.ttft_samples),
            "throughput_last_30m": throughput(known.rate_samples),
        }
