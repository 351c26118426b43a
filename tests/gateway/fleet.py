"""Deployments to choose among, without anything behind them."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.chat import ChatRequest
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price
from xrouter.core.policy import Policy
from xrouter.core.preferences import Preferences
from xrouter.gateway import catalog
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.settings.routes import RouteSettings, RoutingSettings

NOW = 1_000.0
WALL = 1_800_000_000.0

_preferences = msgspec.json.Decoder(Preferences)


def deployment(name: str, price: tuple[float, float] | None = (100, 100), **more: Any) -> Deployment:
    """`name` is `provider/model`; `price` is roubles per million tokens of prompt and of answer."""
    provider, _, model = name.partition("/")
    cost = None if price is None else Price(Decimal(str(price[0])), Decimal(str(price[1])))
    return Deployment(id=name, provider=provider, kind="script", upstream_model=model, price=cost, **more)


def route(**settings: Any) -> Policy:
    """A route as an operator writes it."""
    return RouteSettings.model_validate(settings).policy(RoutingSettings())


def served(deployments: Iterable[Deployment], routes: Mapping[str, Policy] | None = None, **more: Any) -> Catalog:
    """A catalogue in which the alias `all` stands for everybody."""
    known = list(deployments)
    aliases = {"all": dict.fromkeys(one.id for one in known)}
    return catalog.build(known, aliases, policies=routes or {}, **more)


def health(catalog: Catalog, **vitals: Mapping[str, Any]) -> Health:
    """`health(known, a={"in_flight": 3})`: what is known of the provider's deployments."""
    found = Health()
    for deployment in {one for each in catalog.served.values() for one in each}:
        live = found.of(deployment)
        for name, value in vitals.get(deployment.provider, {}).items():
            setattr(live, name, value)
    return found


def asking(
    model: str = "all",
    *,
    wishes: Mapping[str, Any] | None = None,
    number: int = 0,
    caller: Caller | None = None,
    models: tuple[str, ...] = (),
    inputs: Iterable[str] = (),
    session: str | None = None,
    tags: tuple[str, ...] = (),
    strict: bool = False,
    end_user: str | None = None,
    stream: bool = False,
    text: str = "hello there",
    **fields: Any,
) -> Call:
    """A call at a fixed moment. `wishes` are OpenRouter's `provider`, `number` makes it another call."""
    raw = {"messages": [{"role": "user", "content": text}], **fields}
    request = ChatRequest(
        model=model,
        stream=stream,
        models=models,
        inputs=frozenset({"text", *inputs}),
        fields={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in raw.items()},
    )
    return Call(
        id=f"chatcmpl-{number:026d}",
        request=request,
        caller=caller or Caller("k", "app", frozenset({Scope.MODELS})),
        request_id="req_1",
        started_at=WALL,
        started=NOW,
        preferences=None if wishes is None else _preferences.decode(msgspec.json.encode(wishes)),
        session=session,
        tags=tags,
        strict=strict,
        end_user=end_user,
    )
