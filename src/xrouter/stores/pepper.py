"""The pepper: the secret under every key digest. One file in the data directory, made at the first start."""

import os
import secrets
from pathlib import Path
from typing import Final

from xrouter.core.ids import ulid
from xrouter.core.secret import Secret
from xrouter.stores.files import sync_directory

_SHORTEST: Final = 32


class PepperError(Exception):
    """The pepper file cannot be used. The message names the file and the mend."""


def load_pepper(path: Path) -> Secret:
    """The pepper in `path`; of several processes that find none, all get the one that was first.

    The file appears whole or not at all, synced, readable by its owner only. Raises `PepperError` for one
    that is too short or cannot be read: making a new one would turn every key into a stranger.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        _create(path)
        return _load(path)


def read_pepper(path: Path) -> Secret | None:
    """The pepper in `path`; None where there is no such file, and none is made. Raises `PepperError`."""
    try:
        return _load(path)
    except FileNotFoundError:
        return None


def _load(path: Path) -> Secret:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeError) as error:
        raise PepperError(f"{path}: cannot be read: {error}") from error
    if len(text) < _SHORTEST:
        raise PepperError(f"{path}: holds no pepper ({_SHORTEST} or more characters); restore it from a backup")
    return Secret(text)


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{ulid()}")
    fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_hex(32).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.link(fresh, path)  # unlike a rename, it never replaces what another process has just made
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    sync_directory(path.parent)
