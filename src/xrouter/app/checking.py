"""What the start would find wrong with a configuration that reads well: `xrouter config check`."""

from collections.abc import Mapping

from xrouter import providers
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.operation import Operation
from xrouter.gateway import catalog
from xrouter.settings import ConfigError, ProviderSettings, RouteSettings, RoutingSettings, Settings
from xrouter.transport.client import open_transport
from xrouter.upstreams.accounts import accounts as accounts_of
from xrouter.upstreams.opened import transport_for


async def check(
    settings: Settings,
    accounts: Mapping[str, ProviderSettings],
    aliases: Mapping[str, list[str]],
    defaults: Mapping[Operation, str],
    routes: Mapping[str, RouteSettings] | None = None,
    routing: RoutingSettings | None = None,
) -> tuple[list[Deployment], list[str]]:
    """Everything that the start would find wrong behind what reads well, all of it; and the deployments that are
    right. Reaches out to nobody."""
    found: list[Deployment] = []
    problems: list[str] = []
    for name, provider in accounts.items():
        try:
            providers.load(provider.kind)
        except ValueError as error:
            problems.append(f"providers.{name}: {error}")
            continue
        for account in accounts_of(name, provider):
            try:
                transport = transport_for(name, account.settings, settings.max_in_flight)
            except ValueError as error:
                field, _, words = str(error).partition(" ")  # "ca_bundle /roots.pem: cannot be read"
                known = field in ProviderSettings.model_fields
                problems.append(f"{account.place}.{field}: {words}" if known else f"{account.place}: {error}")
                transport = open_transport(  # for what else is wrong with it
                    provider=name, connect_timeout_s=1.0, ca_bundle=None, proxy=None, allow_private=()
                )
            try:
                found += account.deployments()
            except ConfigError as error:
                problems += str(error).splitlines()
            try:
                account.connect(transport, SystemClock())
            except ConfigError as error:
                problems += str(error).splitlines()
            finally:
                await transport.close()
    plain = catalog.build(found, {}).served
    led = {alias: targets for alias, targets in aliases.items() if targets and all(one in plain for one in targets)}
    for operation, wanted in defaults.items():
        if wanted in plain or wanted in led:
            try:
                catalog.build(found, led, default_models={operation: wanted})
            except ValueError as error:
                problems.append(str(error))
    usual, routes = routing or RoutingSettings(), routes or {}
    for name, route in routes.items():
        if name not in aliases and all(one in plain for one in _models_of(name, route)):
            try:
                catalog.build(found, {}, policies={name: route.policy(usual)})
            except ValueError as error:
                problems.append(str(error))
    problems += beside_problems(routes, catalog.build(found, led).served)
    own = settings.default_model
    if not problems and own is not None and own not in plain and own not in led and own not in routes:
        problems.append(f"XROUTER_DEFAULT_MODEL: {own!r} is not served")
    return found, list(dict.fromkeys(problems))


def beside_problems(routes: Mapping[str, RouteSettings], served: Mapping[str, tuple[Deployment, ...]]) -> list[str]:
    """What is wrong with the shadows of routes."""
    problems: list[str] = []
    for name, route in routes.items():
        if route.shadow is None:
            continue
        place, model = f"routes.{name}.shadow.model", route.shadow.model
        if model not in served:
            problems.append(f"{place}: {model!r} is not served")
        elif any(one.price is None for one in served[model]):
            problems.append(f"{place}: {model!r} has no price, so max_rub_per_day would bound nothing")
    return problems


def _models_of(name: str, route: RouteSettings) -> list[str]:
    """Every model that a route names."""
    policy = route.policy(RoutingSettings())
    opened = [model for models in policy.fallbacks.values() for model in models]
    return [*([] if route.models else [name]), *policy.names, *opened]
