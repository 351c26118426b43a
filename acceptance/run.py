#!/usr/bin/env python3
"""Run the official SDKs, each in its own environment, against running simulators: `python acceptance/run.py`.

Run it with the project's interpreter: the simulators are started with it. The standard library is enough for
the rest; a lane for Node, Go or Java is skipped where there is none. `--url` and `--key` name a gateway that already
stands in front of the simulators given by `--simulators`; its lanes find it in XROUTER_ACCEPTANCE_URL and
XROUTER_ACCEPTANCE_KEY. The exit status is that of the first lane that failed.
"""

import argparse
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PYTHON, NODE, GO, JAVA = "requirements.lock", "package-lock.json", "go.sum", "pom.xml"
# The file that pins what a lane needs tells which kind it is; beside it the programs that must be on PATH.
KINDS = {PYTHON: (), NODE: ("node", "npm"), GO: ("go",), JAVA: ("mvn", "javac", "java")}
NPM_CI = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
GO_BUILD = ("go", "test", "-mod=readonly", "-vet=off", "-c", "-o", "lane.test", ".")
MVN_BUILD = (
    *("mvn", "--batch-mode", "--no-transfer-progress", "--quiet", "--strict-checksums"),
    *("dependency:copy-dependencies", "compiler:compile"),
)
JUNIT_TELLS = ("--disable-banner", "--details", "summary", "--fail-if-no-tests")
JUNIT = "org.junit.platform.console.ConsoleLauncher"
STAMP = "acceptance.lock-digest"
STOP_S = 10.0


def main() -> int:
    lanes = sorted(path.parent.name for lock in KINDS for path in HERE.glob(f"*/{lock}"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lanes", nargs="*", metavar="lane", help=f"of {', '.join(lanes)}; all if none is named")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "acceptance", help="where environments are kept")
    parser.add_argument("--simulators", help="base URL of simulators that run already")
    parser.add_argument("--url", help="base URL of a gateway in front of them")
    parser.add_argument("--key", help="a key of that gateway")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.lanes) - set(lanes)):
        parser.error(f"no such lane: {', '.join(unknown)}")
    with simulators(asked.simulators) as url, gateway(asked.url, asked.key, url) as (front, key):
        given = {
            "XROUTER_ACCEPTANCE_SIMULATORS": url,
            "XROUTER_ACCEPTANCE_URL": front,
            "XROUTER_ACCEPTANCE_KEY": key,
        }
        codes = [run(lane, asked.cache, given) for lane in asked.lanes or lanes]
    return next(filter(None, codes), 0)


@contextmanager
def simulators(running: str | None) -> Iterator[str]:
    """The base URL of `running` simulators, or of new ones that end with the block."""
    if running:
        yield running.rstrip("/")
        return
    with started("simulate", "--port", "0", "--pace-ms", "0") as url:
        yield url


@contextmanager
def gateway(running: str | None, key: str | None, simulators_url: str) -> Iterator[tuple[str, str]]:
    """Base URL and key of the `running` gateway, or of a new one that ends with the block."""
    if running:
        if not key:
            raise SystemExit("--url needs --key")
        yield running.rstrip("/"), key
        return
    fresh = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="xrouter-acceptance-") as directory:
        config = Path(directory) / "xrouter.yaml"
        config.write_text(json.dumps(configuration(simulators_url)))  # JSON is YAML
        settings = {
            "XROUTER_PORT": "0",
            "XROUTER_CONFIG": str(config),
            "XROUTER_DATA_DIR": str(Path(directory) / "data"),
            "XROUTER_BOOTSTRAP_KEY": fresh,
            "XROUTER_DRAIN_DELAY_S": "0",
            "XROUTER_LOG_LEVEL": "error",
        }
        with started("serve", **settings) as url:
            yield url, fresh


def configuration(simulators_url: str) -> dict[str, object]:
    """An operator's file with the simulators in the vendors' places: of each vendor a model for all that it serves."""
    price = {"input_rub_per_1m": 35, "output_rub_per_1m": 70}
    providers = {
        "gigachat": {
            "kind": "gigachat",
            "base_url": f"{simulators_url}/gigachat/v1",
            "auth_url": f"{simulators_url}/gigachat/api/v2/oauth",
            "api_key": "YWNjZXB0YW5jZTpzZWNyZXQ=",  # acceptance:secret, for the simulator only
            "scope": "GIGACHAT_API_CORP",
            "region": "ru",
            "tags": ["zdr"],
            "models": ["GigaChat-2", "Embeddings"],
        },
        "mts": {
            "kind": "mts",
            "base_url": f"{simulators_url}/mts/projects/demo/openai/v1",
            "api_key": "acceptance",
            "models": [{"name": "t-pro-it-2.1", "price": price}, "bge-m3", "bge-reranker-v2-m3"],
        },
        "tbank": {
            "kind": "tbank",
            "base_url": f"{simulators_url}/openai/v1",
            "models": [{"name": "t-pro-it-2.1", "price": price}, "bge-m3", "bge-reranker-v2-m3", "qwen-image"],
        },
        "yandex": {
            "kind": "yandexgpt",
            "base_url": f"{simulators_url}/yandex/v1",
            "api_key": "AQVNacceptance",
            "options": {"folder": "b1gsimulatedfolder00"},
            "models": ["yandexgpt", "qwen3-235b-a22b-fp8", "text-search-doc", "yandex-art"],
        },
    }
    aliases = {"both": ["gigachat/GigaChat-2", "tbank/t-pro-it-2.1"]}
    routes = {"routed": {"models": ["gigachat/GigaChat-2", "tbank/t-pro-it-2.1", "mts/t-pro-it-2.1"]}}
    return {"providers": providers, "aliases": aliases, "routes": routes, "simulated": True}


@contextmanager
def started(*command: str, **settings: str) -> Iterator[str]:
    """`xrouter <command>` until the block ends; the URL with which it announces itself."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("XROUTER_")}
    with subprocess.Popen(
        [sys.executable, "-m", "xrouter", *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**clean, "PYTHONPATH": path, **settings},
    ) as process:
        assert process.stdout is not None
        announced = process.stdout.readline().split()
        if not announced:
            raise SystemExit(f"`xrouter {command[0]}` did not start")
        try:
            yield announced[-1]
        finally:
            process.terminate()
            process.wait(STOP_S)


def python_of(lane: str, cache: Path) -> Path:
    """The interpreter of the lane's environment, made anew when its lock or the Python version changed."""
    lock = HERE / lane / "requirements.lock"
    folder = cache / lane
    python = folder / "bin" / "python"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    if _is_fresh(folder, digest) and python.exists():
        return python
    _begin(lane, folder)
    install = ["install", "--quiet", "--require-hashes", "--only-binary", ":all:", "--requirement", str(lock)]
    uv = shutil.which("uv")
    if uv:
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", *install, "--python", str(python)],
        ]
    else:
        commands = [[sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", *install]]
    for command in commands:
        subprocess.run(command, check=True)
    (folder / STAMP).write_text(digest)
    return python


def built(lane: str, cache: Path, command: Sequence[str]) -> Path:
    """A copy of the lane in which `command` has been run, made anew when a file of the lane changed."""
    folder = cache / lane
    files = sorted(path for path in (HERE / lane).iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files) + repr(command).encode()).hexdigest()
    if _is_fresh(folder, digest):
        return folder
    _begin(lane, folder)
    folder.mkdir()
    for path in files:
        shutil.copy(path, folder)
    subprocess.run([_program(command[0]), *command[1:]], cwd=folder, check=True)
    (folder / STAMP).write_text(digest)
    return folder


def _is_fresh(folder: Path, digest: str) -> bool:
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text() == digest


def _begin(lane: str, folder: Path) -> None:
    print(f"acceptance: making the environment of {lane}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def _program(name: str) -> str:
    return shutil.which(name) or name


def command_of(lane: str, kind: str, cache: Path) -> list[str]:
    """What runs the lane's tests, in the environment that is made for them here."""
    if kind == NODE:
        tests = sorted(built(lane, cache, NPM_CI).glob("*.test.mjs"))
        return [_program("node"), "--test", *map(str, tests)]
    if kind == GO:
        return [str(built(lane, cache, GO_BUILD) / "lane.test"), "-test.timeout=120s"]
    if kind == JAVA:
        target = built(lane, cache, MVN_BUILD) / "target"
        classes = str(target / "classes")
        path = os.pathsep.join([classes, str(target / "dependency" / "*")])
        return [_program("java"), "-cp", path, JUNIT, "execute", "--scan-classpath", classes, *JUNIT_TELLS]
    # The lane is the root, so that its folder is not taken for the package of the same name.
    root = str(HERE / lane)
    python = str(python_of(lane, cache))
    return [python, "-P", "-m", "pytest", "-c", str(HERE / "pytest.ini"), "--rootdir", root, root]


def run(lane: str, cache: Path, given: Mapping[str, str]) -> int:
    """Run the lane's tests in its own environment; returns their exit status, 0 for a lane that cannot run here."""
    kind = next(lock for lock in KINDS if (HERE / lane / lock).exists())
    if missing := [name for name in KINDS[kind] if not shutil.which(name)]:
        print(f"acceptance: {lane} is skipped: not on PATH: {', '.join(missing)}", flush=True)
        return 0
    # The vendors' SDKs read the environment themselves: nothing of the caller's account may reach them.
    foreign = ("OPENAI_", "OPENROUTER_", "ANTHROPIC_", "GIGACHAT_", "YC_", "PYTHON", "PYTEST_", "XROUTER_", "NODE_")
    foreign += ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    command = command_of(lane, kind, cache)
    print(f"acceptance: {lane}", flush=True)
    return subprocess.run(command, env={**clean, **given}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
