"""The application of one worker, and its life: what runs beside the requests (key refresh, flusher, gauges) starts
and ends here. The only file that knows nearly all packages."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from xrouter.admin import health, routes
from xrouter.admin.pressure import CredentialState, DoorState, HedgeState, Pressure, ShadowState
from xrouter.app.serving import beside, build_catalog, limits_of, speakers_of
from xrouter.configuration.effective import Effective, load
from xrouter.configuration.standing import Standing, leave
from xrouter.configuration.watching import Watching
from xrouter.core.accounts import TOPIC_ACCOUNTS
from xrouter.core.call import Caller
from xrouter.core.clock import Clock, SystemClock
from xrouter.core.errors import GatewayError
from xrouter.core.ids import ulid
from xrouter.core.limits import TOPIC_RECALL
from xrouter.core.money import rub_text
from xrouter.core.ports import SLOTS_LEASE_S, Topics
from xrouter.core.vitals import Change
from xrouter.core.window import ENDLESS
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.exchange import JSON, Exchange, Receive, Send, credential
from xrouter.dialects.exchange import Scope as AsgiScope
from xrouter.dialects.openai import problems
from xrouter.dialects.openrouter import problems as openrouter_problems
from xrouter.edge.client_ip import client_of
from xrouter.edge.validator import Edge
from xrouter.gateway import limits, pipeline
from xrouter.gateway.checks import Checks
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.gossip import TOPIC_HEALTH, Gossip
from xrouter.gateway.health import Station
from xrouter.gateway.limiter import LEASE_S, Limiter
from xrouter.replay.stored import Explainer
from xrouter.settings import Config, ConfigError, Settings
from xrouter.stores.books import Books, journals_of, open_books
from xrouter.stores.host_counters import HostCounters, host_id, keep_nodes, known_nodes
from xrouter.stores.journal import FileJournal
from xrouter.stores.slot_keeper import SlotKeeper
from xrouter.stores.slots import HostSlots, Room
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.database import DatabaseUnavailable
from xrouter.telemetry.access import AccessLog
from xrouter.telemetry.logs import Logs
from xrouter.telemetry.metrics import Metrics
from xrouter.telemetry.observer import Observer
from xrouter.telemetry.redaction import Redaction, secrets_in
from xrouter.telemetry.shared_dir import shared_dir
from xrouter.upstreams import opened
from xrouter.upstreams.opened import Opened

if TYPE_CHECKING:
    from xrouter.stores.redis import RedisStore

_log = structlog.get_logger()

GAUGES_INTERVAL_S = 0.25
"""How often the calls', the journal's and the flusher's figures are copied into the metrics."""

SHADOWS_INTERVAL_S = 2.0
"""How often the cost of shadow traffic is looked up in the books."""

_KEEP_AGAIN_S = 5.0
"""So long after the database was away somebody tries again to write down what is served."""

_FIRST_POLL_S = 1.0
"""So long a worker waits for its keys before it serves; connections may be waiting for it already."""


async def open_app(
    settings: Settings,
    config: Config,
    logs: Logs,
    *,
    owner: bool,
    reload_from: Effective | None = None,
    siblings: Topics | None = None,
) -> "App":
    """A worker, ready to serve. The owner prepares the books and flushes; other workers find that done. With
    `reload_from`, which gave `config`, changes of it are taken over while it serves. `siblings` leads to the other
    workers of this host."""
    books = open_books(settings)
    waiting = await books.prepare_now_or_later() if owner else []
    try:
        app = App(settings, config, books, logs, owner=owner, siblings=siblings)
    except BaseException:
        await books.database.close()
        raise
    await app.start(waiting)
    if reload_from is not None:
        app.watch(reload_from)
    return app


class App:
    """One worker: `asgi` is the application, the rest its life. Made by `open_app` inside the event loop."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        books: Books,
        logs: Logs,
        *,
        owner: bool,
        siblings: Topics | None = None,
    ) -> None:
        clock = self._clock = SystemClock()
        self._books = books
        self._owner = owner
        self._draining = False
        self._settings = settings
        self._config = config
        self._logs = logs
        self._trusted_proxies = settings.trusted_proxies
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: list[Opened] = []  # what calls of an earlier configuration are still with
        self._journal = FileJournal(journals_of(settings), clock)
        self._slots = HostSlots(settings.data_dir / "slots", shared=settings.redis_url is not None)
        self._counters = HostCounters(settings.data_dir / "limits", clock)
        self._redis = _open_redis(settings, clock, self._share)
        self._limiter = Limiter(self._counters, clock, None if self._redis is None else self._redis.counters)
        self._topics: list[Topics] = [] if siblings is None else [siblings]
        if self._redis is not None:
            self._topics.append(self._redis.topics)
        self._keeper = self._open_keeper(clock)
        self._opened = opened.open_accounts(config, settings.max_in_flight)
        self._speakers = speakers_of(self._opened)  # those in force: `take` changes it in place
        served, shown = build_catalog(settings, config, self._opened)
        self._open_rooms()
        if self._keeper is not None:
            self._keeper.begin()
        self._hedgers, self._shadows = beside(config, served)
        self._attempts = SqlAttempts(books.database)
        self._metrics = Metrics(shared_dir(), models=served.served)
        self._metrics.config_taken(served.revision, None)
        self._standing = Standing(shown, served.revision, clock.now())
        self._leave_standing()
        logs.sink.on_dropped = self._metrics.log_lines_dropped
        self._observer = Observer(self._metrics, AccessLog(logs, frozenset(served.served)))
        self._gateway = Gateway(
            catalog=served,
            providers=speakers_of(self._opened),
            keys=books.keys,
            journal=self._journal,
            slots=self._slots,
            telemetry=self._observer,
            clock=clock,
            pseudonyms=books.pseudonyms,
            limiter=self._limiter,
            hedgers=self._hedgers,
            shadows=self._shadows,
        )
        self._gossip = Gossip(self._gateway.health)
        self._gateway.health.on_change = self._deployment_changed
        self._data_plane = DataPlane(self._gateway, limits_of(settings), self._attempts)
        self._control_plane = routes.build(
            keys=books.keys,
            accounts=books.accounts,
            plans=books.plans,
            attempts=self._attempts,
            writes=books.writes,
            explain=Explainer(lambda: self._gateway.catalog, books.decisions.picture),
            standing=lambda: self._standing,
            deployments=self._stations,
            authenticate=self._authenticate,
            clock=clock,
            pressure=self._pressure,
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
            self._data_plane.door.run(),
            limits.keep(self._limiter),
            self._look_at_shadows(),
            self._keep_configuration(self._standing),
        ]
        if self._settings.health_check_s:
            beside.append(self._checks().run())
        if self._topics:
            self._connect_topics()
            beside.append(self._gossip.run(self._topics, self._gateway.clock))
        if self._redis is not None:
            beside += self._redis.beside()
        if self._keeper is not None:
            beside.append(self._keeper.run())
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
        tasks = [*self._tasks, *(copy for one in self._shadows.values() for copy in one.running)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._metrics.fold()
        self._journal.close()
        try:
            if self._owner:
                await self._books.flusher.flush_all()
        finally:
            self._books.flusher.close()
            self._slots.close()
            if self._keeper is not None:
                self._keeper.close()
            self._limiter.close()
            if self._redis is not None:
                await self._redis.close()
            self._counters.close()
            await opened.let_go([*self._opened.values(), *self._leaving])
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
        config, before = effective.config, self._opened
        after = opened.open_accounts(config, self._settings.max_in_flight, before, changed)
        served, shown = build_catalog(self._settings, config, after)
        hedgers, shadows = beside(config, served, self._hedgers, self._shadows)
        # From here on nothing fails and nothing waits.
        known = (*secrets_in(self._settings), *secrets_in(self._config), *secrets_in(config))
        self._logs.redaction = Redaction(known)
        self._config, self._opened = config, after
        self._observer.serve(served.served)
        speakers = speakers_of(after)
        copies = frozenset(copy for one in self._shadows.values() for copy in one.running)
        self._hedgers, self._shadows = hedgers, shadows
        self._gateway = replace(self._gateway, catalog=served, providers=speakers, hedgers=hedgers, shadows=shadows)
        self._speakers.clear()
        self._speakers.update(speakers)
        self._open_rooms()
        self._data_plane.serve(self._gateway)
        gone = [one for name, one in before.items() if after.get(name) is not one]
        self._leaving += gone
        self._metrics.config_taken(served.revision, self._standing.revision)
        self._metrics.config_refused(False)
        self._standing = Standing(shown, served.revision, self._clock.now())
        self._leave_standing()
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._let_go(gone, copies, frozenset(self._data_plane.running))))
        self._tasks.append(asyncio.create_task(self._keep_configuration(self._standing)))
        _log.info("took over the configuration", revision=served.revision, accounts=opened.differing(before, after))

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

    async def _let_go(
        self, gone: Iterable[Opened], copies: frozenset[asyncio.Task[None]], running: frozenset[Exchange]
    ) -> None:
        """Close what only those calls are with that `running` holds, and those `copies` of calls, after the last of
        them."""
        while not running.isdisjoint(self._data_plane.running):  # noqa: ASYNC110 - minutes, and once for a change
            await asyncio.sleep(GAUGES_INTERVAL_S)
        if copies:
            await asyncio.wait(copies)
        for one in gone:
            self._leaving.remove(one)
        await opened.let_go(gone, [*self._opened.values(), *self._leaving])

    def _connect_topics(self) -> None:
        """What other processes tell us at once, and we them: changes of accounts and keys, how deployments do, and who
        needs room of a limit."""
        keys, clock, gossip = self._books.keys, self._gateway.clock, self._gossip
        for topics in self._topics:
            topics.subscribe(TOPIC_ACCOUNTS, lambda _: keys.hurry())
            topics.subscribe(TOPIC_HEALTH, lambda words: gossip.hear(words, clock.monotonic()))
        if self._redis is not None:
            self._redis.topics.subscribe(TOPIC_RECALL, self._limiter.recalled)
        keys.announce = self._announce_accounts

    def _announce_accounts(self) -> None:
        for topics in self._topics:
            topics.publish(TOPIC_ACCOUNTS)

    def _deployment_changed(self, change: Change) -> None:
        self._observer.deployment_changed(change)
        self._gossip.hurry()

    def _stations(self) -> list[Station]:
        """Of every deployment that is served, once."""
        served = {one.key: one for found in self._gateway.catalog.served.values() for one in found}
        return [self._gateway.health.station(one) for one in served.values()]

    def _checks(self) -> Checks:
        gateway = self._gateway
        return Checks(
            gateway.health, self._speakers, gateway.clock, self._settings.health_check_s, gateway.health.chance
        )

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
            self._tell_pressure()
            if self._owner:
                self._metrics.flusher_stands(self._books.flusher)

    # ── pressure ─────────────────────────────────────────────────────────────────────────────────────────

    def _open_keeper(self, clock: Clock) -> SlotKeeper | None:
        """Who divides the slots with other nodes, where there are any."""
        if self._redis is None:
            return None
        return SlotKeeper(
            self._slots,
            self._redis.slots,
            clock,
            share=lambda: self._counters.share,
            lease_s=SLOTS_LEASE_S,
            alone=self._settings.workers == 1,
        )

    def _open_rooms(self) -> None:
        """Every credential's room is there before its first call: the keeper asks for its share."""
        each = [one for account in self._opened.values() for one in account.deployments]
        self._accounts = {one.credential: one.account or one.provider for one in each}
        for one in each:
            if one.max_concurrency:
                self._slots.room(one.credential, one.max_concurrency, one.max_waiting, one.start_concurrency)

    async def _look_at_shadows(self) -> None:
        """What copies have cost today, by all workers and nodes and before the last restart."""
        while True:
            for shadower in [*self._shadows.values()]:
                with suppress(DatabaseUnavailable):
                    look = shadower.look()
                    spent = await self._attempts.operator_spent_micro(shadower.key_id, look.since, look.but)
                    shadower.booked(look, spent)
            await asyncio.sleep(SHADOWS_INTERVAL_S)

    def _tell_pressure(self) -> None:
        for name, room in self._slots.rooms.items():
            self._metrics.slots_stand(
                self._accounts.get(name, "other"),
                running=room.running,
                waiting=room.waiting,
                window=_learnt(room),
                refused=room.refused,
            )
        self._metrics.overload_stands(self._data_plane.door.waiting)
        for route, hedger in self._hedgers.items():
            self._metrics.hedges_stand(route, made=hedger.made, won=hedger.won)
        for route, shadower in self._shadows.items():
            self._metrics.shadows_stand(route, copies=shadower.copies, skipped=shadower.skipped)

    def _pressure(self) -> Pressure:
        door = self._data_plane.door
        return Pressure(
            door=DoorState(inside=door.inside, waiting=door.waiting, lagging=door.lagging),
            credentials=[
                CredentialState(
                    account=self._accounts.get(name, "other"),
                    running=room.running,
                    waiting=room.waiting,
                    refused=room.refused,
                    max_concurrency=room.limit or None,
                    share=room.share.read() if room.limit else None,
                    window=_learnt(room),
                    shrinks=room.window.shrinks,
                )
                for name, room in self._slots.rooms.items()
            ],
            hedges=[
                HedgeState(route=route, calls=one.calls, made=one.made, won=one.won)
                for route, one in self._hedgers.items()
            ],
            shadows=[
                ShadowState(
                    route=route,
                    model=one.shadow.model,
                    copies=one.copies,
                    skipped=one.skipped,
                    running=len(one.running),
                    spent_rub=Decimal(rub_text(one.spent_micro())),
                    max_rub_per_day=Decimal(rub_text(one.shadow.max_micro_per_day)),
                )
                for route, one in self._shadows.items()
            ],
        )


def _learnt(room: Room) -> int | None:
    limit = room.window.limit
    return None if limit >= (room.limit or ENDLESS) else limit


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


def _closing(send: Send) -> Send:
    async def closing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing
