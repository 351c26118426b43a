"""Prometheus metrics behind the port `Telemetry`, for one process or for several that share a directory.

Labels are bounded: models are the configured ids (anything else is `other`), codes are our own words, and key
ids are never a label. Children are bound once and kept in dicts, because `labels()` costs more than all else, and
what a call counts is added up in `tally.py` first.
"""

import asyncio
import os
import re
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from xrouter.core.call import Attempt, Call
from xrouter.core.errors import GatewayError
from xrouter.core.money import MICRO_PER_RUB
from xrouter.core.vitals import Change
from xrouter.telemetry.shared_dir import VARIABLE, Slot, forget_the_dead
from xrouter.telemetry.tally import Add, Tallies

OTHER: Final = "other"
NONE: Final = "none"

_CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4.encode()
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_SHORT_SECONDS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_MOST_WORDS: Final = 64
_READ_TRIES: Final = 20
_READ_PAUSE_S: Final = 0.01
_MOST_AT_ONCE: Final = 10**15
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class FlusherFigures(Protocol):
    """What a flusher counts since its start, and whether its last try failed."""

    failing: bool
    booked: int
    damaged: int
    torn: int
    rejected: int
    interrupted: int


def _codes(error: type[GatewayError] = GatewayError) -> set[str]:
    """Every default code of the error tree."""
    found = {error.default_code} if error.default_code else set()
    return found.union(*(_codes(below) for below in error.__subclasses__()))


class _Words:
    """The values that one label may take: those known from the start, then the first 64 others that look
    like our codes. The rest is `other`, so a vendor who invents codes cannot fill the memory."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = set(known)
        self._room = _MOST_WORDS

    def bounded(self, word: str | None) -> str:
        if word in self._known:
            return word
        if word is None:
            return NONE
        if self._room and _WORD.match(word):
            self._room -= 1
            self._known.add(word)
            return word
        return OTHER


class _DeploymentCounts:
    """The children of one deployment."""

    __slots__ = ("cached", "cost", "input", "output", "reasoning", "seconds", "unpriced")

    def __init__(self, metrics: "Metrics", tallies: Tallies, deployment: str) -> None:
        tokens = metrics.tokens
        self.input: Add = tallies.count(tokens.labels(deployment, "input"))
        self.output: Add = tallies.count(tokens.labels(deployment, "output"))
        self.cached: Add = tallies.count(tokens.labels(deployment, "cached"))
        self.reasoning: Add = tallies.count(tokens.labels(deployment, "reasoning"))
        self.cost: Add = tallies.count(metrics.cost.labels(deployment))
        self.unpriced: Add = tallies.count(metrics.unpriced.labels(deployment))
        self.seconds: Add = tallies.observe(metrics.attempt_seconds.labels(deployment))


class Metrics:
    """Counts calls and attempts; `render()` is the body of `/metrics`.

    `registry_dir` is the directory shared with the other workers (`shared_dir.shared_dir()`); None keeps
    everything in this process and adds the process, platform and garbage collector figures, which would mean
    little when any worker may answer the scrape. `models` are the ids and aliases that may be a label.
    Raises OSError where the directory cannot be used.
    """

    def __init__(self, registry_dir: Path | None = None, *, models: Iterable[str] = ()) -> None:
        self._directory = registry_dir
        self._models = set(models)
        self._codes = _Words(_codes())
        self._errors = _Words(_codes())
        self._registry = CollectorRegistry()
        self._tallies = Tallies()
        if registry_dir is not None:
            self._slot = Slot(registry_dir)
            _write_into(registry_dir, self._slot.name)
            self._source: Collector = CollectorRegistry()
            MultiProcessCollector(self._source, str(registry_dir))  # type: ignore[no-untyped-call]
        else:
            self._source = self._registry
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)
        self._declare(self._registry)
        self._calls: dict[tuple[str, str, int, str | None], tuple[Add, Add, Add]] = {}
        self._first: dict[str, Add] = {}
        self._attempts: dict[tuple[str, str, str | None], Add] = {}
        self._upstream: dict[tuple[str, int | None], Add] = {}
        self._deployments: dict[str, _DeploymentCounts] = {}
        self._totals: dict[Counter, int] = {}
        self._scrape: asyncio.Task[tuple[bytes, bytes]] | None = None
        # Opens the last of the three shared files now, while the directory is certainly there.
        self._first[OTHER] = self._tallies.observe(self._ttft.labels(OTHER))

    def _declare(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "xrouter_requests",
            "Calls ended, and requests refused on the data plane or at the edge before they became one. Model lists "
            "that succeed, the control plane and health checks are not counted.",
            ["dialect", "model", "status", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "xrouter_request_duration_seconds",
            "From a call's first byte to the end of its answer.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._overhead = Histogram(
            "xrouter_overhead_seconds",
            "Of a call's time, what was not spent in attempts upstream.",
            ["model"],
            buckets=_SHORT_SECONDS,
            registry=registry,
        )
        self._ttft = Histogram(
            "xrouter_ttft_seconds",
            "From a streamed call's first byte to its first content.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "xrouter_tokens",
            "Tokens billed by upstreams; cached is part of input, reasoning of output.",
            ["deployment", "kind"],
            registry=registry,
        )
        self.cost = Counter(
            "xrouter_cost_rub",
            "Cost of attempts in roubles. A float, as all of Prometheus: the books in the database are exact.",
            ["deployment"],
            registry=registry,
        )
        self._attempt = Counter(
            "xrouter_attempts", "Upstream calls ended.", ["deployment", "state", "error"], registry=registry
        )
        self.unpriced = Counter(
            "xrouter_unpriced_attempts",
            "Upstream calls of models without a price, which cost nothing in the books.",
            ["deployment"],
            registry=registry,
        )
        self.attempt_seconds = Histogram(
            "xrouter_attempt_duration_seconds",
            "Duration of upstream calls.",
            ["deployment"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._upstream_errors = Counter(
            "xrouter_upstream_errors",
            "Failed upstream calls by the upstream's status; none: no status line came.",
            ["deployment", "upstream_status"],
            registry=registry,
        )
        self._in_flight = _gauge("xrouter_in_flight", "Requests being served.", registry)
        self.in_flight: Add = self._tallies.count(self._in_flight)
        self._journal_waiting = _gauge("xrouter_journal_waiting", "Outcomes that the disk has refused.", registry)
        self._journal_failed = _counter("xrouter_journal_failed_writes", "Journal writes refused.", registry)
        self._journal_dropped = _counter("xrouter_journal_dropped", "Outcomes given up.", registry)
        self._flush_failing = _gauge("xrouter_flush_failing", "1 while the database takes no attempts.", registry)
        self._flush_booked = _counter("xrouter_flush_booked", "Journal records moved to the database.", registry)
        self._flush_damaged = _counter("xrouter_flush_damaged", "Damaged stretches of journals.", registry)
        self._flush_torn = _counter("xrouter_flush_torn", "Half-written last records of killed processes.", registry)
        self._flush_rejected = _counter("xrouter_flush_rejected", "Rows that the database refused.", registry)
        self._flush_interrupted = _counter("xrouter_flush_interrupted", "Attempts whose process died.", registry)
        self._log_dropped = _counter("xrouter_log_lines_dropped", "Log lines not written.", registry)
        self._limits = Gauge(
            "xrouter_limits",
            "Processes by where they count limits: with all nodes in Redis, or on their host.",
            ["counted"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._config_taken = _counter("xrouter_config_reloads", "Changed configurations taken over.", registry)
        self._config = Gauge(
            "xrouter_config",
            "Processes by the revision of the configuration that they serve by.",
            ["revision"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._config_refused = _gauge(
            "xrouter_config_refused",
            "Processes whose newest configuration cannot be used; they keep the old.",
            registry,
        )
        self._ejections = Counter(
            "xrouter_ejections",
            "Times a deployment was taken out of service, by why. One that goes on failing counts once.",
            ["deployment", "account", "reason"],
            registry=registry,
        )
        self._ejected = Gauge(
            "xrouter_ejected",
            "Processes that send a deployment no traffic, or one call at a time.",
            ["deployment", "account"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._slots = Gauge(
            "xrouter_slots",
            "Calls by the credential that they are made with: running, waiting for a slot, and the window that was "
            "learnt (of workers that have learnt one).",
            ["account", "what"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._slots_refused = Counter(
            "xrouter_slots_refused", "Calls that found the queue for a slot full.", ["account"], registry=registry
        )
        self._overload_waiting = _gauge("xrouter_overload_waiting", "Requests waiting to be let in.", registry)
        self._hedges = Counter(
            "xrouter_hedges",
            "Second attempts for a first token, and those that won.",
            ["route", "what"],
            registry=registry,
        )
        self._shadows = Counter(
            "xrouter_shadow_copies",
            "Copies of calls, and those that were left out.",
            ["route", "what"],
            registry=registry,
        )
        self._workers = _gauge("xrouter_workers", "Processes that serve.", registry)
        self._worker_ends = Counter("xrouter_worker_ends", "Workers ended, by why.", ["reason"], registry=registry)

    # ── the port Telemetry ───────────────────────────────────────────────────────────────────────────────

    def attempt_ended(self, attempt: Attempt) -> None:
        deployment = attempt.deployment.id
        if deployment not in self._models:  # simulators know `id+fault`, and the client makes those up
            deployment = OTHER
        key = (deployment, attempt.state, attempt.error)
        count = self._attempts.get(key)
        if count is None:
            error = self._errors.bounded(attempt.error)
            count = self._tallies.count(self._attempt.labels(deployment, attempt.state.value, error))
            if error != OTHER:
                self._attempts[key] = count
        count(1)
        if attempt.error is not None and attempt.state != "cancelled":
            self._count_upstream_error(deployment, attempt.upstream_status)
        counts = self._deployments.get(deployment)
        if counts is None:
            counts = self._deployments[deployment] = _DeploymentCounts(self, self._tallies, deployment)
        if attempt.ended is not None:
            counts.seconds(max(0.0, attempt.ended - attempt.began))
        usage = attempt.usage
        if usage is not None:
            _add(counts.input, usage.input_tokens)
            _add(counts.output, usage.output_tokens)
            _add(counts.cached, usage.cached_tokens)
            _add(counts.reasoning, usage.reasoning_tokens)
        if attempt.price is None:
            counts.unpriced(1)
        if attempt.cost_micro > 0:
            counts.cost(min(attempt.cost_micro, _MOST_AT_ONCE) / MICRO_PER_RUB)

    def call_ended(self, call: Call, status: int, code: str | None, seconds: float) -> None:
        model = self._label(call)
        counts = self._calls.get((call.dialect, model, status, code)) or self._bind(call.dialect, model, status, code)
        count, observe, overhead = counts
        count(1)
        observe(seconds)
        overhead(max(0.0, seconds - call.upstream_s(call.started + seconds)))

    def deployment_changed(self, change: Change) -> None:
        """A deployment was ejected, or serves again."""
        deployment, account = change.deployment.id, change.deployment.speaker
        if deployment not in self._models:
            deployment = account = OTHER
        if change.reason is None:
            self._ejected.labels(deployment, account).dec()
        else:
            self._ejected.labels(deployment, account).inc()
            self._ejections.labels(deployment, account, change.reason).inc()

    def request_refused(self, dialect: str, status: int, code: str | None) -> None:
        found = self._calls.get((dialect, NONE, status, code))
        if found is None:
            found = self._bind(dialect, NONE, status, code, timed=False)
        found[0](1)

    def first_content(self, call: Call, seconds: float) -> None:
        model = self._label(call)
        observe = self._first.get(model)
        if observe is None:
            observe = self._first[model] = self._tallies.observe(self._ttft.labels(model))
        observe(seconds)

    # ── what others report ───────────────────────────────────────────────────────────────────────────────

    def journal_stands(self, *, waiting: int, failed_writes: int, dropped: int) -> None:
        """The journal of this process: what waits for the disk now, the others since its start."""
        self._journal_waiting.set(waiting)
        self._advance(self._journal_failed, failed_writes)
        self._advance(self._journal_dropped, dropped)

    def flusher_stands(self, flusher: FlusherFigures) -> None:
        """The flusher of this process."""
        self._flush_failing.set(flusher.failing)
        self._advance(self._flush_booked, flusher.booked)
        self._advance(self._flush_damaged, flusher.damaged)
        self._advance(self._flush_torn, flusher.torn)
        self._advance(self._flush_rejected, flusher.rejected)
        self._advance(self._flush_interrupted, flusher.interrupted)

    def log_lines_dropped(self, count: int) -> None:
        """So many more log lines were not written. May be called from any thread."""
        self._log_dropped.inc(count)

    def limits_stand(self, *, shared: bool) -> None:
        """Whether this process counts limits together with all nodes."""
        self._limits.labels("redis").set(shared)
        self._limits.labels("host").set(not shared)

    def serve(self, models: Iterable[str]) -> None:
        """These models are served from now on. The names of before stay labels: calls of theirs are still running."""
        self._models |= set(models)

    def config_taken(self, revision: str, before: str | None) -> None:
        """This process serves by the configuration of that revision, and no longer by the one `before`."""
        if before is not None:
            self._config.labels(before).set(0)
            self._config_taken.inc()
        self._config.labels(revision).set(1)

    def config_refused(self, refused: bool) -> None:
        """Whether there is a newer configuration that is no good."""
        self._config_refused.set(refused)

    def slots_stand(self, account: str, *, running: int, waiting: int, window: int | None, refused: int) -> None:
        """One credential, as this process sees it; `refused` since its start."""
        for what, value in (("running", running), ("waiting", waiting), ("window", window or 0)):
            self._slots.labels(account, what).set(value)
        self._advance(self._slots_refused.labels(account), refused)

    def overload_stands(self, waiting: int) -> None:
        """Requests that wait to be let in."""
        self._overload_waiting.set(waiting)

    def hedges_stand(self, route: str, *, made: int, won: int) -> None:
        """Since the start."""
        self._advance(self._hedges.labels(route, "made"), made)
        self._advance(self._hedges.labels(route, "won"), won)

    def shadows_stand(self, route: str, *, copies: int, skipped: int) -> None:
        """Since the start."""
        self._advance(self._shadows.labels(route, "made"), copies)
        self._advance(self._shadows.labels(route, "left_out"), skipped)

    def workers_serving(self, count: int) -> None:
        """How many workers the supervisor knows to serve; 1 where a process serves alone."""
        self._workers.set(count)

    def worker_ended(self, reason: str) -> None:
        """One worker is gone; `reason` is `crashed`, `hung`, `left` (exit code 0, unasked) or `replaced`."""
        self._worker_ends.labels(reason).inc()

    async def scrape(self) -> tuple[bytes, bytes]:
        """`render()` in a thread: with 50 models on several workers it takes tens of milliseconds, too long for
        an event loop. Scrapes that come while one is being rendered share it, so they cost no more than one."""
        if self._scrape is None or self._scrape.done():
            self.fold()
            self._scrape = asyncio.create_task(asyncio.to_thread(self._render))
        return await asyncio.shield(self._scrape)

    def fold(self) -> None:
        """Make what this process has counted visible, also to a scrape that another worker answers. Often,
        and at the end."""
        self._tallies.fold()

    def render(self) -> tuple[bytes, bytes]:
        """Content type and body in the text format 0.0.4, over all workers: of the others, what they have folded."""
        self.fold()
        return self._render()

    def _render(self) -> tuple[bytes, bytes]:
        if self._directory is not None:
            forget_the_dead(self._directory)
        for _ in range(_READ_TRIES):
            # A worker that starts makes its file first and gives it a length then: between the two nobody can read it.
            with suppress(struct.error):
                return _CONTENT_TYPE, generate_latest(self._source)
            time.sleep(_READ_PAUSE_S)
        return _CONTENT_TYPE, generate_latest(self._source)

    # ── labels ───────────────────────────────────────────────────────────────────────────────────────────

    def _label(self, call: Call) -> str:
        model = call.request.model
        if model in self._models:
            return model
        served = call.served_model
        return served if served is not None and served in self._models else OTHER

    def _bind(
        self, dialect: str, model: str, status: int, code: str | None, *, timed: bool = True
    ) -> tuple[Add, Add, Add]:
        word = self._codes.bounded(code)
        shown = str(status) if 100 <= status <= 599 else OTHER
        counts = (
            self._tallies.count(self._requests.labels(dialect, model, shown, word)),
            self._tallies.observe(self._seconds.labels(model)) if timed else _ignore,
            self._tallies.observe(self._overhead.labels(model)) if timed else _ignore,
        )
        if word != OTHER and shown != OTHER:
            self._calls[dialect, model, status, code] = counts
        return counts

    def _count_upstream_error(self, deployment: str, status: int | None) -> None:
        if status is not None and not 100 <= status <= 599:
            status = 0
        count = self._upstream.get((deployment, status))
        if count is None:
            shown = NONE if status is None else str(status) if status else OTHER
            child = self._upstream_errors.labels(deployment, shown)
            count = self._upstream[deployment, status] = self._tallies.count(child)
        count(1)

    def _advance(self, counter: Counter, total: int) -> None:
        """Bring a counter up to the total that its owner counts by itself."""
        before = self._totals.get(counter, 0)
        if total > before:
            counter.inc(total - before)
            self._totals[counter] = total


def _write_into(directory: Path, process: str) -> None:
    """Let metrics made from now on live in files of `directory`, under the name `process`.

    The library decides at its import, by the variable, and names files by pid; both are set here instead
    (`values.ValueClass` is its documented place for another process identifier), so the order of imports
    does not matter.
    """
    os.environ[VARIABLE] = str(directory)  # noqa: TID251 - written for the library, which has no argument for it
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]


def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, text, registry=registry, multiprocess_mode="livesum")


def _counter(name: str, text: str, registry: CollectorRegistry) -> Counter:
    return Counter(name, text, registry=registry)


def _add(count: Add, tokens: int) -> None:
    """Vendors' numbers are not to be trusted: never below zero, never beyond what a float counts exactly."""
    if tokens > 0:
        count(min(tokens, _MOST_AT_ONCE))


def _ignore(_: float) -> None:
    """Refused requests have no duration that means anything."""
