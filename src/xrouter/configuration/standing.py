"""What a process serves by, and what keeps it from the newest file: for its admins, and for `xrouter config plan`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from xrouter.configuration.picture import Picture

_NAME: Final = "serving.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """`picture` is what is served, `revision` its name, `since` when it was taken over, in seconds since the epoch;
    `problems` are what is wrong with the newest configuration, each with its line, and `problems_since` when that was
    noticed; empty and None while the newest one is in use."""

    picture: Picture
    revision: str
    since: float
    problems: tuple[str, ...] = ()
    problems_since: float | None = None


class Served(msgspec.Struct, frozen=True):
    """What stands in the data directory: the last that a process of this host served by."""

    revision: str
    since: float
    serving: Picture


def leave(standing: Standing, data_dir: Path) -> None:
    """Write it into the data directory, in one step. Raises OSError."""
    fresh = data_dir / f"{_NAME}.{os.getpid()}"
    fresh.write_bytes(msgspec.json.encode(Served(standing.revision, standing.since, standing.picture)))
    fresh.replace(data_dir / _NAME)


def left(data_dir: Path) -> Served | None:
    """What a process of this host served by last; None where none ever did. Raises ValueError for a broken file."""
    try:
        return msgspec.json.decode((data_dir / _NAME).read_bytes(), type=Served)
    except FileNotFoundError:
        return None
