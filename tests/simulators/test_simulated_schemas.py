"""Tool arguments and JSON answers satisfy whatever schema they are asked for."""

import json
import math
import re
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xrouter.simulators import patterns
from xrouter.simulators.answers import Question, Tool, answer
from xrouter.simulators.json_schema import accepts
from xrouter.simulators.schema_example import example

# The judge of this test: another reading of JSON Schema than the one the simulators use, as a list of complaints.
KINDS = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
FORMATS = {
    "date": r"\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "email": r"[^@\s]+@[^@\s]+\.\w+",
    "uuid": r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
    "ipv4": r"(\d{1,3}\.){3}\d{1,3}",
    "uri": r"https?://\S+",
}


def same(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def is_kind(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return numeric and (kind == "number" or float(value).is_integer())
    return isinstance(value, KINDS[kind])


def complaints(schema: Any, value: Any, root: Any, at: str = "$") -> list[str]:
    if schema in (True, {}):
        return []
    if schema is False:
        return [f"{at}: nothing is allowed"]
    found: list[str] = []

    def check(fine: bool, what: str) -> None:
        if not fine:
            found.append(f"{at}: {value!r} breaks {what}")

    if "$ref" in schema:
        target = root
        for step in schema["$ref"].lstrip("#/").split("/"):
            target = target[step] if step else target
        found += complaints(target, value, root, at)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    check(not kinds or any(is_kind(value, kind) for kind in kinds), f"type {kinds}")
    check("enum" not in schema or any(same(value, option) for option in schema["enum"]), "enum")
    check("const" not in schema or same(value, schema["const"]), "const")
    for part in schema.get("allOf", []):
        found += complaints(part, value, root, at)
    for word, right in (("anyOf", lambda n: n >= 1), ("oneOf", lambda n: n == 1)):
        if word in schema:
            check(right(sum(not complaints(part, value, root, at) for part in schema[word])), word)
    if "not" in schema:
        check(bool(complaints(schema["not"], value, root, at)), "not")
    if isinstance(value, str):
        check(schema.get("minLength", 0) <= len(value), "minLength")
        check(len(value) <= schema.get("maxLength", 10**9), "maxLength")
        check(re.search(schema.get("pattern", ""), value) is not None, f"pattern {schema.get('pattern')}")
        check(re.fullmatch(FORMATS.get(schema.get("format", ""), r"(?s).*"), value) is not None, "format")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(str(value))
        check("minimum" not in schema or number >= Decimal(str(schema["minimum"])), "minimum")
        check("maximum" not in schema or number <= Decimal(str(schema["maximum"])), "maximum")
        check("exclusiveMinimum" not in schema or number > Decimal(str(schema["exclusiveMinimum"])), "exclusiveMinimum")
        check("exclusiveMaximum" not in schema or number < Decimal(str(schema["exclusiveMaximum"])), "exclusiveMaximum")
        check("multipleOf" not in schema or number % Decimal(str(schema["multipleOf"])) == 0, "multipleOf")
    elif isinstance(value, list):
        check(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9), "minItems/maxItems")
        check(
            not schema.get("uniqueItems") or len({json.dumps(v, sort_keys=True) for v in value}) == len(value), "uniq"
        )
        first = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            part = first[index] if index < len(first) else schema.get("items", True)
            found += complaints(part, item, root, f"{at}[{index}]")
    elif isinstance(value, dict):
        check(set(schema.get("required", [])) <= set(value), f"required {schema.get('required')}")
        check(schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 10**9), "min/maxProperties")
        for name, item in value.items():
            if name in schema.get("properties", {}):
                found += complaints(schema["properties"][name], item, root, f"{at}.{name}")
            else:
                found += complaints(schema.get("additionalProperties", True), item, root, f"{at}.{name}")
    return found


# Schemas that can be satisfied, by the way they are made.
NAMES = ["city", "days", "email", "items", "kind", "имя", "node", "x-y", "$id0", "a b"]
PATTERNS = [
    r"^[A-Z]{2}-\d{4}$",
    r"^\+7\d{10}$",
    r"^(red|green|blue)$",
    r"^[а-яё]+( [а-яё]+)*$",
    r"^v\d+\.\d+(\.\d+)?$",
    r"[0-9a-f]{8}",
    r"^(?:\w{1,3}:){2}\w$",
    r"^[^\s@]+@[^\s@]+\.(ru|com)$",
    r"^#?([a-f0-9]{6}|[a-f0-9]{3})$",
    r"^[\w.-]+\/[\w.-]+$",
    r"^\S{3,}$",
    r"^$|^ok$",
]
scalars = st.one_of(st.text(max_size=8), st.integers(-1000, 1000), st.booleans(), st.none())


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["plain", "pattern", "format", "length"]))
    more: dict[str, Any] = {}
    if kind == "pattern":
        more = {"pattern": draw(st.sampled_from(PATTERNS))}
    elif kind == "format":
        more = {"format": draw(st.sampled_from([*FORMATS, "unknown-format"]))}
    elif kind == "length":
        least = draw(st.integers(0, 30))
        more = {"minLength": least, "maxLength": least + draw(st.integers(0, 10))}
    return {"type": "string", **more}


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    low = draw(st.integers(-50, 50))
    schema: dict[str, Any] = {"type": kind}
    step = draw(st.sampled_from([None, None, 1, 5, 0.5, 0.01]))
    if step is not None:
        schema["multipleOf"] = step
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        # Wide enough for a multiple of five between excluded ends.
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + draw(st.integers(6, 60))
    if step is None and kind == "number" and draw(st.booleans()):
        schema |= {"exclusiveMinimum": low, "exclusiveMaximum": low + draw(st.sampled_from([0.001, 0.5]))}
        schema.pop("minimum", None)
        schema.pop("maximum", None)
    return schema


@st.composite
def objects(draw: st.DrawFn, parts: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from(NAMES), parts, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    extra = draw(st.sampled_from([None, True, False, {"type": "integer"}]))
    if extra is not None:
        schema["additionalProperties"] = extra
    if draw(st.booleans()):
        schema["maxProperties"] = len(required) + draw(st.integers(0, 2))
    elif extra is not False and draw(st.booleans()):
        schema["minProperties"] = draw(st.integers(0, 5))
    return schema


@st.composite
def arrays(draw: st.DrawFn, parts: st.SearchStrategy[Any]) -> dict[str, Any]:
    least = draw(st.integers(0, 3))
    schema: dict[str, Any] = {"type": "array", "items": draw(parts), "minItems": least}
    if draw(st.booleans()):
        schema["maxItems"] = least + draw(st.integers(0, 3))
    if draw(st.booleans()):
        schema |= {"items": draw(st.sampled_from([{"type": "integer"}, {"type": "string"}])), "uniqueItems": True}
    if draw(st.booleans()):
        schema["prefixItems"] = draw(st.lists(parts, max_size=2))
        schema.pop("uniqueItems", None)
    return schema


def combined(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    apart = [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "null"}, {"type": "array"}]
    return st.one_of(
        objects(parts),
        arrays(parts),
        st.lists(parts, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
        st.lists(st.sampled_from(apart), min_size=1, max_size=4, unique_by=str).map(lambda some: {"oneOf": some}),
        st.tuples(parts, parts).map(
            lambda two: {
                "allOf": [
                    {"type": "object", "properties": {"left": two[0]}, "required": ["left"]},
                    {"type": "object", "properties": {"right": two[1]}, "required": ["right"]},
                ]
            }
        ),
        parts.map(lambda part: {"allOf": [part], "description": "one"}),
        parts.map(lambda part: {"anyOf": [part, {"type": "null"}]}),
        st.sampled_from([{"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/list"}, {"$ref": "#/$defs/word"}]),
    )


schemas = st.recursive(
    st.one_of(
        strings(),
        numbers(),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({"type": ["string", "null"]}),
        st.just({}),
        st.lists(scalars, min_size=1, max_size=4).map(lambda some: {"enum": some}),
        scalars.map(lambda one: {"const": one}),
        st.just({"type": "string", "not": {"enum": ["вода", "north"]}}),
    ),
    combined,
    max_leaves=12,
)
DEFINITIONS = {
    "word": {"type": "string", "minLength": 1},
    # Ends only because one way out of `anyOf` does.
    "tree": {
        "type": "object",
        "properties": {
            "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
            "right": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]},
        },
        "required": ["left", "right"],
        "additionalProperties": False,
    },
    # Ends only because an array may be empty.
    "list": {
        "type": "object",
        "properties": {"next": {"type": "array", "items": {"$ref": "#/$defs/list"}}},
        "required": ["next"],
    },
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas, st.integers(0, 2**32))
def test_answers_satisfy_generated_schemas(schema: Any, seed: int) -> None:
    root = {**schema, "$defs": DEFINITIONS}
    said = answer(Question("дай", json_schema=root), Random(seed))
    assert complaints(root, json.loads(said.text), root) == []

    parameters = {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "additionalProperties": False,
        "$defs": DEFINITIONS,
    }
    (call,) = answer(Question("дай", tools=[Tool("f", parameters)], call="auto"), Random(seed)).calls
    assert complaints(parameters, json.loads(call.arguments_json), parameters) == []


@settings(max_examples=200, deadline=None)
@given(schemas, scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from(NAMES), scalars, max_size=3))
def test_the_two_judges_agree(schema: Any, value: Any) -> None:
    root = {**schema, "$defs": DEFINITIONS}
    # Formats that only one of them knows are left out by the values: none looks like one.
    if "format" not in json.dumps(schema):
        assert accepts(root, value) is (complaints(root, value, root) == [])


@pytest.mark.parametrize(
    "schema",
    [
        # What schema libraries write: pydantic's optional, discriminated union, draft 4 and draft 7 spellings.
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}}},
        {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "null"}}, "required": ["kind"]},
                {"type": "object", "properties": {"kind": {"const": "b"}, "s": {"type": "null"}}, "required": ["kind"]},
            ]
        },
        {"type": "number", "minimum": 3, "exclusiveMinimum": True, "maximum": 4},
        {"type": "array", "items": [{"type": "string"}, {"type": "integer"}], "additionalItems": False, "minItems": 2},
        {"definitions": {"x/y": {"const": 5}}, "$ref": "#/definitions/x~1y"},
        {
            "type": "object",
            "properties": {"pay": {"enum": ["card", "cash"]}, "card": {"type": "string"}},
            "required": ["pay"],
            "if": {"properties": {"pay": {"const": "card"}}},
            "then": {"required": ["card"]},
        },
        {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"], "dependentRequired": {"a": ["b"]}},
        {"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "minProperties": 2,
         "additionalProperties": False},
        {"type": "object", "propertyNames": {"pattern": "^[a-z]{3}$"}, "minProperties": 2},
        {"type": "array", "contains": {"const": 7}, "minItems": 3, "items": {"type": "integer"}},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3},
        {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2},
        {"allOf": [{"type": "integer", "minimum": 3}, {"type": "number", "maximum": 9, "multipleOf": 2}]},
        {"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "b$"}]},
        {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"minimum": 5},
        {"enum": [1, "a", None], "type": "string"},
        {"type": "integer", "multipleOf": 1.5},
        {"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35},
        {"not": {"type": "string"}, "type": ["string", "integer"]},
    ],
)  # fmt: skip
def test_known_shapes(schema: Any) -> None:
    for seed in range(20):
        value = example(schema, Random(seed))
        assert accepts(schema, value), value
        assert value is not None


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "minItems": 2},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "required": 5},
        {"type": "object", "properties": ["a"], "required": ["a"]},
        {"type": "integer", "minimum": "low"},
        {"type": "number", "multipleOf": 0},
        {"type": 5},
        {"enum": 5},
        {"allOf": [5]},
        {"$ref": 5},
    ],
)
def test_what_cannot_be_satisfied_ends_all_the_same(schema: Any) -> None:
    assert example(schema, Random(1)) is None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PATTERNS), st.integers(0, 2**32))
def test_patterns(pattern: str, seed: int) -> None:
    text = patterns.sample(pattern, Random(seed))
    assert text is not None
    assert re.search(pattern, text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab0[](){}|\\^$.?*+-:<>=!,1d w", max_size=14), st.integers(0, 99))
def test_odd_patterns_give_a_match_or_nothing(pattern: str, seed: int) -> None:
    text = patterns.sample(pattern, Random(seed))
    assert text is None or re.search(pattern, text)
