"""JSON Schemas as clients of structured output write them, made from a number."""

from random import Random
from typing import Any

DEFINITIONS: dict[str, Any] = {
    "word": {"type": "string", "minLength": 2, "maxLength": 12},
    "point": {
        "type": "object",
        "properties": {"x": {"type": "number", "minimum": -90, "maximum": 90}, "y": {"type": "integer"}},
        "required": ["x", "y"],
        "additionalProperties": False,
    },
    # Ends because one way out does.
    "tree": {
        "type": "object",
        "properties": {
            "value": {"type": "integer", "minimum": 0},
            "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
            "right": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]},
        },
        "required": ["value", "left", "right"],
        "additionalProperties": False,
    },
    # Ends because an array may be empty.
    "person": {
        "type": "object",
        "properties": {
            "name": {"$ref": "#/$defs/word"},
            "friends": {"type": "array", "items": {"$ref": "#/$defs/person"}, "maxItems": 2},
        },
        "required": ["name", "friends"],
        "additionalProperties": False,
    },
}
FORMATS = ("date", "date-time", "email", "uuid", "ipv4", "uri")
PATTERNS = (r"^[A-Z]{2}-\d{4}$", r"^\+7\d{10}$", r"^(красный|синий)$", r"^v\d+\.\d+$")
NAMES = ("город", "days", "email", "items", "kind", "node", "x-y", "enum", "type", "a b")
ENUMS: tuple[list[Any], ...] = (
    ["celsius", "fahrenheit"],
    [1, 2, 3],
    [0.5, 1.5],
    [True],
    ["one", 2, None],
    ["да", "нет", "не знаю"],
)


def schema_of(number: int) -> dict[str, Any]:
    """Schema number so-and-so: an object, as the vendors want it, that can be satisfied."""
    rng = Random(number)
    return {**_object(rng, 0), "$defs": DEFINITIONS}


def _object(rng: Random, depth: int) -> dict[str, Any]:
    names = rng.sample(NAMES, rng.randint(1, 4))
    properties = {name: _any(rng, depth + 1) for name in names}
    if rng.random() < 0.7:  # the strict form: nothing more, and nothing less
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    return {"type": "object", "properties": properties, "required": rng.sample(names, rng.randint(0, len(names)))}


def _any(rng: Random, depth: int) -> dict[str, Any]:
    makers = [_string, _number, _constant, _reference, _nullable]
    if depth < 4:
        makers += [_object, _array, _array, _choice]
    return rng.choice(makers)(rng, depth)


def _string(rng: Random, _depth: int) -> dict[str, Any]:
    least = rng.randint(0, 20)
    more: dict[str, Any] = rng.choice(
        [
            {},
            {"format": rng.choice(FORMATS)},
            {"pattern": rng.choice(PATTERNS)},
            {"minLength": least, "maxLength": least + rng.randint(0, 5)},
        ]
    )
    return {"type": "string", **more}


def _number(rng: Random, _depth: int) -> dict[str, Any]:
    low = rng.randint(-50, 50)
    wide = rng.choice([{"maximum": low + 9}, {"exclusiveMaximum": low + 9}, {}])
    tight = rng.choice([{"minimum": low}, {"exclusiveMinimum": low}])
    kind = rng.choice(["integer", "number"])
    step = {"multipleOf": rng.choice([2, 5] if kind == "integer" else [0.5, 0.25])} if rng.random() < 0.3 else {}
    return {"type": kind, **tight, **wide, **step}


def _constant(rng: Random, _depth: int) -> dict[str, Any]:
    return rng.choice([{"enum": rng.choice(ENUMS)}, {"const": rng.choice([7, "seven", None])}, {"type": "boolean"}])


def _reference(rng: Random, _depth: int) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{rng.choice(list(DEFINITIONS))}"}


def _nullable(rng: Random, depth: int) -> dict[str, Any]:
    if rng.random() < 0.3:
        return {"type": ["string", "null"]}
    options = [_any(rng, depth + 1), {"type": "null"}]
    rng.shuffle(options)
    return {"anyOf": options, "description": "may be missing"}


def _array(rng: Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    if rng.random() < 0.2:
        return {"type": "array", "items": {"type": "integer"}, "minItems": least, "uniqueItems": True}
    bound = {"maxItems": least + rng.randint(0, 2)} if rng.random() < 0.5 else {}
    return {"type": "array", "items": _any(rng, depth + 1), "minItems": least, **bound}


def _choice(rng: Random, depth: int) -> dict[str, Any]:
    """Objects that are told apart by a constant, as schema libraries write a union."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "payload": _any(rng, depth + 1)},
                "required": ["kind", "payload"],
                "additionalProperties": False,
            }
            for kind in ("first", "second")
        ]
    }
