#!/usr/bin/env python3
"""Run the official SDKs, each in its own environment, against running simulators: `python acceptance/run.py`.

Run it with the project's interpreter: the simulators are started with it. The standard library is enough for
the rest. `--url` and `--key` name a gateway that already stands in front of the simulators given by
`--simulators`; its lanes find it in XROUTER_ACCEPTANCE_URL and XROUTER_ACCEPTANCE_KEY. The exit status is that of
the first lane that failed.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAMP = "acceptance.lock-digest"
STOP_S = 10.0


def main() -> int:
    lanes = sorted(path.parent.name for path in HERE.glob("*/requirements.lock"))
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
        codes = [run(lane, environment(lane, asked.cache), given) for lane in asked.lanes or lanes]
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
    """An operator's file with the simulators in the vendors' places."""
    providers = {
        "gigachat": {
            "kind": "gigachat",
            "base_url": f"{simulators_url}/gigachat/v1",
            "auth_url": f"{simulators_url}/gigachat/api/v2/oauth",
            "api_key": "YWNjZXB0YW5jZTpzZWNyZXQ=",  # acceptance:secret, for the simulator only
            "scope": "GIGACHAT_API_CORP",
            "models": ["GigaChat-2"],
        },
        "tbank": {
            "kind": "tbank",
            "base_url": f"{simulators_url}/openai/v1",
            "models": [{"name": "t-pro-it-2.1", "price": {"input_rub_per_1m": 35, "output_rub_per_1m": 70}}],
        },
    }
    aliases = {"both": ["gigachat/GigaChat-2", "tbank/t-pro-it-2.1"]}
    return {"providers": providers, "aliases": aliases, "simulated": True}


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


def environment(lane: str, cache: Path) -> Path:
    """The interpreter of the lane's environment, made anew when its lock or the Python version changed."""
    lock = HERE / lane / "requirements.lock"
    folder = cache / lane
    python = folder / "bin" / "python"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == digest and python.exists():
        return python
    print(f"acceptance: making the environment of {lane}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
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
    stamp.write_text(digest)
    return python


def run(lane: str, python: Path, given: Mapping[str, str]) -> int:
    """Run the lane's tests with its own interpreter; returns pytest's exit status."""
    print(f"acceptance: {lane}", flush=True)
    # The vendors' SDKs read the environment themselves: nothing of the caller's account may reach them.
    foreign = (
        "OPENAI_",
        "ANTHROPIC_",
        "GIGACHAT_",
        "PYTHON",
        "PYTEST_",
        "XROUTER_",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    )
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    # The lane is the root, so that its folder is not taken for the package of the same name.
    folder = str(HERE / lane)
    command = [str(python), "-P", "-m", "pytest", "-c", str(HERE / "pytest.ini"), "--rootdir", folder, folder]
    return subprocess.run(command, env={**clean, **given}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
