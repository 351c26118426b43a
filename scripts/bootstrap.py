#!/usr/bin/env python3
"""Make `.venv` and put the locked packages into it: `python3 scripts/bootstrap.py run|dev`.

`run` is what `make run` needs, `dev` what `make test` and `make check` need. Needs the standard library only.
Repeating it costs a few hundredths of a second when nothing changed; a `.venv` that was cut off half-made is
made again. Every package comes from the lock with its hash checked, as a wheel, so nothing else is fetched.

Fresh machines differ, so there is more than one way to each of the two things needed, tried in this order:
an environment by uv, `python -m venv`, virtualenv, `venv --without-pip`; then an installer: uv, the
environment's own pip, another pip that is about (the interpreter's, Debian's wheel, another Python's). When no
interpreter on PATH can do it and we are root on Debian, python3-venv is installed; else a message says what to do.

The syntax of this file stays readable for Python 3.6, so that an old `python3` can look for a newer one.
"""

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "bootstrap.json"  # what was installed; written last
UNFINISHED = VENV / "bootstrap.unfinished"  # stands while packages are being written
OLDEST = (3, 11)
NEWEST_TESTED = (3, 14)
WHEELS_OF_DEBIAN = Path("/usr/share/python-wheels")  # python3-pip-whl: run in place, a wheel is a zip


class Failure(Exception):
    """Cannot go on; the message is for the person at the keyboard."""


def say(text):
    sys.stderr.write("bootstrap: " + text + "\n")
    sys.stderr.flush()


def attempt(*command):
    """Run quietly. True when it worked; what it said last is kept for the final message."""
    try:
        done = subprocess.run(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        attempt.complaints.append("{}: {}".format(command[0], error.strerror))
        return False
    if done.returncode:
        said = " ".join(done.stdout.decode("utf-8", "replace").split("\n\n")[0].split()) or str(done.returncode)
        attempt.complaints.append("{}: {}".format(" ".join(map(str, command[:4])), said[-300:]))
    return done.returncode == 0


attempt.complaints = []


def version_of(python):
    """(3, 11) of an interpreter, or None when it does not run."""
    try:
        done = subprocess.run(
            [str(python), "-c", "import sys; print(*sys.version_info[:2])"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError):
        return None


# ── interpreters ─────────────────────────────────────────────────────────────────────────────────────────


def interpreters():
    """Suitable interpreters, best first: $PYTHON alone if it is set; else the running one, then PATH, newest first."""
    asked = os.environ.get("PYTHON")
    if asked:
        found = version_of(asked)
        if found is None or found < OLDEST:
            what = "does not run" if found is None else "is Python {}.{}".format(*found)
            raise Failure("PYTHON={} {}; XRouter needs Python {}.{} or newer".format(asked, what, *OLDEST))
        return [asked]
    names = ["python3." + str(minor) for minor in range(NEWEST_TESTED[1], OLDEST[1] - 1, -1)] + ["python3"]
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"]
    running = [sys.executable] if sys.version_info >= OLDEST else []
    candidates = running + [str(Path(folder) / name) for name, folder in itertools.product(names, folders)]
    there = [path for path in candidates if os.access(path, os.X_OK) and VENV not in Path(path).parents]
    by_file = {
        str(Path(path).resolve()): path for path in reversed(there)
    }  # /bin may be /usr/bin; the first name stays
    return [
        path for path in dict.fromkeys(there) if path in by_file.values() and (version_of(path) or (0, 0)) >= OLDEST
    ]


def run_on_a_newer_python():
    """Replace this process, which runs on an old Python, by one on a suitable interpreter."""
    found = interpreters()
    uv = shutil.which("uv")
    if not found and uv:
        done = subprocess.run([uv, "python", "find", ">=3.11"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        found = [done.stdout.decode().strip()] if done.returncode == 0 else []
    if not found:
        raise Failure(
            "this is Python {}.{}, and XRouter needs {}.{} or newer, which is not on PATH.\n"
            "  Debian, Ubuntu: apt-get install python3 python3-venv      Fedora, RHEL: dnf install python3.12\n"
            "  macOS: brew install python                                anywhere: uv python install 3.13".format(
                *(sys.version_info[:2] + OLDEST)
            )
        )
    os.execv(found[0], [found[0], str(Path(__file__).resolve()), *sys.argv[1:]])


# ── the environment ──────────────────────────────────────────────────────────────────────────────────────


def discard():
    """Take `.venv` away. Renamed first, so that a cut-off removal never looks like an environment."""
    if VENV.exists() or VENV.is_symlink():
        VENV.rename(VENV.with_name(".venv.old-{}".format(os.getpid())))
    for leftover in ROOT.glob(".venv.old-*"):
        if leftover.is_symlink():
            leftover.unlink()
        else:
            shutil.rmtree(str(leftover), ignore_errors=True)


def environment_works():
    """True when `.venv` was finished once, here, and its interpreter still runs."""
    if UNFINISHED.exists() or not (VENV / "pyvenv.cfg").exists():
        return False
    version = version_of(PYTHON)
    if version is None or version < OLDEST:
        return False
    asked = os.environ.get("PYTHON")
    if asked and version_of(asked) != version:
        return False
    stamp = read_stamp()
    return stamp.get("folder", str(ROOT)) == str(ROOT) and stamp.get("python", list(version)) == list(version)


def created(*command):
    """Run one way of making `.venv`; True when an interpreter stands in it afterwards."""
    discard()
    VENV.mkdir()
    UNFINISHED.touch()
    return attempt(*command) and version_of(PYTHON) is not None


def environments(python, uv):
    """Ways to make `.venv` on `python`, each tried when the generator is advanced to it."""
    if uv:
        yield created(uv, "venv", "--quiet", "--allow-existing", "--python", python, VENV)
    yield created(python, "-m", "venv", VENV)
    if shutil.which("virtualenv"):
        yield created(shutil.which("virtualenv"), "--quiet", "--python", python, VENV)
    yield created(python, "-m", "virtualenv", "--quiet", VENV)
    yield created(python, "-m", "venv", "--without-pip", VENV)


def installers(uv):
    """Commands, each a list of words, that install into `.venv` when `install ...` is appended."""
    if uv and attempt(uv, "pip", "list", "--quiet", "--python", PYTHON):
        yield [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    if attempt(PYTHON, "-m", "pip", "--version"):
        yield [str(PYTHON), "-m", "pip", "install", "--quiet"]
    for wheel in sorted(WHEELS_OF_DEBIAN.glob("pip-*.whl"), reverse=True):
        if attempt(PYTHON, wheel / "pip", "--version"):
            yield [str(PYTHON), str(wheel / "pip"), "install", "--quiet"]
    for python in interpreters():
        if attempt(python, "-m", "pip", "--python", PYTHON, "--version"):
            yield [python, "-m", "pip", "--python", str(PYTHON), "install", "--quiet"]


def make_environment(uv):
    """A `.venv` that has an installer; returns it. Raises `Failure` when every way was tried."""
    found = interpreters()
    if not found:
        raise Failure("no Python {}.{} or newer on PATH".format(*OLDEST))
    for python in found:
        for made in environments(python, uv):
            installer = next(installers(uv), None) if made else None
            if installer:
                return installer
    discard()
    return None


def install_debian_packages():
    """python3-venv and python3-pip by apt-get, when that is possible. True when it was done."""
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0:
        return False
    say("this Python can make no environment; installing python3-venv and python3-pip by apt-get")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    command = (apt, "install", "-y", "--no-install-recommends", "python3-venv", "python3-pip")
    return attempt(*command) or (attempt(apt, "update") and attempt(*command))


# ── packages ─────────────────────────────────────────────────────────────────────────────────────────────


def lock_of(group):
    return ROOT / "requirements" / (group + ".lock")


def fingerprint(group):
    """Changes whenever an installation would: with the lock, or with how the project itself is built."""
    import tomllib  # noqa: PLC0415 - Python 3.11 has it, and an older one comes no further than main()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    built = [project.get("build-system"), project.get("project"), project.get("tool", {}).get("hatch")]
    return hashlib.sha256(lock_of(group).read_bytes() + json.dumps(built).encode()).hexdigest()


def read_stamp():
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def up_to_date(group):
    """`dev` holds everything that `run` holds, so it serves for both."""
    stamp = read_stamp()
    return any(
        stamp.get("group") == installed and stamp.get("fingerprint") == fingerprint(installed)
        for installed in {group, "dev"}
    )


def install(group, installer):
    """Install the lock, then the project itself, editable. True when both worked."""
    UNFINISHED.touch()
    if STAMP.exists():
        STAMP.unlink()
    locked = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", str(lock_of(group))]
    project = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    commands = [[*installer, *words] for words in (locked, project)]
    return all(subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 0 for command in commands)


def write_stamp(group):
    stamp = {"group": group, "fingerprint": fingerprint(group), "folder": str(ROOT), "python": version_of(PYTHON)}
    STAMP.write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    UNFINISHED.unlink()


def bootstrap(group):
    if environment_works():
        if up_to_date(group):
            return
        group = "dev" if read_stamp().get("group") == "dev" else group  # what was there stays there
        installer = next(installers(shutil.which("uv")), None)
    else:
        installer = None
    uv = shutil.which("uv")
    if installer is None:
        installer = make_environment(uv) or (make_environment(None) if install_debian_packages() else None)
    if installer is None:
        raise Failure(
            "found no way to make a virtual environment. Any one of these helps, then run it again:\n"
            "  Debian, Ubuntu: apt-get install python3-venv              anywhere: install uv or virtualenv\n"
            "What was tried:\n  " + "\n  ".join(dict.fromkeys(attempt.complaints))
        )
    say(
        "installing {} into .venv (Python {}.{}) with {}".format(
            lock_of(group).relative_to(ROOT), *version_of(PYTHON), "uv" if installer[0] == uv else "pip"
        )
    )
    if not install(group, installer):
        installer = make_environment(None) if installer[0] == uv else None
        if installer:
            say("uv could not do it; trying pip")
        if installer is None or not install(group, installer):
            raise Failure(
                "the packages could not be installed; the reason is above. If it is the network: pip and uv take\n"
                "  an index from their own settings (PIP_INDEX_URL, UV_INDEX_URL) and a proxy from HTTPS_PROXY."
            )
    write_stamp(group)


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "dev"):
        raise Failure("usage: python3 scripts/bootstrap.py run|dev")
    if sys.version_info < OLDEST:
        run_on_a_newer_python()
    for name in ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV"):
        os.environ.pop(name, None)  # they would send packages elsewhere
    with Path(__file__).open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # two lanes may start at once
        bootstrap(sys.argv[1])


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        say(str(failure))
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the next start goes on")
        sys.exit(130)
