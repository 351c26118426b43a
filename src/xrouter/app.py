"""Introduces everybody: settings and configuration -> stores, providers -> gateway -> one ASGI application.

The only file that knows all packages. What runs beside the requests (key refresh, flusher, gauges) starts and
ends here.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from xrouter import providers
from xrouter.admin import health, routes
from xrouter.configuration.effective import Effective, load
from xrouter.configuration.picture import Picture
from xrouter.configuration.standing import Standing, leave
from xrouter.configuration.watching import Watching
from xrouter.core.accounts import TOPIC_ACCOUNTS
from xrouter.core.call import Caller
from xrouter.core.clock import Clock, SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import GatewayError
from xrouter.core.ids import ulid
from xrouter.core.limits import TOPIC_RECALL
from xrouter.core.operation import Operation
from xrouter.core.ports import ChatProvider
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.exchange import JSON, Exchange, Receive, Send, credential
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
from xrouter.providers import _accounts as accounts
from xrouter.providers._accounts import Account, Accounts, transport_for
from xrouter.replay import catalogue
from xrouter.replay.stored import Explainer
from xrouter.settings import Config, ConfigError, ProviderSettings, RouteSettings, RoutingSettings, Settings
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
from xrouter.transport.client import open_transport

if TYPE_CHECKING:
    from xrouter.stores.redis import RedisStore

_log = structlog.get_logger()

GAUGES_INTERVAL_S = 0.25
"""How often the calls', the journal's and the flusher's figures are copied into the metrics."""

_KEEP_AGAIN_S = 5.0
"""So long after the database was away somebody tries again to write down what is served."""

_FIRST_POLL_S = 1.0
"""So long a worker waits for its keys before it serves; connections may be waiting for it already."""


async def open_app(
    settings: Settings, config: Config, logs: Logs, *, owner: bool, reload_from: Effective | None = None
) -> "App":
    """A worker, ready to serve. The owner prepares the books and flushes; other workers find that done. With
    `reload_from`, which gave `config`, changes of it are taken over while it serves."""
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
    written: Mapping[str, ProviderSettings],
    aliases: Mapping[str, list[str]],
    defaults: Mapping[Operation, str],
    routes: Mapping[str, RouteSettings] | None = None,
    routing: RoutingSettings | None = None,
) -> tuple[list[Deployment], list[str]]:
    """Everything that the start would find wrong behind what reads well, all of it; and the deployments that are
    right. Reaches out to nobody."""
    found: list[Deployment] = []
    problems: list[str] = []
    for name, provider in written.items():
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
        clock = self._clock = SystemClock()
        self._books = books
        self._owner = owner
        self._draining = False
        self._settings = settings
        self._config = config
        self._logs = logs
        self._trusted_proxies = settings.trusted_proxies
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: list[Account] = []  # what calls of an earlier configuration are still with
        self._journal = FileJournal(journals_of(settings), clock)
        self._slots = HostSlots(settings.data_dir / "slots")
        self._counters = HostCounters(settings.data_dir / "limits", clock)
        self._redis = _open_redis(settings, clock, self._share)
        self._limiter = Limiter(self._counters, clock, None if self._redis is None else self._redis.counters)
        self._accounts = accounts.open_accounts(config, settings.max_in_flight)
        served, shown = _build_catalog(settings, config, self._accounts)
        self._metrics = Metrics(shared_dir(), models=served.served)
        self._metrics.config_taken(served.revision, None)
        self._standing = Standing(shown, served.revision, clock.now())
        self._leave_standing()
        self._observer = Observer(self._metrics, AccessLog(logs, frozenset(served.served)))
        logs.sink.on_dropped = self._metrics.log_lines_dropped
        self._gateway = Gateway(
            catalog=served,
            providers=_speakers(self._accounts),
            keys=books.keys,
            journal=self._journal,
            slots=self._slots,
            telemetry=self._observer,
            clock=clock,
            pseudonyms=books.pseudonyms,
            limiter=self._limiter,
        )
        attempts = SqlAttempts(books.database)
        self._data_plane = DataPlane(self._gateway, _limits(settings), attempts)
        self._control_plane = routes.build(
            keys=books.keys,
            accounts=books.accounts,
            plans=books.plans,
            attempts=attempts,
            writes=books.writes,
            explain=Explainer(lambda: self._gateway.catalog, books.decisions.picture),
            standing=lambda: self._standing,
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
            self._keep_configuration(self._standing),
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
            await accounts.let_go([*self._accounts.values(), *self._leaving])
            await self._books.database.close()

    def _why_not_ready(self) -> str | None:
        if self._draining:
            return "draining"
        return None if self._books.keys.current else "database_unavailable"

    def watch(self, effective: Effective) -> None:
        """Take over a changed configuration from now on: at SIGHUP, and when a file of it changes."""
        settings = self._settings
        watching = Watching(effective, lambda: load(settings, vendors=True), self, settings.reload_s)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watching.hurry)
        self._tasks.append(asyncio.create_task(watching.run()))

    def take(self, effective: Effective, changed: frozenset[Path] = frozenset()) -> None:
        """Serve by it from the next request on, all of it in one step. What runs goes on with what it began with:
        its gateway, which is a value. `changed` are files with another content now. Raises `ConfigError`, and nothing
        has changed."""
        config, before = effective.config, self._accounts
        after = accounts.open_accounts(config, self._settings.max_in_flight, before, changed)
        served, shown = _build_catalog(self._settings, config, after)
        # From here on nothing fails and nothing waits.
        known = (*secrets_in(self._settings), *secrets_in(self._config), *secrets_in(config))
        self._logs.redaction = Redaction(known)
        self._config, self._accounts = config, after
        self._observer.serve(served.served)
        self._gateway = replace(self._gateway, catalog=served, providers=_speakers(after))
        self._data_plane.serve(self._gateway)
        gone = [one for name, one in before.items() if after.get(name) is not one]
        self._leaving += gone
        self._metrics.config_taken(served.revision, self._standing.revision)
        self._metrics.config_refused(False)
        self._standing = Standing(shown, served.revision, self._clock.now())
        self._leave_standing()
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._let_go(gone, frozenset(self._data_plane.running))))
        self._tasks.append(asyncio.create_task(self._keep_configuration(self._standing)))
        _log.info("took over the configuration", revision=served.revision, providers=accounts.differing(before, after))

    def refuse(self, problems: tuple[str, ...]) -> None:
        """The newest configuration cannot be used; without problems, it is in use again."""
        since = self._clock.now() if problems else None
        self._standing = replace(self._standing, problems=problems, problems_since=since)
        self._metrics.config_refused(bool(problems))

    def _leave_standing(self) -> None:
        """For `xrouter config plan`. A few kilobytes, once for each change."""
        try:
            leave(self._standing, self._settings.data_dir)
        except OSError as error:
            _log.warning("what is served could not be noted in the data directory", reason=str(error))

    async def _keep_configuration(self, standing: Standing) -> None:
        """In the books, so that what is decided by it can be explained when it is long gone."""
        picture = msgspec.json.encode(standing.picture, order="deterministic").decode()
        while True:
            try:
                await self._books.decisions.keep(standing.revision, picture, standing.since)
            except DatabaseUnavailable:
                await asyncio.sleep(_KEEP_AGAIN_S)
            else:
                return

    async def _let_go(self, gone: Iterable[Account], running: frozenset[Exchange]) -> None:
        """Close what only those calls are with that `running` holds, after the last of them."""
        while not running.isdisjoint(self._data_plane.running):  # noqa: ASYNC110 - minutes, and once for a change
            await asyncio.sleep(GAUGES_INTERVAL_S)
        for account in gone:
            self._leaving.remove(account)
        await accounts.let_go(gone, [*self._accounts.values(), *self._leaving])

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


def _speakers(opened: Accounts) -> dict[str, ChatProvider]:
    return {name: account.speaker for name, account in opened.items()}


def _build_catalog(settings: Settings, config: Config, opened: Accounts) -> tuple[Catalog, Picture]:
    """What is served, for the pipeline and for people. Raises `ConfigError`."""
    deployments = [one for account in opened.values() for one in account.deployments]
    return catalogue.of_config(config, deployments, settings.default_model or config.default_model, _since(settings))


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


def _closing(send: Send) -> Send:
    async def closing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing
