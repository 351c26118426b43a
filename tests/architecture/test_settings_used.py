"""A setting that nobody reads is a promise that nobody keeps."""

import ast
from collections.abc import Iterable
from pathlib import Path

from xrouter.settings import Settings

SOURCE = Path(__file__).resolve().parents[2] / "src" / "xrouter"


def read_from_settings(tree: ast.AST, name: str) -> set[str]:
    """The attributes that are read of `name` or of `something.name` or `something._name`."""
    owners = {name, f"_{name}"}
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id in owners)
            or (isinstance(node.value, ast.Attribute) and node.value.attr in owners)
        )
    }


def unread(fields: Iterable[str]) -> list[str]:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}
    own = trees.pop(SOURCE / "settings" / "environment.py")
    read = set[str]().union(*(read_from_settings(tree, "settings") for tree in trees.values()))
    properties = [
        node
        for node in ast.walk(own)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)
    ]
    for found in properties:  # a field with a default that depends on another one is read through a property
        if found.name in read:
            read |= read_from_settings(found, "self")
    return [field for field in fields if field not in read]


def test_every_setting_is_read_by_somebody() -> None:
    assert unread(Settings.model_fields) == []


def test_a_setting_that_nobody_reads_would_be_noticed() -> None:
    assert unread(["port", "no_such_setting"]) == ["no_such_setting"]
