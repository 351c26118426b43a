"""A provider is one file or folder, or one row: hardly anybody else's code may know its name.

Names in comments and docstrings are reasons and stay; names, imports and texts in the code are what couples.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from xrouter.providers import kinds

SOURCE = Path(__file__).resolve().parents[2] / "src" / "xrouter"
AT_MOST = 1
# These are also the names of client dialects, and OpenAI's that of a wire format.
WIRE_FORMATS = {"openai", "openai_compatible", "openrouter"}
ALLOWED = {
    "simulators": "each simulator is a vendor",
    "cli/commands.py": "the one line that says what the product is for",
    "cli/demo.py": "the demo is a configuration that names two of them",
    "cli/simulate.py": "prints where the simulators listen",
}
OWN_KINDS = [kind for kind in kinds() if kind not in WIRE_FORMATS and kind != "lark"]


def names_in(source: str) -> Iterator[str]:
    """Identifiers, imported modules and texts, without docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def speaks_of(source: str, kind: str) -> bool:
    """Does the code name the kind, as a word or as a part of an identifier?"""
    word = re.compile(rf"(?<![a-z]){re.escape(kind)}(?![a-z])", re.IGNORECASE)
    return any(word.search(name) for name in names_in(source))


def is_own(path: Path, kind: str) -> bool:
    relative = path.relative_to(SOURCE).as_posix()
    own = (f"providers/{kind}/", f"providers/{kind}.py")
    return relative.startswith(own) or any(relative.startswith(allowed) for allowed in ALLOWED)


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_hardly_any_file_names_a_provider_outside_its_own(kind: str) -> None:
    others = [path for path in sorted(SOURCE.rglob("*.py")) if not is_own(path, kind)]
    naming = [
        path.relative_to(SOURCE).as_posix() for path in others if speaks_of(path.read_text(encoding="utf-8"), kind)
    ]
    assert len(naming) <= AT_MOST, naming


def test_what_is_allowed_exists_and_is_needed() -> None:
    for place in ALLOWED:
        files = [SOURCE / place] if place.endswith(".py") else sorted((SOURCE / place).rglob("*.py"))
        assert any(speaks_of(path.read_text(encoding="utf-8"), kind) for path in files for kind in OWN_KINDS), place


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ('if kind == "gigachat": pass', True),
        ("from xrouter.providers import gigachat", True),
        ("from xrouter.providers.gigachat import login", True),
        ("def for_gigachat(): pass", True),
        ('url = "https://gigachat.example"', True),
        ('"""As gigachat does."""', False),
        ("x = 1  # gigachat wants it", False),
        ('x = "gigachats"', False),
    ],
)
def test_the_look_itself(source: str, named: bool) -> None:
    assert speaks_of(source, "gigachat") is named
