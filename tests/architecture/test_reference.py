"""docs/api.md lists every error code, every status and every metric, and no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from xrouter.core import errors
from xrouter.dialects.exchange import ServerShutdown
from xrouter.gateway.fan_out import PART_FAILED
from xrouter.providers._http import failure
from xrouter.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "xrouter"
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def tree(error: type[errors.GatewayError] = errors.GatewayError) -> Iterator[type[errors.GatewayError]]:
    yield error
    for below in error.__subclasses__():
        yield from tree(below)


def literal_codes() -> Iterator[str]:
    """`code="..."` wherever an error is made, and what the protocol refuses by itself."""
    for path in SOURCE.rglob("*.py"):
        if "simulators" in path.parts:  # vendors' codes, not ours
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "_refuse" and len(node.args) == 3:
                given.append(node.args[1])
            yield from (one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_every_error_code_is_on_the_page() -> None:
    assert ServerShutdown in set(tree())
    codes = {error.default_code for error in tree() if error.default_code} | set(literal_codes())
    codes |= set(re.findall(r'return "(\w+)"', Path(failure.__file__).read_text())) | {"client_left", PART_FAILED}
    listed = re.findall(r"^\| `(\w+)` \|", section("Error codes"), re.MULTILINE)
    assert sorted(listed) == sorted(codes)


def test_every_status_is_on_the_page() -> None:
    table = section("For applications").partition("Status codes:")[2]
    listed = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for number in row.split(",")}
    assert listed == {error.status for error in tree()} | {499}


def test_every_metric_is_on_the_page() -> None:
    names = [family.name for family in Metrics()._registry.collect() if family.name.startswith("xrouter_")]
    assert sorted(re.findall(r"^\| `(xrouter_\w+)` \|", section("Metrics"), re.MULTILINE)) == sorted(names)
