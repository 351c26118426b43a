"""Organisations, teams, users, plans and what keys may do, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xrouter.cli.commands import app

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path / "data"))
    return lambda *command: CliRunner().invoke(app, list(command))


@pytest.fixture
def good(run: Run) -> Run:
    """The output of a command that must succeed; decoded where it is JSON."""

    def inner(*command: str) -> Any:
        done = run(*command)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in command else done.stdout

    return inner


def test_everybody_is_made_found_by_name_changed_and_deleted(good: Run) -> None:
    organisation = good("organisations", "create", "Acme", "--plan", "pro", "--network", "10.0.0.0/8", "--json")
    assert (organisation["plan"], organisation["networks"]) == ("pro", ["10.0.0.0/8"])
    team = good("teams", "create", "payments", "--organisation", "Acme", "--limit", "5 concurrent", "--json")
    assert (team["organisation"], team["limits"]) == (organisation["id"], ["5 concurrent"])
    user = good("users", "create", "Анна", "--team", "payments", "--model", "acme/*", "--json")
    assert (user["organisation"], user["team"], user["models"]) == (organisation["id"], team["id"], ["acme/*"])
    assert good("users", "show", "Анна", "--json") == user
    changed = good("users", "set", "Анна", "--name", "Anna", "--model", "any", "--plan", "free", "--json")
    assert (changed["name"], changed["models"], changed["plan"]) == ("Anna", None, "free")
    assert "every key below" in good("users", "disable", "Anna")
    header, row = good("users", "list", "--team", "payments").splitlines()
    assert header.split() == ["ID", "STATE", "PLAN", "ORGANISATION", "TEAM", "CREATED", "NAME"]
    assert row.split()[:3] == [user["id"], "disabled", "free"]
    assert good("users", "set", user["id"], "--enable", "--plan", "none", "--json")["disabled"] is False
    assert [one["name"] for one in good("teams", "list", "--json")] == ["payments"]
    assert "is deleted" in good("users", "delete", "Anna")
    assert good("users", "list").splitlines() == ["ID  STATE  PLAN  ORGANISATION  TEAM  CREATED  NAME"]


def test_a_key_is_made_below_a_user_changed_rotated_and_shown(good: Run) -> None:
    good("organisations", "create", "Acme")
    user = good("users", "create", "anna", "--organisation", "Acme", "--json")
    made = good(
        "keys", "create", "app", "--user", "anna", "--plan", "free", "--limit", "9 tokens/day acme/*", "--limit",
        "1 concurrent exact", "--model", "acme/*", "--operation", "chat", "--network", "127.0.0.1", "--json",
    )  # fmt: skip
    key_id, secret = made["id"], made.pop("key")
    assert secret.startswith(f"sk-xr-v1-{key_id}-")
    assert good("keys", "show", key_id, "--json") == made
    assert (made["user"], made["organisation"]) == (user["id"], user["organisation"])
    assert made["limits"] == ["9 tokens/day acme/*", "1 concurrent exact"]
    assert (made["operations"], made["networks"]) == (["chat"], ["127.0.0.1/32"])
    assert f"limits               {made['limits'][0]}\n{'':21}{made['limits'][1]}\n" in good("keys", "show", key_id)

    changed = good("keys", "set", key_id, "--limit", "none", "--operation", "any", "--days", "2", "--json")
    assert (changed["limits"], changed["operations"], changed["models"]) == ([], None, ["acme/*"])
    assert changed["expires"] is not None
    assert good("keys", "set", key_id, "--never", "--json")["expires"] is None
    good("keys", "disable", key_id)
    assert good("keys", "set", key_id, "--enable", "--json")["state"] == "active"
    fresh = good("keys", "rotate", key_id).strip()
    assert fresh != secret
    assert good("keys", "show", key_id, "--json")["former_secret_until"] is not None
    assert good("keys", "rotate", key_id, "--grace", "0", "--json")["former_secret_until"] is None
    assert [one["id"] for one in good("keys", "list", "--user", "anna", "--json")] == [key_id]


def test_plans_are_listed_made_and_changed(good: Run) -> None:
    good("plans", "create", "mine", "--limit", "7 requests/minute")
    lines = good("plans", "list").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["pro", "free", "enterprise"]
    assert lines[1].split()[2:] == ["mine", "7", "requests/minute"]
    assert good("plans", "set", "enterprise", "--limit", "9 concurrent", "--json")["limits"] == ["9 concurrent"]
    assert good("plans", "show", "enterprise", "--json")["limits"] == ["9 concurrent"]
    assert "nobody" in good("plans", "disable", "mine")
    assert good("plans", "set", "mine", "--enable", "--name", "ours", "--json")["disabled"] is False
    assert "is deleted" in good("plans", "delete", "ours")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("keys", "show", "nobody"), 1, "there is no key nobody; `xrouter keys list` shows all"),
        (("keys", "set", "nobody", "--enable"), 1, "there is no key nobody"),
        (("keys", "rotate", "nobody"), 1, "there is no key nobody"),
        (("keys", "create", "a", "--team", "none"), 1, "there is no team 'none'; `xrouter teams list` shows all"),
        (("keys", "create", "a", "--plan", "gold"), 1, "there is no plan 'gold'; there are: pro, free, enterprise"),
        (("keys", "create", "a", "--limit", "lots"), 2, "is no limit"),
        (("keys", "create", "a", "--operation", "paint"), 2, "is none of"),
        (("keys", "create", "a", "--network", "home"), 2, "is no network"),
        (("keys", "create", "a", "--model", "a b"), 2, "is no model id"),
        (("keys", "set", "x", "--never", "--days", "1"), 2, "not both"),
        (("users", "create", "anna"), 1, "belongs to an organisation"),
        (("users", "show", "twin"), 1, "several users are called 'twin'"),
        (("organisations", "delete", "Acme"), 1, "disable it instead"),
        (("organisations", "create", "a\nb"), 2, "a name is 1 to 100 characters"),
        (("plans", "delete", "free"), 1, "is built in"),
        (("plans", "create", "free"), 1, "is called 'free' already"),
    ],
)
def test_what_goes_wrong_is_said_in_words(run: Run, good: Run, command: tuple[str, ...], code: int, words: str) -> None:
    good("organisations", "create", "Acme")
    for team in ("a", "b"):
        good("teams", "create", team, "--organisation", "Acme")
        good("users", "create", "twin", "--team", team)
    done = run(*command)
    assert done.exit_code == code
    assert words in " ".join(done.output.replace("│", " ").split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model", ("any", "x/*")), ("--network", ("10.0.0.0/8", "any")), ("--operation", ("any", "chat")),
        ("--limit", ("none", "5 concurrent")),
    ],
)  # fmt: skip
def test_what_takes_everything_away_stands_alone(run: Run, option: str, words: tuple[str, str]) -> None:
    done = run("keys", "create", "app", *(part for word in words for part in (option, word)))
    assert done.exit_code == 2
    assert "stands alone" in done.output
    assert run("keys", "list").output.count("app") == 0
