"""What we depend on is written down with its reason, locked with its hash, and fetched from nowhere by name."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = [ROOT / "requirements" / "run.lock", ROOT / "requirements" / "dev.lock"]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0].lower().replace("_", "-")


def group(name: str) -> set[str]:
    """The packages of a dependency group, with the groups it includes."""
    found: set[str] = set()
    for entry in PROJECT["dependency-groups"][name]:
        found |= {name_of(entry)} if isinstance(entry, str) else group(entry["include-group"])
    return found


RUNTIME = {name_of(entry) for entry in PROJECT["project"]["dependencies"]}


def pins(lock: str) -> dict[str, list[str]]:
    """Requirement line -> its hash lines. Any other line is an error."""
    found: dict[str, list[str]] = {}
    for line in lock.splitlines():
        if re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z,-]+\])?==\S+( ; .+)? \\$", line):
            found[line.removesuffix(" \\")] = []
        elif re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line):
            found[list(found)[-1]].append(line)
        else:
            raise ValueError(f"not a pin and not a hash: {line!r}")
    return found


def test_each_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "decisions" / "0006-dependencies.md").read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", page, re.MULTILINE))
    assert sorted(reasons) == sorted(RUNTIME)
    assert [name for name, reason in reasons.items() if len(reason.split()) < 5] == []


DISTRIBUTION = {"yaml": "pyyaml", "prometheus_client": "prometheus-client", "pydantic_settings": "pydantic-settings"}
PART_OF = {"starlette": "fastapi", "pydantic_core": "pydantic"}
"""Packages that stand in the interface of one that we name: they come with it and keep its compatibility."""
NEVER_IMPORTED = {
    "asyncpg": "SQLAlchemy loads it by the URL",
    "httptools": "uvicorn's parser",
}


def imported() -> set[str]:
    """The distributions whose modules the product imports anywhere, in-function imports included."""
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    foreign = names - set(sys.stdlib_module_names) - {"xrouter"}
    return {PART_OF.get(name, DISTRIBUTION.get(name, name)) for name in foreign}


def test_what_is_imported_is_what_is_named() -> None:
    assert imported() - RUNTIME == set(), "imported, but only there because something else needs it"
    assert RUNTIME - imported() - set(NEVER_IMPORTED) == set(), "named, but used by nothing"


def test_they_are_few() -> None:
    assert len(RUNTIME) <= 25


EVERY_LOCK = [*LOCKS, *sorted(ROOT.glob("acceptance/*/requirements.lock"))]


@pytest.mark.parametrize("lock", EVERY_LOCK, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_pin_has_a_hash_and_no_line_names_a_host(lock: Path) -> None:
    found = pins(lock.read_text())
    assert [pin for pin, hashes in found.items() if not hashes] == []
    assert "://" not in lock.read_text()


def test_every_package_for_node_has_a_hash_and_none_names_a_host() -> None:
    locks = sorted(ROOT.glob("acceptance/*/package-lock.json"))
    assert locks
    for lock in locks:
        packages = json.loads(lock.read_text())["packages"]
        packages.pop("")
        assert packages
        assert all(package["integrity"].startswith("sha512-") for package in packages.values())
        assert "://" not in lock.read_text()


def test_every_module_for_go_has_a_hash_and_none_comes_from_elsewhere() -> None:
    locks = sorted(ROOT.glob("acceptance/*/go.sum"))
    assert locks
    for lock in locks:
        lines = lock.read_text().splitlines()
        assert lines
        assert [line for line in lines if not re.fullmatch(r"[\w./!-]+ v\S+ h1:[A-Za-z0-9+/]{43}=", line)] == []
        assert "replace" not in lock.with_name("go.mod").read_text()


def test_every_version_for_java_is_exact_and_nothing_names_a_host() -> None:
    poms = sorted(ROOT.glob("acceptance/*/pom.xml"))
    assert poms
    for pom in poms:
        text = pom.read_text().replace('xmlns="http://maven.apache.org/POM/4.0.0"', "")
        assert "://" not in text
        named = re.findall(r"<(?:dependency|plugin)>(.*?)</(?:dependency|plugin)>", text, re.DOTALL)
        assert named
        assert [one for one in named if not re.search(r"<version>\d[\w.-]*</version>", one)] == []


@pytest.mark.parametrize("line", ["--index-url https://example.com", "a @ https://example.com/a.whl", "a>=1", "# note"])
def test_any_other_line_in_a_lock_would_be_noticed(line: str) -> None:
    with pytest.raises(ValueError, match="not a pin"):
        pins(line)


def test_the_locks_hold_what_the_project_asks_for() -> None:
    run, dev = ({name_of(pin) for pin in pins(lock.read_text())} for lock in LOCKS)
    assert RUNTIME | group("build") <= run
    assert RUNTIME | group("dev") <= dev


def test_one_environment_serves_both_lanes() -> None:
    run, dev = (set(pins(lock.read_text())) for lock in LOCKS)
    versions = {pin.split(" ;")[0].split("[")[0] for pin in dev}
    assert [pin for pin in run if pin.split(" ;")[0].split("[")[0] not in versions] == []


@pytest.mark.parametrize("heavy", ["aiohttp", "alembic", "asyncpg", "cryptography", "redis", "sqlalchemy.orm"])
def test_a_worker_on_sqlite_does_not_load_what_it_does_not_need(heavy: str) -> None:
    """Each of them costs every start tenths of a second, and every worker megabytes."""
    program = f"import sys, xrouter.cli.serve, xrouter.app; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
