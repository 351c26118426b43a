"""A JSON Schema of a client's tool or answer -> the part of JSON Schema that GigaChat takes, and the value back.

Its limits (gigachat v1, `functions[].parameters`): the root is an object; every object has `properties`; no
`$ref`, no type lists, no `null` among alternatives, no `allOf`; enum values are strings; of the formats only
`date`, `date-time` and `time`.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

_FORMATS = frozenset({"date", "date-time", "time"})
# Texts that are of the other formats: not all of them, but nothing else.
_PATTERNS: Final[Mapping[str, str]] = {
    "email": r"^[A-Za-z0-9._-]+@[A-Za-z0-9-]+\.[a-z]{2,6}$",
    "uuid": r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "ipv4": r"^([1-9][0-9]?\.){3}[1-9][0-9]?$",
    "uri": r"^https?://[A-Za-z0-9.-]+(/[A-Za-z0-9._~-]*)*$",
}
_NEVER = frozenset({"$defs", "definitions", "$schema", "$id", "$comment", "$anchor", "allOf", "nullable", "$ref"})
_CHOICES: Final = ("anyOf", "oneOf")
_LOWEST: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_HIGHEST: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_DEEPEST = 64
_MOST_NULLS: Final = 1000
_MOST_NODES = 10_000  # definitions that refer to each other unfold without end


def vendor_schema(schema: Schema | None) -> Schema:
    """The parameters of a function as the vendor takes them. Never fails. What cannot be said (null, and a schema
    inside itself) is left out with the property, the item or the alternative that it is; `restored` puts nulls back.
    """
    root = _Normaliser(schema or {}).normal(schema or {}, ()) or {}
    if root.get("type") != "object":
        root = {"type": "object"}
    root.setdefault("properties", {})
    return root


def restored(value: Any, schema: Any, root: Schema, depth: int = 0) -> Any:
    """A value that was made for `vendor_schema(root)` as `root` wants it at `schema`: the vendor's enum values are
    texts, the client's may be numbers, booleans or null; and where the client demands properties or items that may be
    null, they may be some that the vendor was not told of."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return value
    for part in _demanded(schema, root):
        value = restored(value, part, root, depth + 1)
    for key in _CHOICES:
        for option in schema.get(key) or ():
            made = restored(value, option, root, depth + 1)
            if _fits(made, option, root):
                value = made
                break
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(value, str) and isinstance(options, list) and value not in options:
        value = next((one for one in options if not isinstance(one, str) and _literal(one) == value), value)
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        known = schema["properties"]
        value = {name: restored(item, known.get(name), root, depth + 1) for name, item in value.items()}
        absent = [name for name in _strings(schema.get("required")) if name not in value]
        value |= {name: None for name in absent if _fits(None, known.get(name, False), root)}
    if isinstance(value, list):
        value = [restored(item, schema.get("items"), root, depth + 1) for item in value]
        least = schema.get("minItems")
        if not value and type(least) is int and 0 < least <= _MOST_NULLS and _fits(None, schema.get("items"), root):
            value = [None] * least
    return value


def _demanded(schema: Schema, root: Schema) -> list[Any]:
    """The schemas that hold beside this one."""
    parts = schema.get("allOf")
    found = list(parts) if isinstance(parts, list) else []
    pointer = schema.get("$ref")
    return [*found, _Normaliser(root).look_up(pointer)] if isinstance(pointer, str) else found


def _fits(value: Any, schema: Any, root: Schema, depth: int = 0) -> bool:
    """Is the value what the schema is about? Tells alternatives apart: types, constants and properties, no bounds."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return schema is not False
    if not all(_fits(value, part, root, depth + 1) for part in _demanded(schema, root)):
        return False
    for key in _CHOICES:
        options = schema.get(key)
        if options and not any(_fits(value, option, root, depth + 1) for option in options):
            return False
    kinds = schema.get("type")
    if kinds and not any(_is(value, kind) for kind in (kinds if isinstance(kinds, list) else [kinds])):
        return value is None and schema.get("nullable") is True
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(options, list) and not any(value == one and type(value) is type(one) for one in options):
        return False
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        return set(_strings(schema.get("required"))) <= value.keys() and all(
            _fits(item, known.get(name, schema.get("additionalProperties")), root, depth + 1)
            for name, item in value.items()
        )
    if isinstance(value, list):
        return all(_fits(item, schema.get("items"), root, depth + 1) for item in value)
    return True


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    if kind == "integer":
        return isinstance(value, int | float) and value == value // 1
    known = {"number": int | float, "string": str, "null": type(None), "array": list, "object": dict}
    return isinstance(value, known.get(kind, object))


class _Normaliser:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_NODES

    def normal(self, schema: Any, seen: tuple[str, ...]) -> Schema | None:
        """One schema, normalised; None for one that cannot be said. `seen` are the references that led here."""
        if not isinstance(schema, dict):
            return None if schema is False else {}  # `true` or nonsense: no limits that could be said
        flat, seen = self._flat(schema, seen)
        if flat is None:
            return None
        out = {key: value for key, value in flat.items() if key not in _NEVER}
        if not (self._one_type(out) and self._alternatives(out, seen)):
            return None
        self._children(out, seen)
        return out if self._values(out) else None

    def _flat(self, schema: Schema, seen: tuple[str, ...]) -> tuple[Schema | None, tuple[str, ...]]:
        """References followed and `allOf` merged, so that all keywords stand on one level; None for a schema that
        leads to itself."""
        self._left -= 1
        if self._left < 0:
            return None, seen
        pointer = schema.get("$ref")
        if isinstance(pointer, str):
            if pointer in seen:
                return None, seen
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            flat, seen = self._flat(self.look_up(pointer), (*seen, pointer))
            if flat is None:
                return None, seen
            schema = _merge(flat, rest)
        parts = schema.get("allOf")
        if isinstance(parts, list):
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                if isinstance(part, dict):
                    flat, seen = self._flat(part, seen)
                    if flat is None:
                        return None, seen
                    schema = _merge(schema, flat)
        return schema, seen

    def look_up(self, pointer: str) -> Schema:
        """A JSON pointer inside the same document (RFC 6901); anything else is unknown."""
        if not pointer.startswith("#"):
            return {}
        place: Any = self._root
        for step in pointer[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            place = place.get(step) if isinstance(place, dict) else None
        return place if isinstance(place, dict) else {}

    def _one_type(self, out: Schema) -> bool:
        """The first type that is not null. False where there is no other."""
        kinds = out.get("type")
        if isinstance(kinds, list):
            real = [kind for kind in kinds if isinstance(kind, str) and kind != "null"]
            if not real and "null" in kinds:
                return False
            out.pop("type")
            if real:
                out["type"] = real[0]
        elif kinds == "null":
            return False
        elif kinds is not None and not isinstance(kinds, str):
            out.pop("type")
        if "properties" in out and "type" not in out:
            out["type"] = "object"
        return True

    def _alternatives(self, out: Schema, seen: tuple[str, ...]) -> bool:
        """`anyOf`/`oneOf` without what cannot be said; one that has a single alternative left is that alternative.
        False where none is left."""
        for key in _CHOICES:
            options = out.pop(key, None)
            if not isinstance(options, list) or not options:
                continue
            real = [found for option in options if (found := self.normal(option, seen)) is not None]
            if not real:
                return False
            if len(real) == 1:
                merged = _merge(real[0], out)
                out.clear()
                out.update(merged)
            else:
                out[key] = real
        return True

    def _children(self, out: Schema, seen: tuple[str, ...]) -> None:
        if out.get("type") == "object":
            properties = out.get("properties")
            properties = properties if isinstance(properties, dict) else {}
            found = {name: self.normal(child, seen) for name, child in properties.items()}
            out["properties"] = {name: child for name, child in found.items() if child is not None}
            required = [name for name in _strings(out.pop("required", None)) if name in out["properties"]]
            if required:
                out["required"] = required
        if isinstance(out.get("items"), list):  # the tuple form of old drafts
            out["items"] = out["items"][0] if out["items"] else {}
        if "items" in out:
            items = self.normal(out.pop("items"), seen)
            if items is None:
                out.pop("minItems", None)
            out |= {"maxItems": 0} if items is None else {"items": items}
        if isinstance(out.get("prefixItems"), list):
            out["prefixItems"] = [self.normal(item, seen) or {} for item in out["prefixItems"]]
        if isinstance(out.get("additionalProperties"), dict):
            further = self.normal(out["additionalProperties"], seen)
            out["additionalProperties"] = False if further is None else further
        if isinstance(out.get("not"), dict):
            forbidden = self.normal(out.pop("not"), seen)
            if forbidden is not None:
                out["not"] = forbidden

    def _values(self, out: Schema) -> bool:
        """Constants as texts, and formats that are known. False where null is the only constant."""
        if "const" in out:
            out["enum"] = [out.pop("const")]
        if "enum" in out:
            values = out.pop("enum")
            values = values if isinstance(values, list) else []
            texts = [value if isinstance(value, str) else _literal(value) for value in values if value is not None]
            if values and not texts:
                return False
            if texts:
                out["enum"] = texts
                out["type"] = "string"
        if out.get("format") not in _FORMATS:
            pattern = _PATTERNS.get(str(out.pop("format", None)))
            if pattern is not None:
                out.setdefault("pattern", pattern)
        return True


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _merge(first: Schema, second: Schema) -> Schema:
    """Both at once: properties and requirements add up, of two limits the narrower holds, for the rest the second
    one speaks."""
    out = {**first, **second}
    for key in first.keys() & second.keys():
        mine, theirs = first[key], second[key]
        if key == "properties" and isinstance(mine, dict) and isinstance(theirs, dict):
            both = {name: {"allOf": [mine[name], theirs[name]]} for name in mine if name in theirs}
            out[key] = {**mine, **theirs, **{name: one for name, one in both.items() if mine[name] != theirs[name]}}
        elif key == "type":
            out[key] = _common_type(mine, theirs)
        elif key == "enum" and isinstance(mine, list) and isinstance(theirs, list):
            out[key] = [value for value in mine if value in theirs] or theirs
        elif key in _LOWEST | _HIGHEST and _is(mine, "number") and _is(theirs, "number"):
            out[key] = max(mine, theirs) if key in _LOWEST else min(mine, theirs)
    required = dict.fromkeys((*_strings(first.get("required")), *_strings(second.get("required"))))
    if required:
        out["required"] = list(required)
    return out


def _common_type(mine: Any, theirs: Any) -> Any:
    left, right = ([kinds] if isinstance(kinds, str) else _strings(kinds) for kinds in (mine, theirs))
    common = [kind for kind in left if kind in right or (kind == "integer" and "number" in right)]
    if "integer" in right and "number" in left and "integer" not in common:
        common.append("integer")
    return common[0] if len(common) == 1 else common or theirs
