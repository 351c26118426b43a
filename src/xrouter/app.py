"""Introduces everybody: settings and configuration -> stores, providers -> gateway -> one ASGI application.

The only file that knows all packages. What runs beside the requests (key refresh, flusher, gauges) starts and
ends here.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from xrouter import providers
from xrouter.admin import health, routes
from xrouter.configuration import changes
from xrouter.configuration.effective import Effective, load
from xrouter.configuration.watching import Watching
from xrouter.core.accounts import TOPIC_ACCOUNTS
from xrouter.core.call import Caller
from xrouter.core.clock import Clock, SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import GatewayError
from xrouter.core.ids import ulid
from xrouter.core.limits import TOPIC_RECALL
from xrouter.core.operation import Operation
from xrouter.core.ports import ChatProvider, Closing
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.exchange import JSON, Receive, Send, credential
from xrouter.dialects.exchange import Scope as AsgiScope
from xrouter.dialects.limits import Limits
from xrouter.dialects.openai import problems
from xrouter.dialects.openrouter import problems as openrouter_problems
from xrouter.edge.client_ip import client_of
from xrouter.edge.validator import Edge
from xrouter.gateway import catalog, limits, pipeline
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.limiter import LEASE_S, Limiter
from xrouter.settings import Config, ConfigError, ProviderSettings, RouteSettings, RoutingSettings, Settings
from xrouter.simulators import faults
from xrouter.stores.books import Books, journals_of, open_books
from xrouter.stores.host_counters import HostCounters, host_id, keep_nodes, known_nodes
from xrouter.stores.journal import FileJournal
from xrouter.stores.slots import HostSlots
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.database import DatabaseUnavailable
from xrouter.telemetry.access import AccessLog
from xrouter.telemetry.logs import Logs
from xrouter.telemetry.metrics import Metrics
from xrouter.telemetry.observer import Observer
from xrouter.telemetry.redaction import Redaction, secrets_in
from xrouter.telemetry.shared_dir import shared_dir
from xrouter.transport import Transport
from xrouter.transport.client import open_transport

if TYPE_CHECKING:
    from xrouter.stores.redis import RedisStore

_log = structlog.get_logger()

GAUGES_INTERVAL_S = 0.25
"""How often the calls', the journal's and the flusher's figures are copied into the metrics."""

_FIRST_POLL_S = 1.0
"""So long a worker waits for its keys before it serves; connections may be waiting for it already."""


async def open_app(
    settings: Settings, config: Config, logs: Logs, *, owner: bool, reload_from: Effective | None = None
) -> "App":
    """A worker, ready to serve. The owner prepares the books and flushes; other workers find that done. With
    `reload_from`, which gave `config`, credentials are taken over while it serves."""
    books = open_books(settings)
    waiting = await books.prepare_now_or_later() if owner else []
    try:
        app = App(settings, config, books, logs, owner=owner)
    except BaseException:
        await books.database.close()
        raise
    await app.start(waiting)
    if reload_from is not None:
        app.watch(reload_from)
    return app


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
            kind = providers.load(provider.kind)
        except ValueError as error:
            problems.append(f"providers.{name}: {error}")
            continue
        try:
            transport = transport_for(name, provider, settings.max_in_flight)
        except ValueError as error:
            field, _, words = str(error).partition(" ")  # "ca_bundle /roots.pem: cannot be read"
            known = field in ProviderSettings.model_fields
            problems.append(f"providers.{name}.{field}: {words}" if known else f"providers.{name}: {error}")
            transport = open_transport(  # for what else is wrong with it
                provider=name, connect_timeout_s=1.0, ca_bundle=None, proxy=None, allow_private=()
            )
        try:
            found += kind.deployments(name, provider)
        except ConfigError as error:
            problems += str(error).splitlines()
        try:
            kind.connect(name, provider, transport, SystemClock())
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
    own = settings.default_model
    if not problems and own is not None and own not in plain and own not in led and own not in routes:
        problems.append(f"XROUTER_DEFAULT_MODEL: {own!r} is not served")
    return found, list(dict.fromkeys(problems))


def _models_of(name: str, route: RouteSettings) -> list[str]:
    """Every model that a route names."""
    policy = route.policy(RoutingSettings())
    opened = [model for models in policy.fallbacks.values() for model in models]
    return [*([] if route.models else [name]), *policy.names, *opened]


class App:
    """One worker: `asgi` is the application, the rest its life. Made by `open_app` inside the event loop."""

    def __init__(self, settings: Settings, config: Config, books: Books, logs: Logs, *, owner: bool) -> None:
        clock = SystemClock()
        self._books = books
        self._owner = owner
        self._draining = False
        self._settings = settings
        self._config = config
        self._logs = logs
        self._trusted_proxies = settings.trusted_proxies
        self._tasks: list[asyncio.Task[None]] = []
        self._transports: dict[str, Transport] = {}
        self._replaced: list[Closing] = []  # providers whose credentials have changed, with work beside their calls
        self._journal = FileJournal(journals_of(settings), clock)
        self._slots = HostSlots(settings.data_dir / "slots")
        self._counters = HostCounters(settings.data_dir / "limits", clock)
        self._redis = _open_redis(settings, clock, self._share)
        self._limiter = Limiter(self._counters, clock, None if self._redis is None else self._redis.counters)
        self._deployments: dict[str, tuple[Deployment, ...]] = {}
        self._speakers: dict[str, ChatProvider] = {}
        for name, provider in config.providers.items():
            transport = self._transports[name] = _open_transport(name, provider, settings)
            self._deployments[name], self._speakers[name] = _connect(name, provider, transport)
        served = self._catalog(config, self._deployments)
        self._served = dict(served.served)  # `take` changes it in place
        served = replace(served, served=self._served)
        self._metrics = Metrics(shared_dir(), models=served.served)
        logs.sink.on_dropped = self._metrics.log_lines_dropped
        self._gateway = Gateway(
            catalog=served,
            providers=self._speakers,
            keys=books.keys,
            journal=self._journal,
            slots=self._slots,
            telemetry=Observer(self._metrics, AccessLog(logs, frozenset(served.served))),
            clock=clock,
            pseudonyms=books.pseudonyms,
            limiter=self._limiter,
        )
        self._data_plane = DataPlane(self._gateway, _limits(settings))
        self._control_plane = routes.build(
            keys=books.keys,
            accounts=books.accounts,
            plans=books.plans,
            attempts=SqlAttempts(books.database),
            writes=books.writes,
            authenticate=self._authenticate,
            clock=clock,
        )
        self._health = health.Health(self._why_not_ready, self._metrics.scrape)
        self.asgi = Edge(
            self._route,
            allowed_hosts=settings.allowed_hosts,
            max_header_bytes=settings.max_header_bytes,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.body_timeout_s,
            refuse=self._refuse,
        )

    @property
    def in_flight(self) -> int:
        """Data plane requests between their first and last byte."""
        return len(self._data_plane.running)

    async def start(self, waiting: list[asyncio.Task[None]]) -> None:
        """Begin what runs beside the requests. `waiting` is for a database that is not there yet."""
        self._tasks += waiting
        if not waiting:
            with suppress(DatabaseUnavailable, TimeoutError):  # the poll goes on trying, and says what is wrong
                async with asyncio.timeout(_FIRST_POLL_S):
                    await self._books.keys.refresh()
        beside: list[Coroutine[Any, Any, None]] = [
            self._books.keys.run(),
            self._gauges(),
            limits.keep(self._limiter),
        ]
        if self._redis is not None:
            self._connect_topics(self._redis)
            beside += self._redis.beside()
        if self._owner:
            self._metrics.workers_serving(1)  # alone; several are counted by their supervisor
            beside.append(self._books.flusher.run())
        self._tasks += [asyncio.create_task(work) for work in beside]

    def drain_begin(self) -> None:
        """Not ready any more; what still comes is served and told to close its connection."""
        self._draining = True

    async def drain_end(self, deadline_s: float) -> None:
        """Whatever still runs ends with `server_shutdown`; returns when all have, or after `deadline_s`."""
        for exchange in tuple(self._data_plane.running):
            exchange.shut_down()
        until = asyncio.get_running_loop().time() + deadline_s
        while self.in_flight and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Everything is written down before this returns. Raises `DatabaseUnavailable`; the journal keeps the rest."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._metrics.fold()
        self._journal.close()
        try:
            if self._owner:
                await self._books.flusher.flush_all()
        finally:
            self._books.flusher.close()
            self._slots.close()
            self._limiter.close()
            if self._redis is not None:
                await self._redis.close()
            self._counters.close()
            speakers = (*self._speakers.values(), *self._replaced)
            await asyncio.gather(*(one.close() for one in speakers if isinstance(one, Closing)))
            for transport in self._transports.values():
                await transport.close()
            await self._books.database.close()

    def _why_not_ready(self) -> str | None:
        if self._draining:
            return "draining"
        return None if self._books.keys.current else "database_unavailable"

    def watch(self, effective: Effective) -> None:
        """Take over changed credentials from now on: at SIGHUP, and when a file of the configuration changes."""
        settings = self._settings
        watching = Watching(effective, lambda: load(settings, vendors=True), self.take, settings.reload_s)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watching.hurry)
        self._tasks.append(asyncio.create_task(watching.run()))

    def take(self, config: Config, files: frozenset[Path] = frozenset()) -> None:
        """Serve with the credentials, options and prices of `config` from the next call on; what runs ends as it
        began, on connections that stay. `files` have another content now: a provider whose options name one of them
        reads it again. What cannot be changed so is named in the log. Raises `ConfigError`, and nothing has changed."""
        taken, left = changes.take(self._config, config)
        deployments, speakers = dict(self._deployments), dict(self._speakers)
        changed = [
            name
            for name, provider in taken.providers.items()
            if provider != self._config.providers[name] or changes.files_of(provider) & files
        ]
        for name in changed:
            deployments[name], speakers[name] = _connect(name, taken.providers[name], self._transports[name])
        served = self._catalog(taken, deployments).served
        known = (*secrets_in(self._settings), *secrets_in(self._config), *secrets_in(taken))
        self._logs.redaction = Redaction(known)
        self._deployments = deployments
        self._replaced += [old for name in changed if isinstance(old := self._speakers[name], Closing)]
        self._speakers.update(speakers)
        self._served.update(served)
        self._config = taken
        if changed:
            _log.info("took over new credentials, options or prices", providers=changed)
        if left:
            _log.warning("some changes of the configuration take a restart", changes=left)

    def _connect_topics(self, redis: "RedisStore") -> None:
        """What other nodes tell us at once, and we them: changes of accounts and keys, and who needs room."""
        topics, keys = redis.topics, self._books.keys
        topics.subscribe(TOPIC_RECALL, self._limiter.recalled)
        topics.subscribe(TOPIC_ACCOUNTS, lambda _: keys.hurry())
        keys.announce = lambda: topics.publish(TOPIC_ACCOUNTS)

    def _share(self, nodes: int) -> None:
        """So many nodes are there: what this host gives out by itself where Redis is away."""
        self._counters.share = self._settings.limits_share or 1 / max(1, nodes)
        keep_nodes(self._settings.data_dir / "limits", nodes)

    def _catalog(self, config: Config, deployments: Mapping[str, tuple[Deployment, ...]]) -> Catalog:
        return _build_catalog(self._settings, config, [one for found in deployments.values() for one in found])

    async def _authenticate(self, headers: Mapping[str, str], scope: AsgiScope) -> Caller:
        found = credential(headers.get("authorization"), headers.get("x-api-key"), headers.get("api-key"))
        return await pipeline.admit(found, self._gateway, lambda: client_of(scope, self._trusted_proxies))

    def _route(self, scope: AsgiScope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._draining:
            send = _closing(send)
        path: str = scope["path"]
        if path in health.PATHS:
            return self._health(scope, receive, send)
        if path.startswith("/admin/") or (path.startswith("/api/v1/") and not self._data_plane.serves(path)):
            return self._control_plane(scope, receive, send)
        return self._data_plane(scope, receive, send)

    def _refuse(self, scope: AsgiScope, error: GatewayError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """What the edge tells a client that it does not let in."""
        request_id = "req_" + ulid()
        self._metrics.request_refused("edge", error.http_status, error.code)
        _log.info(
            "refused",
            request_id=request_id,
            method=scope["method"],
            path=scope["path"][:200],
            status=error.http_status,
            code=error.code,
            client=client_of(scope, self._trusted_proxies),
        )
        headers = [JSON, (b"x-request-id", request_id.encode()), *problems.headers(error)]
        body = openrouter_problems.body if scope["path"].startswith("/api/") else problems.body
        return error.http_status, headers, body(error, request_id)

    async def _gauges(self) -> None:
        while True:
            await asyncio.sleep(GAUGES_INTERVAL_S)
            self._metrics.fold()
            journal = self._journal
            self._metrics.journal_stands(
                waiting=journal.waiting, failed_writes=journal.failed_writes, dropped=journal.dropped
            )
            self._metrics.limits_stand(shared=self._limiter.shares)
            if self._owner:
                self._metrics.flusher_stands(self._books.flusher)


def _open_transport(name: str, provider: ProviderSettings, settings: Settings) -> Transport:
    """As `transport_for`, but raises `ConfigError` that names the place, also for a kind that nobody knows."""
    try:
        providers.load(provider.kind)
        return transport_for(name, provider, settings.max_in_flight)
    except ValueError as error:
        raise ConfigError(f"providers.{name}: {error}") from error


def _connect(
    name: str, provider: ProviderSettings, transport: Transport
) -> tuple[tuple[Deployment, ...], ChatProvider]:
    """The deployments of one account and what speaks with it. Raises `ConfigError`."""
    kind = providers.load(provider.kind)
    try:
        return kind.deployments(name, provider), kind.connect(name, provider, transport, SystemClock())
    except ValueError as error:
        raise ConfigError(f"providers.{name}: {error}") from error


def _build_catalog(settings: Settings, config: Config, deployments: list[Deployment]) -> Catalog:
    created = _since(settings)
    try:
        return catalog.build(
            [replace(one, created=created) for one in deployments],
            config.aliases,
            settings.default_model or config.default_model,
            default_models=config.default_models,
            simulated=config.simulated,
            fault_hint=faults.hint,
            policies={name: route.policy(config.routing) for name, route in config.routes.items()},
            usual=config.routing.policy(),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _open_redis(settings: Settings, clock: Clock, on_nodes: Callable[[int], None]) -> "RedisStore | None":
    """Raises `ConfigError` for a URL that cannot be read. A Redis that cannot be reached is no error: it may come."""
    if settings.redis_url is None:
        return None
    kind: type[RedisStore] = import_module("xrouter.stores.redis").RedisStore  # costs memory, which most need not pay
    try:
        directory = settings.data_dir / "limits"
        store = kind(settings.redis_url, clock, host=host_id(directory), lease_s=LEASE_S, nodes=known_nodes(directory))
    except ValueError as error:
        raise ConfigError(f"XROUTER_REDIS_URL cannot be read: {error}") from error
    store.link.on_nodes = on_nodes
    on_nodes(store.link.nodes)
    return store


def _since(settings: Settings) -> int:
    """Unix seconds: since when the models are what they are, as far as this gateway can tell. That is the last change
    of the operator's file, and without one the start."""
    if settings.config is not None:
        with suppress(OSError):
            return int(settings.config.stat().st_mtime)
    return int(SystemClock().now())


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        status_wait_s=settings.status_wait_s,
        ping_s=settings.ping_s,
        max_in_flight=settings.max_in_flight,
        trusted_proxies=settings.trusted_proxies,
    )


def transport_for(name: str, provider: ProviderSettings, max_connections: int) -> Transport:
    """The client of one provider. Raises ValueError for a bundle or a proxy that cannot be used."""
    return open_transport(
        provider=name,
        connect_timeout_s=provider.timeouts.connect_s,
        ca_bundle=provider.ca_bundle,
        client_cert=provider.client_identity,
        proxy=provider.proxy,
        allow_private=provider.allow_private,
        max_connections=max_connections,  # every call we serve may be with this one provider
        trusted_hosts=frozenset(
            host for url in (provider.base_url, provider.auth_url) if url and (host := providers.own_host(url))
        ),
    )


def _closing(send: Send) -> Send:
    async def closing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing
