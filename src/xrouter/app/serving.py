"""What a configuration becomes: models that are served, who speaks with their vendors, what is asked beside calls."""

from collections.abc import Mapping
from contextlib import suppress

from xrouter.app.checking import beside_problems
from xrouter.configuration.picture import Picture
from xrouter.core.clock import SystemClock
from xrouter.core.ports import ChatProvider
from xrouter.dialects.limits import Limits
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.hedger import Hedger
from xrouter.gateway.shadower import Shadower
from xrouter.replay import catalogue
from xrouter.settings import Config, ConfigError, Settings
from xrouter.upstreams.opened import OpenAccounts


def speakers_of(accounts: OpenAccounts) -> dict[str, ChatProvider]:
    return {name: one.speaker for name, one in accounts.items()}


def build_catalog(settings: Settings, config: Config, accounts: OpenAccounts) -> tuple[Catalog, Picture]:
    """What is served, for the pipeline and for people. Raises `ConfigError`."""
    deployments = [one for account in accounts.values() for one in account.deployments]
    return catalogue.of_config(config, deployments, settings.default_model or config.default_model, _since(settings))


def beside(
    config: Config,
    served: Catalog,
    hedgers: Mapping[str, Hedger] | None = None,
    shadows: Mapping[str, Shadower] | None = None,
) -> tuple[dict[str, Hedger], dict[str, Shadower]]:
    """What the routes ask beside their calls; those that there are go on where their route says the same. Raises
    `ConfigError`."""
    problems = beside_problems(config.routes, served.served)
    if problems:
        raise ConfigError("\n".join(problems))
    hedging: dict[str, Hedger] = {}
    copying: dict[str, Shadower] = {}
    for name, route in config.routes.items():
        if route.hedge is not None:
            hedger, hedge = (hedgers or {}).get(name), route.hedge.word()
            hedging[name] = hedger if hedger is not None and hedger.hedge == hedge else Hedger(hedge)
        if route.shadow is not None:
            shadower, shadow = (shadows or {}).get(name), route.shadow.word()
            same = shadower is not None and shadower.shadow == shadow
            copying[name] = shadower if shadower is not None and same else Shadower(name, shadow, SystemClock())
    return hedging, copying


def _since(settings: Settings) -> int:
    """Unix seconds: since when the models are what they are, as far as this gateway can tell. That is the last change
    of the operator's file, and without one the start."""
    if settings.config is not None:
        with suppress(OSError):
            return int(settings.config.stat().st_mtime)
    return int(SystemClock().now())


def limits_of(settings: Settings) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        status_wait_s=settings.status_wait_s,
        ping_s=settings.ping_s,
        max_in_flight=settings.max_in_flight,
        overload_queue=settings.overload_queue,
        overload_wait_s=settings.overload_wait_s,
        max_lag_s=settings.max_lag_s,
        trusted_proxies=settings.trusted_proxies,
    )
