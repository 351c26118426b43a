"""Two JSON Schemas as one that demands what both demand."""

import math
from fractions import Fraction
from typing import Any, Final

from xrouter.simulators.json_schema import Unsatisfiable, equal, finds, types_of

_LARGER: Final = frozenset(
    ["minimum", "minLength", "minItems", "minProperties", "minContains", "exclusiveMinimum", "uniqueItems"]
)
_SMALLER: Final = frozenset(["maximum", "maxLength", "maxItems", "maxProperties", "maxContains", "exclusiveMaximum"])


def merge(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """One flat schema that demands what both demand. Raises Unsatisfiable where they contradict."""
    merged = {**right, **left}
    for key in left.keys() & right.keys():
        a, b = left[key], right[key]
        if key in ("choices", "forbidden", "further_patterns"):
            merged[key] = a + b
        elif key == "type":
            merged[key] = _common_types(types_of(left) or [], types_of(right) or [])
        elif key == "enum":
            merged[key] = [option for option in a if any(equal(option, other) for other in b)]
        elif key == "required":
            merged[key] = list(dict.fromkeys([*a, *b]))
        elif key in _LARGER:
            merged[key] = max(a, b)
        elif key in _SMALLER:
            merged[key] = min(a, b)
        elif key in ("properties", "patternProperties"):
            merged[key] = {**b, **a, **{name: {"allOf": [a[name], b[name]]} for name in a.keys() & b.keys()}}
        elif key in ("items", "additionalProperties", "propertyNames") and not isinstance(a, list):
            merged[key] = a if a == b else {"allOf": [a, b]}
        elif key == "multipleOf":
            merged[key] = _common_multiple(a, b)
    patterns = [schema["pattern"] for schema in (left, right) if "pattern" in schema]
    if len(patterns) > 1:
        merged["further_patterns"] = [*merged.get("further_patterns", []), patterns[1]]
    if "format" in left and "format" in right and left["format"] != right["format"]:
        # Text is written in one format; the other one is demanded as what must not be missed.
        merged["forbidden"] = [*merged.get("forbidden", []), {"not": {"format": right["format"]}}]
    _close(merged, left, right)
    _close(merged, right, left)
    return merged


def _common_types(left: list[str], right: list[str]) -> list[str]:
    common = [kind for kind in left if kind in right or (kind == "integer" and "number" in right)]
    common += ["integer"] if "integer" in right and "number" in left and "integer" not in common else []
    if not common:
        raise Unsatisfiable
    return common


def _common_multiple(left: float, right: float) -> float:
    a, b = Fraction(str(left)), Fraction(str(right))
    common = Fraction(math.lcm(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)
    return common.numerator if common.denominator == 1 else float(common)


def _close(merged: dict[str, Any], closed: dict[str, Any], other: dict[str, Any]) -> None:
    """A schema that forbids further properties forbids the other's, too."""
    if "additionalProperties" not in closed:
        return
    own = closed["additionalProperties"]
    names = other.get("properties", {}).keys() - closed.get("properties", {}).keys()
    for name in names:
        if not any(finds(pattern, name) for pattern in closed.get("patternProperties", {})):
            merged["properties"] = {**merged["properties"], name: {"allOf": [other["properties"][name], own]}}
