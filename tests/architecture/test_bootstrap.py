"""`scripts/bootstrap.py` on machines that are not as they should be. Making a real environment is what every lane
does; here are the decisions around it."""

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bootstrap.py"

PROJECT = """\
[project]
name = "xrouter"
version = "0.1.0"

[tool.ruff]
"""


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, at work in an empty folder with two locks."""
    monkeypatch.delenv("PYTHON", raising=False)
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    for name, value in {
        "ROOT": tmp_path,
        "VENV": venv,
        "PYTHON": venv / "bin" / "python",
        "STAMP": venv / "bootstrap.json",
        "UNFINISHED": venv / "bootstrap.unfinished",
    }.items():
        monkeypatch.setattr(module, name, value)
    (tmp_path / "requirements").mkdir()
    for name in ("run", "dev"):
        (tmp_path / "requirements" / f"{name}.lock").write_text(name)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return module


def finished_environment(bootstrap: ModuleType, group: str) -> None:
    """What a run for `group` leaves behind, as far as the next run looks."""
    bootstrap.PYTHON.parent.mkdir(parents=True)
    bootstrap.PYTHON.symlink_to(sys.executable)
    (bootstrap.VENV / "pyvenv.cfg").touch()
    bootstrap.UNFINISHED.touch()
    bootstrap.write_stamp(group)


def test_an_old_python_can_read_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_nothing_is_done_when_nothing_changed(bootstrap: ModuleType) -> None:
    finished_environment(bootstrap, "dev")
    assert bootstrap.environment_works()
    assert bootstrap.up_to_date("dev")
    assert bootstrap.up_to_date("run"), "dev holds everything that run holds"


def test_run_is_not_enough_for_dev(bootstrap: ModuleType) -> None:
    finished_environment(bootstrap, "run")
    assert bootstrap.up_to_date("run")
    assert not bootstrap.up_to_date("dev")


@pytest.mark.parametrize(
    ("file", "content", "fresh"),
    [
        ("requirements/dev.lock", "other", False),
        ("pyproject.toml", PROJECT.replace("0.1.0", "0.2.0"), False),
        ("pyproject.toml", PROJECT + "line-length = 100\n", True),
    ],
)
def test_only_what_changes_an_installation_counts(bootstrap: ModuleType, file: str, content: str, fresh: bool) -> None:
    finished_environment(bootstrap, "dev")
    (bootstrap.ROOT / file).write_text(content)
    assert bootstrap.up_to_date("dev") is fresh


@pytest.mark.parametrize("accident", ["killed", "moved", "other python", "interpreter gone", "no environment"])
def test_an_environment_that_cannot_be_trusted_is_made_again(bootstrap: ModuleType, accident: str) -> None:
    finished_environment(bootstrap, "dev")
    stamp = json.loads(bootstrap.STAMP.read_text())
    if accident == "killed":
        bootstrap.UNFINISHED.touch()
    elif accident == "moved":
        bootstrap.STAMP.write_text(json.dumps({**stamp, "folder": "/elsewhere"}))
    elif accident == "other python":
        bootstrap.STAMP.write_text(json.dumps({**stamp, "python": [3, 2]}))
    elif accident == "interpreter gone":
        bootstrap.PYTHON.unlink()
    else:
        bootstrap.discard()
    assert not bootstrap.environment_works()


def test_a_removal_that_was_cut_off_is_finished_by_the_next(bootstrap: ModuleType) -> None:
    leftover = bootstrap.ROOT / ".venv.old-1"
    (leftover / "lib").mkdir(parents=True)
    finished_environment(bootstrap, "dev")
    bootstrap.discard()
    assert list(bootstrap.ROOT.glob(".venv*")) == []


def test_an_old_interpreter_is_refused_in_words(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3 9\n")
    old.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(old))
    with pytest.raises(bootstrap.Failure, match=r"is Python 3\.9; XRouter needs Python 3\.11 or newer"):
        bootstrap.interpreters()


def test_the_newest_interpreter_on_the_path_is_taken(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minor in (11, 13, 12):
        path = tmp_path / f"python3.{minor}"
        path.write_text(f"#!/bin/sh\necho 3 {minor}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert bootstrap.interpreters()[0] == str(tmp_path / "python3.13")
