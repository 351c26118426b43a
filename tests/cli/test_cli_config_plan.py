"""`xrouter config plan`: what a file would change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from xrouter.cli.commands import app
from xrouter.configuration.standing import Standing, leave
from xrouter.providers import load
from xrouter.replay import catalogue
from xrouter.settings import parse_config

SECRET = "a-secret-that-nobody-may-see"
OLD: dict[str, Any] = {
    "providers": {
        "a": {
            "base_url": "https://a.example/v1",
            "api_key": SECRET,
            "models": [{"name": "m", "price": {"input_rub_per_1m": 10, "output_rub_per_1m": 20}}],
        },
        "b": {"base_url": "https://b.example/v1", "models": ["m"], "max_concurrency": 2},
    },
    "aliases": {"both": ["a/m", "b/m"]},
    "routes": {"fast": {"models": ["a/m", "b/m"], "weights": {"a/m": 3}}},
}
Run = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, **changed: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(OLD | changed))
        return path

    return write


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()

    def run(*words: Any) -> Any:
        result = CliRunner().invoke(app, ["config", "plan", *map(str, words)])
        assert SECRET not in result.output
        return result

    return run


def test_nothing_changes(run: Run, write: Write) -> None:
    result = run(write("new.yaml"), "--against", write("old.yaml"))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1:] == ["nothing changes"]


def test_every_kind_of_change_is_told_and_what_it_means_for_requests(run: Run, write: Write) -> None:
    price = {"input_rub_per_1m": 11, "output_rub_per_1m": 20}
    providers = {
        "a": OLD["providers"]["a"] | {"api_key": "another-secret", "models": [{"name": "m", "price": price}]},
        "b": OLD["providers"]["b"] | {"max_concurrency": 5},
        "c": {"base_url": "https://c.example/v1", "models": ["m"]},
    }
    new = write(
        "new.yaml",
        providers=providers,
        aliases={"both": ["b/m", "a/m"], "more": ["c/m"]},
        routes={"fast": {"models": ["a/m", "b/m"], "weights": {"a/m": 1}}},
    )
    result = run(new, "--against", write("old.yaml"))
    assert result.exit_code == 1, result.output
    said = result.output
    assert "another-secret" not in said
    assert "  + deployments.c/m: unpriced\n" in said
    assert "  ~ deployments.b/m.max_concurrency: 2 -> 5\n" in said
    assert "  ~ deployments.a/m.prices: 10 / 20 RUB per 1M tokens -> 11 / 20 RUB per 1M tokens\n" in said
    assert "  ~ deployments.a/m.credential: " in said  # another key, named by a digest
    assert '  ~ aliases.both: ["a/m", "b/m"] -> ["b/m", "a/m"]\n' in said
    assert '  + aliases.more: ["c/m"]\n' in said
    assert "  both: a/m, b/m -> b/m, a/m\n" in said
    assert "  more: refused (The model 'more' does not exist." in said
    (shares,) = [line for line in said.splitlines() if line.startswith("  fast: ")]
    before, after = shares.removeprefix("  fast: ").split(" -> ")
    assert before.startswith("a/m ")
    assert 65 <= int(before.split()[1].rstrip("%,")) <= 85
    assert 40 <= int(after.split()[1].rstrip("%,")) <= 60


def test_for_programs(run: Run, write: Write, tmp_path: Path) -> None:
    body = {"model": "both", "messages": [{"role": "user", "content": "hi"}], "provider": {"order": ["b"]}}
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps(body))
    new = write("new.yaml", aliases={"both": ["b/m", "a/m"]})
    result = run(new, "--against", write("old.yaml"), "--request", sample, "--json")
    assert result.exit_code == 1
    document = json.loads(result.output)
    assert document["changes"] == [
        {"kind": "changed", "place": "aliases.both", "before": ["a/m", "b/m"], "after": ["b/m", "a/m"]}
    ]
    assert [one["sample"] for one in document["requests"]] == ["both"], "the sample wants b first before and after"
    assert document["requests"][0]["after"]["order"] == ["b/m", "a/m"]
    assert document["before"]["revision"] != document["after"]["revision"]


def test_what_was_served_last_is_in_the_data_directory(run: Run, write: Write, tmp_path: Path) -> None:
    assert "no gateway has served" in str(run(write("new.yaml")).exception)
    config = parse_config(OLD, "x")
    deployments = [one for name, said in config.providers.items() for one in load(said.kind).deployments(name, said)]
    catalog, shown = catalogue.of_config(config, deployments, None)
    leave(Standing(shown, catalog.revision, 1_800_000_000.0), tmp_path / "data")
    result = run(write("new.yaml"))
    assert (result.exit_code, result.output.splitlines()[1]) == (0, "nothing changes")
    assert "2027-01-15" in result.output
    result = run(write("new.yaml", aliases={}))
    assert result.exit_code == 1
    assert "  - aliases.both\n" in result.output


def test_a_file_that_cannot_be_used_says_why(run: Run, write: Write) -> None:
    result = run(write("new.yaml", nonsense=1), "--against", write("old.yaml"))
    assert "nonsense: is not a known key" in str(result.exception)
