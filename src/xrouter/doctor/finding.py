"""What a check has found."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """`skipped`: could not be looked at, because of an earlier failure or because nobody can."""

    GOOD = "good"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is a provider, `configuration`, `database`, `redis` or `data directory`; `check` is what was looked
    at. `mend` says what to do."""

    subject: str
    check: str
    state: State
    words: str
    mend: str = ""


def good(subject: str, check: str, words: str) -> Finding:
    return Finding(subject, check, State.GOOD, words)


def warning(subject: str, check: str, words: str, mend: str) -> Finding:
    return Finding(subject, check, State.WARNING, words, mend)


def failed(subject: str, check: str, words: str, mend: str) -> Finding:
    return Finding(subject, check, State.FAILED, words, mend)


def skipped(subject: str, check: str, words: str) -> Finding:
    return Finding(subject, check, State.SKIPPED, words)
