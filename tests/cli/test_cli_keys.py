"""`xrouter keys` on a database of its own, and what `xrouter serve` says without any key."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xrouter.cli import serve
from xrouter.cli.commands import app
from xrouter.core.call import Scope
from xrouter.settings import load_settings
from xrouter.stores.books import open_accounts

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path / "data"))
    return lambda *command: CliRunner().invoke(app, ["keys", *command])


def test_a_key_is_made_and_listed_below_a_header(run: Run) -> None:
    made = run("create", " my app ", "--days", "2")
    assert made.exit_code == 0
    assert made.stdout.startswith("sk-xr-v1-")
    header, row = run("list").stdout.splitlines()
    assert header.split() == [
        "ID",
        "ENDS",
        "IN",
        "STATE",
        "SCOPES",
        "CREATED",
        "EXPIRES",
        "ORGANISATION",
        "TEAM",
        "USER",
        "NAME",
    ]
    assert row.endswith("  my app")
    assert row.index("active") == header.index("STATE")
    assert row.index("models") == header.index("SCOPES")
    assert row.index("my app") == header.index("NAME")


@pytest.mark.parametrize(
    "wrong", [[""], ["  "], ["a\nb"], ["a" * 101], ["a", "--days", "99999999"], ["a", "--days", "0"]]
)
def test_what_the_api_refuses_the_command_refuses(run: Run, wrong: list[str]) -> None:
    refused = run("create", *wrong)
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output
    assert len(run("list").stdout.splitlines()) == 1


@pytest.mark.parametrize(("name", "expires_at"), [("", None), ("a\nb", None), ("a", 1.0), ("a", 1e14)])
def test_no_door_makes_a_key_that_lists_could_not_show(run: Run, name: str, expires_at: float | None) -> None:
    async def create() -> None:
        async with open_accounts(load_settings()) as books:
            await books.keys.create(
                name=name, scopes=frozenset({Scope.MODELS}), created_by="test", expires_at=expires_at
            )

    with pytest.raises(ValueError, match="a key"):
        asyncio.run(create())


def test_serving_without_a_key_says_how_to_make_one(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "xrouter.yaml"
    config.write_text("providers: {a: {base_url: 'http://127.0.0.1:9', models: [m]}}")
    monkeypatch.setenv("XROUTER_CONFIG", str(config))
    monkeypatch.setattr(serve, "run", lambda *_: 0)
    hint = "no keys yet: `xrouter keys create NAME`"
    assert hint in CliRunner().invoke(app, ["serve"]).output
    run("create", "first")
    assert hint not in CliRunner().invoke(app, ["serve"]).output
