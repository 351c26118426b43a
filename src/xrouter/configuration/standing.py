"""What a process serves by, and what keeps it from the newest file: for its admins."""

from dataclasses import dataclass

from xrouter.configuration.picture import Picture


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
