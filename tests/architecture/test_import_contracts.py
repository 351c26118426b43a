"""Each import contract is broken on purpose, in a copy of the source, and must notice.

`floors` is broken once for every pair of packages that may not meet, so a package that moves or is added
without a thought shows up here as well.
"""

import itertools
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMPORT_LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = [contract["name"] for contract in IMPORT_LINTER["contracts"]]
FLOORS, STRANGERS, WEB, IO, RINGS = CONTRACTS
LAYERS = [[name.strip() for name in layer.split("|")] for layer in IMPORT_LINTER["contracts"][0]["layers"]]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `src/xrouter` that may be spoilt and that import-linter finds first."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("NO_COLOR", "1")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path / "src" / "xrouter"


def lint(copy: Path) -> tuple[dict[str, bool], str]:
    """Contract -> kept, and everything that was printed."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", copy.parents[1] / "pyproject.toml"],
        cwd=copy.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    kept = {name: f"{name} KEPT" in printed for name in CONTRACTS if f"{name} KEPT" in printed or name in printed}
    assert (done.returncode == 0) == (kept == dict.fromkeys(CONTRACTS, True)), printed
    return kept, printed


def add(copy: Path, module: str, source: str) -> None:
    """A new module `module` (dotted, below xrouter) with `source`; a plain module becomes longer instead."""
    single = copy / f"{module.split('.')[0]}.py"
    path = single if single.exists() else copy.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{source}\n")


def broken(copy: Path) -> set[str]:
    kept, _ = lint(copy)
    return {name for name in CONTRACTS if not kept.get(name)}


def forbidden_pairs() -> Iterator[tuple[str, str]]:
    """(importer, imported): everything upwards, and siblings both ways."""
    for (above, upper), (below, lower) in itertools.product(enumerate(LAYERS), repeat=2):
        for importer, imported in itertools.product(lower, upper):
            if below > above or (below == above and importer != imported):
                yield importer, imported


def test_the_tree_keeps_every_contract(copy: Path) -> None:
    kept, printed = lint(copy)
    assert kept == dict.fromkeys(CONTRACTS, True), printed


def test_the_layers_are_the_packages() -> None:
    source = ROOT / "src" / "xrouter"
    packages = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(itertools.chain(*LAYERS)) == sorted(packages - {"__init__", "__main__"})


def test_floors_notices_every_edge_that_it_forbids(copy: Path) -> None:
    pairs = list(forbidden_pairs())
    for importer, imported in pairs:
        add(copy, f"{importer}.spoilt_{imported}", f"import xrouter.{imported}")
    kept, printed = lint(copy)
    assert kept[FLOORS] is False
    blind = [
        (importer, imported)
        for importer, imported in pairs
        if f"xrouter.{importer} is not allowed to import xrouter.{imported}" not in printed
    ]
    assert len(pairs) > 60
    assert blind == []


def test_an_import_inside_a_function_does_not_hide(copy: Path) -> None:
    add(copy, "gateway.spoilt", "def late():\n    from xrouter.stores import journal\n    return journal")
    assert FLOORS in broken(copy)


def test_a_package_without_a_place_is_noticed(copy: Path) -> None:
    add(copy, "utils.__init__", "")
    assert broken(copy) == {FLOORS}


def test_a_provider_that_knows_another_is_noticed(copy: Path) -> None:
    add(copy, "providers.newcomer", "from xrouter.providers import gigachat")
    assert broken(copy) == {STRANGERS}


def test_a_provider_on_the_shared_exchange_is_welcome(copy: Path) -> None:
    add(copy, "providers.newcomer", "from xrouter.providers import _http, openai_compatible")
    assert broken(copy) == set()


@pytest.mark.parametrize("module", IMPORT_LINTER["contracts"][2]["source_modules"])
def test_a_web_framework_behind_the_door_is_noticed(copy: Path, module: str) -> None:
    add(copy, f"{module.removeprefix('xrouter.')}.spoilt", "def late():\n    import starlette.requests")
    assert broken(copy) == {WEB}


@pytest.mark.parametrize("library", ["aiohttp", "sqlalchemy", "sqlite3", "socket"])
def test_io_in_the_pipeline_is_noticed(copy: Path, library: str) -> None:
    add(copy, "gateway.spoilt", f"import {library}")
    assert broken(copy) == {IO}


def test_a_ring_inside_a_package_is_noticed(copy: Path) -> None:
    add(copy, "core.one", "from xrouter.core import other")
    add(copy, "core.other", "def late():\n    from xrouter.core import one\n    return one")
    assert broken(copy) == {RINGS}
