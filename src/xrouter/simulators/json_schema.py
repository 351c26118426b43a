"""JSON Schema (draft 2020-12, with the older spellings that are still in use): does a value satisfy one?"""

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from xrouter.simulators.patterns import compiled

_FORMAT_CHECKS: Final = {
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "date-time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"),
    "time": re.compile(r"\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"),
    "email": re.compile(r"[^@\s]+@[^@\s]+"),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "ipv4": re.compile(r"\d{1,3}(\.\d{1,3}){3}"),
}


class Unsatisfiable(Exception):
    """No value was found along this way."""


def accepts(schema: object, value: object) -> bool:
    """Whether `value` satisfies `schema`. Unknown keywords and formats are ignored."""
    return Judge(schema).accepts(schema, value, 0)


def resolve(root: object, reference: str) -> object:
    """The subschema a local `$ref` points to (RFC 6901). Raises Unsatisfiable if there is none."""
    if not reference.startswith("#"):
        raise Unsatisfiable(f"{reference} is not in this document")
    here: Any = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%24", "$")
        try:
            here = here[int(key)] if isinstance(here, list) else here[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Unsatisfiable(f"{reference} leads nowhere") from None
    return here


def types_of(schema: dict[str, Any]) -> list[str] | None:
    kind = schema.get("type")
    if kind is None:
        return None
    return list(kind) if isinstance(kind, list) else [str(kind)]


def is_type(value: object, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    python = {"string": str, "boolean": bool, "null": type(None), "array": list, "object": dict}.get(kind)
    return python is not None and isinstance(value, python)


def equal(left: object, right: object) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return left == right


def _is_multiple(value: float, step: float) -> bool:
    return Fraction(str(value)) % Fraction(str(step)) == 0


def finds(pattern: str, text: str) -> bool:
    expression = compiled(pattern)
    return expression is None or expression.search(text) is not None


def bounds(schema: dict[str, Any]) -> tuple[float, bool, float, bool]:
    """Lowest, whether it is excluded, highest, whether it is excluded. Draft 4 said `exclusiveMinimum: true`."""
    low, low_out = schema.get("minimum", -math.inf), False
    high, high_out = schema.get("maximum", math.inf), False
    exclusive = schema.get("exclusiveMinimum")
    if exclusive is True:
        low_out = True
    elif isinstance(exclusive, int | float) and not isinstance(exclusive, bool) and exclusive >= low:
        low, low_out = exclusive, True
    exclusive = schema.get("exclusiveMaximum")
    if exclusive is True:
        high_out = True
    elif isinstance(exclusive, int | float) and not isinstance(exclusive, bool) and exclusive <= high:
        high, high_out = exclusive, True
    return low, low_out, high, high_out


class Judge:
    def __init__(self, root: object) -> None:
        self._root = root

    def accepts(self, schema: object, value: object, depth: int) -> bool:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict) or depth > 200:
            return isinstance(schema, dict)
        return all(self._verdicts(schema, value, depth + 1))

    def _verdicts(self, schema: dict[str, Any], value: object, depth: int) -> Iterator[bool]:
        if "$ref" in schema:
            yield self.accepts(resolve(self._root, schema["$ref"]), value, depth)
        types = types_of(schema)
        if types is not None:
            yield any(is_type(value, kind) for kind in types)
        if "const" in schema:
            yield equal(schema["const"], value)
        if "enum" in schema:
            yield any(equal(option, value) for option in schema["enum"])
        yield from self._combined(schema, value, depth)
        if isinstance(value, str):
            yield from self._text(schema, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from self._number(schema, value)
        elif isinstance(value, list):
            yield from self._array(schema, value, depth)
        elif isinstance(value, dict):
            yield from self._object(schema, value, depth)

    def _combined(self, schema: dict[str, Any], value: object, depth: int) -> Iterator[bool]:
        for part in schema.get("allOf", ()):
            yield self.accepts(part, value, depth)
        if "anyOf" in schema:
            yield any(self.accepts(part, value, depth) for part in schema["anyOf"])
        if "oneOf" in schema:
            yield sum(self.accepts(part, value, depth) for part in schema["oneOf"]) == 1
        if "not" in schema:
            yield not self.accepts(schema["not"], value, depth)
        if "if" in schema:
            branch = "then" if self.accepts(schema["if"], value, depth) else "else"
            yield self.accepts(schema.get(branch, True), value, depth)

    def _text(self, schema: dict[str, Any], value: str) -> Iterator[bool]:
        yield schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        if "pattern" in schema:
            yield finds(schema["pattern"], value)
        check = _FORMAT_CHECKS.get(str(schema.get("format")))
        if check is not None:
            yield check.fullmatch(value) is not None

    def _number(self, schema: dict[str, Any], value: float) -> Iterator[bool]:
        low, low_out, high, high_out = bounds(schema)
        yield value > low if low_out else value >= low
        yield value < high if high_out else value <= high
        if "multipleOf" in schema:
            yield _is_multiple(value, schema["multipleOf"])

    def _array(self, schema: dict[str, Any], value: list[Any], depth: int) -> Iterator[bool]:
        yield schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)
        fixed, rest = item_schemas(schema)
        for item, part in zip(value, fixed, strict=False):
            yield self.accepts(part, item, depth)
        for item in value[len(fixed) :]:
            yield self.accepts(rest, item, depth)
        if schema.get("uniqueItems"):
            yield not any(equal(a, b) for i, a in enumerate(value) for b in value[:i])
        if "contains" in schema:
            found = sum(self.accepts(schema["contains"], item, depth) for item in value)
            yield schema.get("minContains", 1) <= found <= schema.get("maxContains", math.inf)

    def _object(self, schema: dict[str, Any], value: dict[str, Any], depth: int) -> Iterator[bool]:
        yield schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf)
        yield all(name in value for name in schema.get("required", ()))
        for name, needed in schema.get("dependentRequired", {}).items():
            yield name not in value or all(other in value for other in needed)
        for name, part in schema.get("dependentSchemas", {}).items():
            yield name not in value or self.accepts(part, value, depth)
        for name, item in value.items():
            if "propertyNames" in schema:
                yield self.accepts(schema["propertyNames"], name, depth)
            for part in property_schemas(schema, name):
                yield self.accepts(part, item, depth)


def item_schemas(schema: dict[str, Any]) -> tuple[list[Any], Any]:
    """Schemas of the first items, and of all others. Older drafts put the list under `items`."""
    if isinstance(schema.get("items"), list):
        return schema["items"], schema.get("additionalItems", True)
    return schema.get("prefixItems", []), schema.get("items", True)


def property_schemas(schema: dict[str, Any], name: str) -> list[Any]:
    """Every schema that a property of this name must satisfy."""
    parts = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    parts += [part for pattern, part in schema.get("patternProperties", {}).items() if finds(pattern, name)]
    return parts or [schema.get("additionalProperties", schema.get("unevaluatedProperties", True))]
