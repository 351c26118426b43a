"""The ways in which a simulated vendor can fail, by name.

A fault is asked for by a model id that ends in `+name`, or by a rule on the control endpoint. `K` is a decimal
number. Chunks are pieces of content (text, reasoning, tool calls); a role-only opening does not count. If the
answer has fewer than K chunks, the fault strikes before the finish.

    status-NNN           that status with the vendor's own error body
    html-502             an HTML body, as a proxy in front sends it
    retry-after-seconds  429, Retry-After: 1
    retry-after-date     429, Retry-After: an HTTP date one second ahead
    retry-after-ms       429, retry-after-ms: 500
    redirect             302 to another host name of this same server, where a followed redirect is counted
    slow-headers         no status line, ever
    slow-first           status and headers at once, the first token after `first_token_s` (a setting; one hour)
    stall-K              K chunks, then silence; not streamed: half the body, then silence
    ping-stall-K         the same, but comments keep coming every 50 ms; not streamed: blanks before the body
    reset-K              RST after K chunks, 0: before the status line; not streamed: after half the body
    eof-K                a body without length or chunks ends after K chunks; not streamed: Content-Length not reached
    chunked-cut-K        the connection ends without the terminating chunk; not streamed: after half the body
    clean-end-K          proper end after K chunks without finish and without [DONE]; not streamed: half the body
    no-done              complete with finish, but no [DONE] (a good answer)
    broken-json-K        chunk K, counted from 0, is cut JSON, the rest is well; not streamed: half the body
    error-K              `{"error": ...}` with status 200 after K chunks; not streamed: as the body
    empty                200 without events; not streamed: without a body
    bad-utf8             bytes that are not UTF-8 inside the first chunk
    huge-line            one line of 10 MB
    no-usage             no token counts
    wrong-usage          negative and 10^18
    slow-K               K ms between chunks; not streamed: K ms for each chunk that it would have had, before the whole
"""

import re
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

import msgspec

MAX_RULES: Final = 1_000

PLAIN: Final = frozenset(
    [
        "html-502",
        "retry-after-seconds",
        "retry-after-date",
        "retry-after-ms",
        "redirect",
        "slow-headers",
        "slow-first",
        "no-done",
        "empty",
        "bad-utf8",
        "huge-line",
        "no-usage",
        "wrong-usage",
    ]
)
NUMBERED: Final = frozenset(
    ["status", "stall", "ping-stall", "reset", "eof", "chunked-cut", "clean-end", "broken-json", "error", "slow"]
)
_WITH_NUMBER = re.compile(r"([a-z-]+)-([0-9]{1,9})")


class Fault(NamedTuple):
    """`name` without its number, and the number."""

    name: str
    k: int = 0

    def __str__(self) -> str:
        return f"{self.name}-{self.k}" if self.name in NUMBERED else self.name


NONE: Final = Fault("")


def parse(text: str) -> Fault | None:
    """The fault of that name, or None if there is none."""
    if text in PLAIN:
        return Fault(text)
    found = _WITH_NUMBER.fullmatch(text)
    if found is None or found[1] not in NUMBERED:
        return None
    fault = Fault(found[1], int(found[2]))
    return None if fault.name == "status" and not 400 <= fault.k <= 599 else fault


def hint(text: str) -> str | None:
    """None for the name of a fault; for anything else words that help, with the nearest name."""
    if parse(text) is not None:
        return None
    names = [*PLAIN, *(f"{name}-{'NNN' if name == 'status' else 'K'}" for name in NUMBERED)]
    near = get_close_matches(re.sub(r"-[0-9]+$", "-K", text), sorted(names), 1)
    return "the simulators know no such fault" + (f"; did you mean {near[0]}?" if near else "; docs/cli.md lists them")


def split(model: str) -> tuple[str, Fault]:
    """A model id without its `+fault`, and the fault. An unknown fault stays part of the id."""
    base, plus, name = model.rpartition("+")
    fault = parse(name) if plus else None
    return (base, fault) if fault is not None else (model, NONE)


class Rule(msgspec.Struct):
    """Break requests for models that match `model`, a glob; `times` None means until it is taken away."""

    model: str
    fault: str
    times: int | None = None


class Board:
    """Rules in the order they were set; the first that matches strikes."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    @property
    def rules(self) -> list[Rule]:
        return list(self._rules)

    def add(self, rule: Rule) -> None:
        """Raises ValueError for an unknown fault, a useless count, or more than `MAX_RULES` rules."""
        if parse(rule.fault) is None:
            raise ValueError(f"unknown fault {rule.fault!r}")
        if rule.times is not None and rule.times < 1:
            raise ValueError("times must be 1 or more, or null")
        if len(self._rules) >= MAX_RULES:
            raise ValueError(f"more than {MAX_RULES} rules")
        self._rules.append(rule)

    def remove(self, model: str) -> None:
        """Take away every rule that was set for exactly this glob."""
        self._rules = [rule for rule in self._rules if rule.model != model]

    def clear(self) -> None:
        self._rules.clear()

    def strike(self, model: str) -> Fault:
        """The fault for one request for `model`, used up by one; `NONE` if no rule matches."""
        for rule in self._rules:
            if fnmatchcase(model, rule.model):
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self._rules.remove(rule)
                return parse(rule.fault) or NONE
        return NONE
