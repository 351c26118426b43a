"""Every store over SQL is tested on both databases: no class of one that no such test speaks of."""

import ast
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_FIXTURES = {"database", "database_url", "switchable"}
"""What makes a test run on SQLite and on PostgreSQL (`tests/databases.py`)."""


def _stores() -> list[str]:
    found = []
    for path in sorted((_ROOT / "src" / "xrouter" / "stores" / "sql").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Sql"):
                found.append(node.name)
    return found


def _on_both() -> set[str]:
    """The names that stand in test files with at least one test on both databases."""
    names: set[str] = set()
    for path in (_ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        if any(argument.arg in _FIXTURES for function in functions for argument in function.args.args):
            names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names


def test_there_are_stores() -> None:
    assert {"SqlKeys", "SqlAttempts"} <= set(_stores())


@pytest.mark.parametrize("store", _stores())
def test_it_is_tested_on_both_databases(store: str) -> None:
    assert store in _on_both(), f"no test of {store} takes `database`: see tests/databases.py"


def test_both_databases_are_really_there(database_url: str, request: pytest.FixtureRequest) -> None:
    wanted = request.node.callspec.params["database_url"]
    assert database_url.startswith(wanted)
