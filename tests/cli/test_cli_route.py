"""`xrouter route`: a request explained on paper, and decisions made again."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.cli.test_cli_config_plan import OLD
from tests.gateway.fleet import asking
from tests.replay.worlds import gateway as read_by_note
from typer.testing import CliRunner

from xrouter.cli.commands import app
from xrouter.core.call import Phase, State
from xrouter.core.clock import ManualClock
from xrouter.gateway import decide, route
from xrouter.gateway.health import Health
from xrouter.providers import load
from xrouter.replay import catalogue
from xrouter.settings import Settings, parse_config
from xrouter.stores.books import open_books
from xrouter.stores.frames import Entry
from xrouter.stores.sql.booking import book

Run = Callable[..., Any]
BODY = {"model": "fast", "messages": [{"role": "user", "content": "a secret word"}]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(OLD))
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path / "data"))
    return lambda *words: CliRunner().invoke(app, ["route", *map(str, words)])


def written(tmp_path: Path, **more: Any) -> Path:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(BODY | more))
    return path


def test_a_request_is_explained_without_a_gateway(run: Run, file: Path, tmp_path: Path) -> None:
    result = run("explain", written(tmp_path), "--config", file, "--seed", 7)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].endswith("seed 0000000000000007")
    assert lines[1] == "fast: strategy weighted"
    assert lines[3].split() == ["#", "deployment", "score", "known", "why", "not"]
    assert {line.split()[1] for line in lines[4:]} == {"a/m", "b/m"}
    assert "weight=3" in result.output
    assert "secret" not in result.output


def test_what_is_removed_is_told_with_its_filter(run: Run, file: Path, tmp_path: Path) -> None:
    result = run("explain", written(tmp_path, provider={"max_price": {"prompt": 50}}), "--config", file, "--json")
    told = json.loads(result.output)
    assert [(one["deployment"], one.get("place")) for one in told["candidates"]] == [("a/m", 1), ("b/m", None)]
    assert told["candidates"][1]["removed"]["filter"] == "max_price"
    refused = run("explain", written(tmp_path, provider={"only": ["nobody"]}), "--config", file)
    assert refused.exit_code == 1
    assert "refused: No deployment of 'fast' meets what is demanded" in refused.output
    assert "only: is not among provider.only: nobody" in refused.output


def test_vitals_out_of_a_file(run: Run, file: Path, tmp_path: Path) -> None:
    known = {"in_flight": 4, "ttft_s": 0.5, "tokens_per_s": 20.0, "failures_in_a_row": 5, "last_failure_s_ago": 3.0}
    one = {"id": "a/m", "latency_ms": None, "tokens_per_s": None}
    vitals = known | {"ejected": "failures", "ejected_for_s": 7.0}
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"data": [{"provider": "a", "deployments": [one | {"vitals": vitals}]}]}))
    result = run("explain", written(tmp_path), "--config", file, "--vitals", status, "--json")
    told = {candidate["deployment"]: candidate for candidate in json.loads(result.output)["candidates"]}
    assert told["a/m"]["removed"] == {"filter": "ejected", "reason": "is ejected: failures"}
    assert told["a/m"]["vitals"] == vitals
    assert told["b/m"]["place"] == 1
    status.write_text('{"data": [1]}')
    broken = run("explain", written(tmp_path), "--config", file, "--vitals", status)
    assert "no answer of /v1/providers/status" in str(broken.exception)


def decisions(count: int, changed: dict[str, Any] | None = None) -> list[bytes]:
    """Packed decisions of a gateway that serves `OLD`."""
    config = parse_config(OLD | (changed or {}), "x")
    deployments = [one for name, said in config.providers.items() for one in load(said.kind).deployments(name, said)]
    known, _ = catalogue.of_config(config, deployments, None)
    found = []
    for number in range(count):
        call = asking("fast", number=number, text="a secret word")
        plan = route.plan(call.request, known, call=call)
        decide.note(call, plan, read_by_note(known, Health()))
        assert call.decision is not None
        found.append(call.decision)
    return found


def exported(path: Path, packed: list[bytes]) -> Path:
    rows = [
        {"call_id": f"chatcmpl-{number}", "started_at": 1.0, "decision": base64.b64encode(one).decode()}
        for number, one in enumerate(packed)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_same_file_decides_the_same(run: Run, file: Path, tmp_path: Path) -> None:
    result = run("replay", exported(tmp_path / "log", decisions(300)), "--config", file, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert (told["decisions"], told["same_revision"], told["differences"], told["broken"]) == (300, 300, 0, 0)


def test_another_file_decides_otherwise(run: Run, file: Path, tmp_path: Path) -> None:
    log = exported(tmp_path / "log", decisions(300))
    file.write_text(yaml.safe_dump(OLD | {"routes": {"fast": {"models": ["b/m", "a/m"], "strategy": "priority"}}}))
    result = run("replay", log, "--config", file)
    assert result.exit_code == 1, result.output
    assert "300 decisions, 0 of them by this configuration" in result.output
    assert "would be made otherwise\n  chatcmpl-" in result.output
    assert ": a/m, b/m -> b/m, a/m" in result.output
    file.write_text(yaml.safe_dump(OLD | {"routes": {}}))
    result = run("replay", log, "--config", file)
    assert "-> The model 'fast' does not exist." in result.output


def test_a_decision_that_was_tampered_with_is_found(run: Run, file: Path, tmp_path: Path) -> None:
    packed = decisions(3)
    fields = msgspec.msgpack.decode(packed[1])
    fields[-1] = fields[-1][::-1]
    packed[1] = msgspec.msgpack.encode(fields)
    packed.append(b"\x01")
    result = run("replay", exported(tmp_path / "log", packed), "--config", file)
    assert result.exit_code == 3
    assert "1 OF THIS CONFIGURATION ARE MADE OTHERWISE" in result.output
    assert "1 were written by another release" in result.output


def test_out_of_the_books(run: Run, file: Path, tmp_path: Path) -> None:
    packed = decisions(1_100)

    async def fill() -> None:
        books = open_books(Settings())
        await books.prepare()
        rows = [
            Entry(
                id=f"{number:026d}", call_id=f"chatcmpl-{number}", request_id="r", client_request_id=None, key_id="k",
                number=1, model="fast", deployment="a/m", provider="a", upstream_model="m", dialect="openai",
                streamed=False, owner="o", state=State.SUCCEEDED, phase=Phase.SHOWN.value,
                started_at=ManualClock().now() + number // 2, decision=None if number % 11 == 0 else one,
            )
            for number, one in enumerate(packed)
        ]  # fmt: skip
        await books.database.write(lambda connection: book(connection, rows))
        await books.database.close()

    asyncio.run(fill())
    result = run("replay", "--config", file, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["decisions"] == 1_000
    result = run("replay", "--config", file, "--json", "--since", "2027-01-15T08:05:00")  # 300 s after the first
    assert json.loads(result.output)["decisions"] == len([n for n in range(600, 1_100) if n % 11])
    log = tmp_path / "log"
    log.write_text(run("export").output)
    assert "secret" not in log.read_text()
    assert json.loads(run("replay", log, "--config", file, "--json").output)["same_revision"] == 1_000
