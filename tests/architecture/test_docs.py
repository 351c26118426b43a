"""The pages say what the code does, or these tests fail."""

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

from xrouter.cli.commands import app
from xrouter.settings import Settings, parse_config
from xrouter.simulators import faults

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "xrouter"
DOCS = ROOT / "docs"
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
READMES = [ROOT / "README.md", ROOT / "README.ru.md"]
CONFIGURED = [*READMES, DOCS / "settings.md", DOCS / "adding-a-provider.md", DOCS / "gigachat.md"]
MAKE_TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named_files(page: str) -> Iterator[str]:
    """What a page names in backticks and what looks like a path of ours: it has a suffix, or ends in a slash."""
    for found in re.findall(r"`([\w./-]+)`", page):
        is_folder = found.endswith("/") and not found.startswith(("/", "."))
        if is_folder or re.search(r"\.(py|toml|md|lock|yml)$", found):
            yield found


def exists(name: str) -> bool:
    """Relative to the repository or to the package; a bare name may live anywhere in the package or the tests."""
    bare = name.rstrip("/")
    anywhere = [] if "/" in bare else [*SOURCE.rglob(bare), *(ROOT / "tests").rglob(bare)]
    places = [ROOT / name, SOURCE / name, *anywhere]
    return any(place.exists() for place in places)


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


# ── architecture.md ──────────────────────────────────────────────────────────────────────────────────────


def test_the_packages_on_the_page_are_the_packages() -> None:
    table = ARCHITECTURE.split("## Packages")[1].split("\n## ")[0]
    on_page = re.findall(r"^\| (\d) \| `(\w+)` \|", table, re.MULTILINE)
    packages = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(package for _, package in on_page) == sorted(packages - {"__init__", "__main__"})
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    floors = [(level, name.strip()) for level, row in enumerate(contract["layers"][::-1], 1) for name in row.split("|")]
    assert sorted((int(level), package) for level, package in on_page) == sorted(floors)


def steps_in(source: str, functions: tuple[str, ...]) -> list[str]:
    """`module.function` for each call on a module of `xrouter.gateway`, in the order of the text."""
    tree = ast.parse(source)
    modules = {
        name.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "xrouter.gateway"
        for name in node.names
    }
    bodies = {node.name: node for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    calls = [node for name in functions for node in ast.walk(bodies[name]) if isinstance(node, ast.Call)]
    return [
        f"{call.func.value.id}.{call.func.attr}"
        for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset))
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in modules
    ]


def test_the_steps_on_the_page_are_the_steps_of_the_pipeline() -> None:
    listed = re.findall(r"^\d+\. `(\w+\.\w+)`", ARCHITECTURE.split("## The pipeline")[1], re.MULTILINE)
    assert listed == steps_in((SOURCE / "gateway" / "pipeline.py").read_text(), ("admit", "converse"))


def test_a_step_more_would_be_noticed() -> None:
    source = (SOURCE / "gateway" / "pipeline.py").read_text()
    more = re.sub(r"^( +)plan = ", r"\1deadline.newcomer(call)\n\1plan = ", source, count=1, flags=re.MULTILINE)
    before, after = (steps_in(text, ("admit", "converse")) for text in (source, more))
    assert set(after) - set(before) == {"deadline.newcomer"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [name for name in named_files(text) if not exists(name)] == []
    links = [link for link in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", text) if not (page.parent / link).exists()]
    assert links == []


def test_a_file_that_is_gone_would_be_noticed() -> None:
    assert [name for name in named_files("see `gateway/gone.py` and `core/call.py`") if not exists(name)] == [
        "gateway/gone.py"
    ]


# ── generated and reference pages ────────────────────────────────────────────────────────────────────────


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_fresh() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == script("settings_page").page(), "run `make docs`"


def test_the_parameters_page_is_fresh() -> None:
    assert (DOCS / "parameters.md").read_text(encoding="utf-8") == script("parameters_page").page(), "run `make docs`"


def test_every_setting_has_words() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that lead to it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, found in inner.items():
        yield from commands(found, f"{path} {name}")


def test_every_command_and_option_is_on_the_page() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `([a-z ]+[a-z])[^`]*`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    root = typer.main.get_command(app)
    known = dict(commands(root, "xrouter"))
    assert sorted(sections) == sorted(known)
    for path, command in known.items():
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert [option for option in options - {"--help"} if f"`{option}" not in sections[path]] == [], path


# ── READMEs, CONTRIBUTING ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", [*READMES, ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_every_make_command_is_a_lane(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lanes = re.findall(r"(?:`|^|&& )make ([a-z][a-z-]*)", text, re.MULTILINE)
    lanes += [lane for loop in re.findall(r"^for lane in (.*);", text, re.MULTILINE) for lane in loop.split()]
    assert lanes
    assert [lane for lane in lanes if lane not in MAKE_TARGETS] == []


def test_the_first_block_of_the_readme_is_the_two_commands() -> None:
    for readme in READMES:
        first = code_blocks(readme.read_text(encoding="utf-8"), "sh")[0]
        assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]


def test_both_readmes_have_the_same_structure_and_commands() -> None:
    english, russian = (path.read_text(encoding="utf-8") for path in READMES)
    for part in (r"^(#+) ", r"^```(\w*)$", r"^(?:\| `([^`]+)` \|)"):
        assert re.findall(part, english, re.MULTILINE) == re.findall(part, russian, re.MULTILINE)
    for language in ("sh", "yaml", "python"):
        blocks = [[strip_words(block) for block in code_blocks(page, language)] for page in (english, russian)]
        assert blocks[0] == blocks[1]


def strip_words(block: str) -> str:
    """A block without comments and message texts, which are translated."""
    without_comments = re.sub(r"\s*#.*", "", block)
    return re.sub(r'("content": )"[^"]*"', r"\1…", without_comments)


@pytest.mark.parametrize("page", CONFIGURED, ids=lambda path: path.name)
def test_the_configuration_on_the_page_is_valid(page: Path) -> None:
    blocks = code_blocks(page.read_text(encoding="utf-8"), "yaml")
    assert blocks
    for block in blocks:
        data: Any = yaml.safe_load(re.sub(r"\$\{\w+\}", "x", block))
        assert parse_config(data, page.name).providers


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_shell_lines_parse(readme: Path) -> None:
    for block in code_blocks(readme.read_text(encoding="utf-8"), "sh"):
        assert shlex.split(block, comments=True)


# ── the repository ───────────────────────────────────────────────────────────────────────────────────────


def texts() -> Iterator[tuple[Path, str]]:
    for folder in ("src", "tests", "scripts", "docs", "campaigns", "benchmarks", "acceptance", ".ci", "."):
        pattern = "*" if folder == "." else "**/*"
        for path in sorted((ROOT / folder).glob(pattern)):
            if (
                path.is_file()
                and path.suffix in {".py", ".md", ".toml", ".c", ".sh", ""}
                and ".mypy_cache" not in path.parts
            ):
                yield path.relative_to(ROOT), path.read_text(encoding="utf-8", errors="replace")


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b")
    found = list(texts())
    assert len(found) > 50
    assert [str(path) for path, text in found if later.search(text)] == []


def test_decisions_are_numbered_and_complete() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives", "Files"], page.name
        files = page.read_text(encoding="utf-8").split("## Files")[1]
        assert list(named_files(files)), page.name


def test_the_faults_on_the_page_are_those_of_the_simulators() -> None:
    described = "    status-NNN" + (faults.__doc__ or "").partition("    status-NNN")[2].partition('"""')[0]
    page = (DOCS / "cli.md").read_text().partition("### Faults")[2].partition("```text\n")[2].partition("```")[0]
    names = re.findall(r"^    ([a-z0-9-]+(?:K|NNN)?) {2,}", described, re.MULTILINE)
    assert names == re.findall(r"^([a-z0-9-]+(?:K|NNN)?) {2,}", page, re.MULTILINE)
    assert len(names) > 15
