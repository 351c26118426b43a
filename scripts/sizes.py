"""Prints where the code is longest, most leant on and most changed: `make sizes`.

A signal, no gate: a name in two of the lists is where the next refactoring belongs.
"""

import ast
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
SHOWN = 10
COMMITS = 100


def show(title: str, rows: Iterable[tuple[str, int]]) -> None:
    print(f"\n{title}")
    for name, number in sorted(rows, key=lambda row: -row[1])[:SHOWN]:
        print(f"  {number:6}  {name}")


def functions(path: Path, tree: ast.Module) -> Iterable[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def imports(tree: ast.Module) -> Iterable[str]:
    """Our own modules that a file names in its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("xrouter"):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if (SOURCE / (inner.replace(".", "/") + ".py")).exists() else node.module


def changes() -> Counter[str]:
    """How often each file was changed in the last commits; empty outside of a repository."""
    git = shutil.which("git")
    if git is None:
        return Counter()
    command = [git, "-C", str(ROOT), "log", f"-{COMMITS}", "--name-only", "--format=", "--", "src"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return Counter(line for line in listed.splitlines() if line and (ROOT / line).exists())


def main() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in trees}
    print(f"{len(trees)} files, {sum(lines.values())} lines")
    show("longest files", ((str(path.relative_to(SOURCE)), count) for path, count in lines.items()))
    show("longest functions", (row for path, tree in trees.items() for row in functions(path, tree)))
    show("most imported modules", Counter(name for tree in trees.values() for name in set(imports(tree))).items())
    show(f"most changed files of the last {COMMITS} commits", changes().items())


if __name__ == "__main__":
    main()
