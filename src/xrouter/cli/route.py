"""`xrouter route`: why a request goes where it goes, on paper; and whether what was decided would be decided again."""

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop

from xrouter.cli.ask import ask
from xrouter.cli.config_files import read_all, with_file
from xrouter.cli.requests import read_request
from xrouter.core.call import Call, Caller, Scope
from xrouter.core.clock import SystemClock
from xrouter.core.decision import Decision, Explanation, Seen, unpack
from xrouter.core.errors import GatewayError
from xrouter.gateway import explain, route
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.trace import Trace
from xrouter.replay import catalogue, repeat, table
from xrouter.settings import ConfigError, load_settings
from xrouter.stores.books import open_accounts
from xrouter.stores.sql.decisions import Decided

_MOST_TOLD = 20

app = typer.Typer(help="Routes: why a request goes where it goes.", no_args_is_help=True)

_Config = Annotated[
    Path | None, typer.Option("--config", help="The operator's file; XROUTER_CONFIG when left out.", show_default=False)
]
_Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("explain")
def explain_request(
    request: Annotated[Path, typer.Argument(help="A request body, as for /v1/chat/completions.")],
    config: _Config = None,
    vitals: Annotated[
        Path | None,
        typer.Option(help="What is known of the deployments: an answer of /v1/providers/status.", show_default=False),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--from", help="Ask the gateway at this URL for it.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="What every draw comes from.", min=0)] = 0,
    as_json: _Json = False,
) -> None:
    """Say which deployments a request would be sent to, in which order and why. Reaches out to nobody unless --from is
    given. Exit code 1 where the request would be refused."""
    if vitals is not None and url is not None:
        raise ConfigError("--vitals and --from say twice what is known; give one of them")
    asked = read_request(request)
    catalog = _catalog(config)
    now = SystemClock().now()
    status = _read_json(vitals) if vitals is not None else ask(url, "/v1/providers/status") if url is not None else {}
    health = _health(status, catalog)
    call = Call(
        request=asked.request,
        caller=Caller("", "nobody", frozenset({Scope.ADMIN})),
        request_id="",
        started_at=now,
        started=0.0,
        preferences=asked.preferences,
        strict=bool(asked.preferences is not None and asked.preferences.require_parameters),
    )
    trace, error = Trace(seed=seed), None
    plan: tuple[route.Candidate, ...] = ()
    try:
        plan = route.plan(call.request, catalog, health, call, seed=seed, trace=trace)
    except GatewayError as refusal:
        error = refusal.message
    told = explain.told(plan, trace, catalog, health, 0.0, error)
    _tell(told, as_json=as_json)
    raise typer.Exit(0 if error is None else 1)


def _health(status: Any, catalog: Catalog) -> repeat.Remembered:
    """The vitals of an answer of `/v1/providers/status`; the moment is 0. Raises `ConfigError`."""
    by_id = {one.id: one.key for served in catalog.served.values() for one in served}
    found: dict[str, Seen] = {}
    try:
        for provider in status.get("data", ()):
            for one in provider["deployments"]:
                key, known = by_id.get(one["id"]), one["vitals"]
                if key is not None:
                    ago, left = known["last_failure_s_ago"], known["ejected_for_s"]
                    found[key] = Seen(
                        key,
                        known["in_flight"],
                        known["ttft_s"],
                        0.0,
                        known["tokens_per_s"],
                        known["failures_in_a_row"],
                        -inf if ago is None else -ago,
                        known["ejected"],
                        -inf if left is None else left,
                        _percentiles(one["latency_ms"], 0.001),
                        _percentiles(one["tokens_per_s"], 1.0),
                    )
    except (AttributeError, KeyError, TypeError):
        raise ConfigError("the vitals are no answer of /v1/providers/status") from None
    return repeat.Remembered(found)


def _percentiles(known: Any, unit: float) -> tuple[float | None, ...]:
    return () if known is None else tuple(known[word] * unit for word in ("p50", "p75", "p90", "p99"))


def _tell(told: Explanation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        typer.echo(table.text(told))


@app.command("replay")
def replay(
    file: Annotated[
        Path | None,
        typer.Argument(help="What `xrouter route export` wrote; the books when left out.", show_default=False),
    ] = None,
    config: _Config = None,
    since: Annotated[
        datetime | None, typer.Option(help="Decisions of the books from this time (UTC) on.", show_default=False)
    ] = None,
    as_json: _Json = False,
) -> None:
    """Make decisions again by the present file, and say which of them it would make otherwise. Exit code 0: none, 1:
    some, 3: one that the same configuration makes otherwise, which must never be."""
    catalog = _catalog(config)
    tally = _Tally(catalog)
    if file is not None:
        for decided in _read_export(file):
            tally.add(decided)
    else:
        uvloop.run(_each(since, tally.add))
    if as_json:
        typer.echo(json.dumps(tally.document(), ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(tally.told()))
    raise typer.Exit(3 if tally.broken else 1 if tally.others else 0)


@app.command("export")
def export(
    since: Annotated[
        datetime | None, typer.Option(help="Decisions from this time (UTC) on.", show_default=False)
    ] = None,
) -> None:
    """Write the decisions of the books, one in each line, for `xrouter route replay` elsewhere. Nothing that a client
    said is in them."""

    def write(decided: Decided) -> None:
        row = {
            "call_id": decided.call_id,
            "started_at": decided.started_at,
            "decision": b64encode(decided.decision).decode(),
        }
        sys.stdout.write(json.dumps(row) + "\n")

    uvloop.run(_each(since, write))


async def _each(since: datetime | None, take: Any) -> None:
    start = 0.0 if since is None else since.replace(tzinfo=UTC).timestamp()
    async with open_accounts(load_settings()) as books:
        rows: AsyncIterator[Decided] = books.decisions.all(start)
        async with aclosing(rows):  # type: ignore[type-var]
            async for decided in rows:
                take(decided)


def _read_export(path: Path) -> Iterator[Decided]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    yield Decided(row["call_id"], row["started_at"], b64decode(row["decision"], validate=True))
                except (ValueError, KeyError, TypeError):
                    raise ConfigError(f"{path}:{number}: is no decision") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


class _Tally:
    """What became of the decisions. `broken` are those that the same configuration makes otherwise."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._names = {one.key: one.id for served in catalog.served.values() for one in served}
        self.count = self.same_revision = self.unread = 0
        self.broken = self.others = 0
        self.examples: list[dict[str, Any]] = []

    def add(self, decided: Decided) -> None:
        self.count += 1
        try:
            decision = unpack(decided.decision)
        except ValueError:
            self.unread += 1
            return
        same = decision.revision == self._catalog.revision
        self.same_revision += same
        before = repeat.noted(decision)
        after, error = self._again(decision)
        if before == after:
            return
        self.broken += same
        self.others += not same
        if len(self.examples) < _MOST_TOLD:
            example = {"call_id": decided.call_id, "before": self._ids(before), "after": self._ids(after)}
            self.examples.append(example | ({} if error is None else {"error": error}))

    def _again(self, decision: Decision) -> tuple[tuple[str, ...], str | None]:
        try:
            return repeat.order(decision, self._catalog), None
        except GatewayError as refusal:
            return (), refusal.message

    def _ids(self, keys: tuple[str, ...]) -> list[str]:
        """The ids of deployments; of one that is gone the first word of its key, which says as much."""
        return [self._names.get(key) or key.partition(" ")[0] for key in keys]

    def document(self) -> dict[str, Any]:
        return {
            "revision": self._catalog.revision,
            "decisions": self.count,
            "same_revision": self.same_revision,
            "differences": self.others,
            "broken": self.broken,
            "unread": self.unread,
            "examples": self.examples,
        }

    def told(self) -> Iterator[str]:
        yield f"{self.count} decisions, {self.same_revision} of them by this configuration ({self._catalog.revision})"
        if self.unread:
            yield f"{self.unread} were written by another release and are passed over"
        if self.broken:
            yield f"{self.broken} OF THIS CONFIGURATION ARE MADE OTHERWISE: this must never be; please report it"
        yield f"{self.others} would be made otherwise" if self.others else "none would be made otherwise"
        for one in self.examples:
            now = one.get("error") or ", ".join(one["after"]) or "nowhere"
            yield f"  {one['call_id']}: {', '.join(one['before'])} -> {now}"


def _catalog(config: Path | None) -> Catalog:
    settings = with_file(load_settings(), config)
    effective, deployments = read_all(settings)
    default_model = settings.default_model or effective.config.default_model
    return catalogue.of_config(effective.config, deployments, default_model)[0]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None
