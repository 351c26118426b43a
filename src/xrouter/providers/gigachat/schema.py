"""A JSON Schema of a client's tool -> the part of JSON Schema that GigaChat takes.

Its limits (gigachat v1, `functions[].parameters`): the root is an object; every object has `properties`; no
`$ref`, no type lists, no `null` among alternatives, no `allOf`; enum values are strings; of the formats only
`date`, `date-time` and `time`.
"""

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

_FORMATS = frozenset({"date", "date-time", "time"})
_NEVER = frozenset({"$defs", "definitions", "$schema", "$id", "$comment", "$anchor", "allOf", "nullable", "$ref"})
_DEEPEST = 64
_MOST_NODES = 10_000  # definitions that refer to each other unfold without end


def vendor_schema(schema: Schema | None) -> Schema:
    """The parameters of a function as the vendor takes them. Never fails: what cannot be said is left out,
    and a schema that contains itself is cut where it repeats."""
    root = _Normaliser(schema or {}).normal(schema or {}, ())
    if root.get("type") != "object":
        root = {"type": "object"}
    root.setdefault("properties", {})
    return root


def restored(value: Any, schema: Any, root: Schema, depth: int = 0) -> Any:
    """A value that was made for `vendor_schema(root)` as `root` wants it at `schema`: the vendor's enum values are
    texts, the client's may be numbers, booleans or null."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return value
    for part in _parts_of(schema, root):
        value = restored(value, part, root, depth + 1)
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(value, str) and isinstance(options, list) and value not in options:
        value = next((one for one in options if not isinstance(one, str) and _literal(one) == value), value)
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        known = schema["properties"]
        return {name: restored(item, known.get(name), root, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [restored(item, schema.get("items"), root, depth + 1) for item in value]
    return value


def _parts_of(schema: Schema, root: Schema) -> list[Any]:
    parts = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key) or ()]
    pointer = schema.get("$ref")
    return [*parts, _Normaliser(root).look_up(pointer)] if isinstance(pointer, str) else parts


class _Normaliser:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_NODES

    def normal(self, schema: Any, seen: tuple[str, ...]) -> Schema:
        """One schema, normalised. `seen` are the references that led here."""
        if not isinstance(schema, dict):
            return {}  # `true`, `false` or nonsense: no limits that could be said
        schema, seen = self._flat(schema, seen)
        out = {key: value for key, value in schema.items() if key not in _NEVER}
        self._one_type(out)
        self._alternatives(out, seen)
        self._children(out, seen)
        self._values(out)
        return out

    def _flat(self, schema: Schema, seen: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """References followed and `allOf` merged, so that all keywords stand on one level."""
        self._left -= 1
        if self._left < 0:
            return {}, seen
        pointer = schema.get("$ref")
        if isinstance(pointer, str):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            target = {} if pointer in seen else self.look_up(pointer)
            flat, seen = self._flat(target, (*seen, pointer))
            schema = _merge(flat, rest)
        parts = schema.get("allOf")
        if isinstance(parts, list):
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                if isinstance(part, dict):
                    flat, seen = self._flat(part, seen)
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

    def _one_type(self, out: Schema) -> None:
        kinds = out.get("type")
        if isinstance(kinds, list):
            real = [kind for kind in kinds if isinstance(kind, str) and kind != "null"]
            if real:
                out["type"] = real[0]
            else:
                out.pop("type")
        elif kinds is not None and (not isinstance(kinds, str) or kinds == "null"):
            out.pop("type")
        if "properties" in out and "type" not in out:
            out["type"] = "object"

    def _alternatives(self, out: Schema, seen: tuple[str, ...]) -> None:
        """`anyOf`/`oneOf` without null; one that has a single alternative left is that alternative."""
        for key in ("anyOf", "oneOf"):
            options = out.pop(key, None)
            if not isinstance(options, list):
                continue
            real = [self.normal(option, seen) for option in options if not _is_null(option)]
            if len(real) == 1:
                merged = _merge(real[0], out)
                out.clear()
                out.update(merged)
            elif real:
                out[key] = real

    def _children(self, out: Schema, seen: tuple[str, ...]) -> None:
        if out.get("type") == "object":
            properties = out.get("properties")
            properties = properties if isinstance(properties, dict) else {}
            out["properties"] = {name: self.normal(child, seen) for name, child in properties.items()}
            required = [name for name in _strings(out.pop("required", None)) if name in properties]
            if required:
                out["required"] = required
        if isinstance(out.get("items"), list):  # the tuple form of old drafts
            out["items"] = out["items"][0] if out["items"] else {}
        if "items" in out:
            out["items"] = self.normal(out["items"], seen)
        for key in ("additionalProperties", "not"):
            if isinstance(out.get(key), dict):
                out[key] = self.normal(out[key], seen)

    def _values(self, out: Schema) -> None:
        if "const" in out:
            out["enum"] = [out.pop("const")]
        if "enum" in out:
            values = out["enum"] if isinstance(out["enum"], list) else []
            texts = [value if isinstance(value, str) else _literal(value) for value in values if value is not None]
            out.pop("enum")
            if texts:
                out["enum"] = texts
                out["type"] = "string"
        if out.get("format") not in _FORMATS:
            out.pop("format", None)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and (
        schema.get("type") in ("null", ["null"])
        or schema.get("enum") == [None]
        or ("const" in schema and schema["const"] is None)
    )


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _merge(first: Schema, second: Schema) -> Schema:
    """Both at once: properties and requirements add up, for the rest the second one speaks."""
    out = {**first, **second}
    mine, theirs = first.get("properties"), second.get("properties")
    if isinstance(mine, dict) and isinstance(theirs, dict):
        out["properties"] = {**mine, **theirs}
    required = dict.fromkeys((*_strings(first.get("required")), *_strings(second.get("required"))))
    if required:
        out["required"] = list(required)
    return out
