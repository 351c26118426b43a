"""Reads the operator's file as a start would, and finds everything that is wrong with it."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

from xrouter.app import check
from xrouter.configuration.effective import Effective, load, read
from xrouter.core.deployment import Deployment
from xrouter.settings import ConfigError, Settings, draft_problems, sound_parts, sound_routes

_LINE = re.compile(r"[^\n]*?:(?P<line>[0-9]+): ")


def with_file(settings: Settings, file: Path | None) -> Settings:
    """The settings with this file, where one is named."""
    return settings if file is None else settings.model_copy(update={"config": file})


def read_all(settings: Settings) -> tuple[Effective, list[Deployment]]:
    """Raises `ConfigError` with all that is wrong, in the order of the lines."""
    found = read(settings, vendors=True)
    problems = draft_problems(found.draft)
    told = {_place(problem) for problem in problems}
    accounts, aliases, defaults = sound_parts(found.draft)
    routes, routing = sound_routes(found.draft)
    deployments, later = asyncio.run(check(settings, accounts, aliases, defaults, routes, routing))
    problems += [found.located(problem) for problem in later if problem.partition(": ")[0] not in told]
    if problems:
        raise ConfigError("\n".join(sorted(dict.fromkeys(problems), key=_line)))
    return load(settings, vendors=True), deployments


def _line(problem: str) -> int:
    found = _LINE.match(problem)
    return int(found["line"]) if found else 0


def _place(problem: str) -> str:
    found = _LINE.match(problem)
    return problem[found.end() :].partition(": ")[0] if found else ""


def moment(seconds: float) -> datetime:
    """A moment since the epoch, for people."""
    return datetime.fromtimestamp(seconds, UTC)
