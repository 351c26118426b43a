"""An explanation as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xrouter.core.decision import Considered, Explanation


def text(told: Explanation) -> str:
    """The head, the candidates in the order of trial, then those that were removed with the reason."""
    return "\n".join([*_head(told), "", *_rows(told)])


def _head(told: Explanation) -> Iterator[str]:
    yield f"configuration {told.revision}, seed {told.seed}"
    for name, strategy in told.strategies.items():
        more = f", rule {told.rules[name]!r}" if name in told.rules else ""
        more += f", canary {told.canaries[name]}" if name in told.canaries else ""
        yield f"{name}: strategy {strategy}{more}"
    if told.tokens is not None:
        yield f"expected: {told.tokens[0]} tokens of prompt, {told.tokens[1]} of answer"
    if told.panic:
        yield "panic: everybody is ejected, so that counts for nobody"
    if told.error is not None:
        yield f"refused: {told.error}"


def _rows(told: Explanation) -> Iterator[str]:
    header = ("#", "deployment", "score", "known", "why not")
    rows = [header, *(_row(one) for one in told.candidates)]
    if told.hidden:
        rows.append(("-", f"{told.hidden} more", "", "", "the key may not use them"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(one: Considered) -> tuple[str, ...]:
    why = one.moved or ""
    if one.removed is not None:
        why = f"{one.removed.filter}: {one.removed.reason}"
    place = "-" if one.place is None else str(one.place)
    return place, one.deployment, _terms(one.score), _terms(_telling(one.vitals)), why


def _telling(vitals: Mapping[str, Any]) -> dict[str, Any]:
    """What is there to be told."""
    return {name: value for name, value in vitals.items() if value not in (None, 0)}


def _terms(terms: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in terms.items())


def _short(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    return f"{value:.4g}"
