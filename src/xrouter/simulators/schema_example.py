"""Values that satisfy a JSON Schema. Safe for recursive schemas and bounded in work."""

import math
from fractions import Fraction
from random import Random
from typing import Any, Final

from xrouter.simulators import patterns
from xrouter.simulators.json_schema import (
    Judge,
    Unsatisfiable,
    accepts,
    bounds,
    equal,
    finds,
    item_schemas,
    property_schemas,
    resolve,
    types_of,
)
from xrouter.simulators.schema_merge import merge

_TRIES: Final = 12
_SHALLOW: Final = 4
_DEEPEST: Final = 48
_MAX_STEPS: Final = 20_000
_MAX_LENGTH: Final = 100_000

_WORDS: Final = ("вода", "north", "Байкал", "signal", "утро", "measure", "поезд", "winter")
_KNOWN: Final = {
    "city": "Москва",
    "location": "Москва",
    "country": "Россия",
    "name": "Анна",
    "title": "Отчёт",
    "query": "погода в Москве",
    "language": "ru",
    "currency": "RUB",
    "unit": "celsius",
}
_FORMATS: Final = {
    "date": "2026-11-20",
    "date-time": "2026-11-20T12:30:00Z",
    "time": "12:30:00Z",
    "duration": "P3D",
    "email": "anna@example.ru",
    "idn-email": "anna@example.ru",
    "hostname": "example.ru",
    "idn-hostname": "example.ru",
    "ipv4": "192.0.2.10",
    "ipv6": "2001:db8::10",
    "uri": "https://example.ru/a",
    "uri-reference": "/a",
    "iri": "https://example.ru/a",
    "iri-reference": "/a",
    "url": "https://example.ru/a",
    "uuid": "5f0c7a52-94f1-4c0a-9a70-3c1c7f1d2e61",
    "json-pointer": "/a/b",
    "relative-json-pointer": "0",
    "uri-template": "/a/{b}",
    "regex": "^a+$",
}
_CHOICES: Final = ("anyOf", "oneOf")
_FOLDED: Final = frozenset(("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"))
_TEXT_KEYS: Final = ("pattern", "minLength", "maxLength", "format")
_NUMBER_KEYS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_ARRAY_KEYS: Final = ("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems")


# What a schema that is none (`"required": 5`) does to whoever reads it as one.
_MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _OutOfSteps(Exception):
    """The schema asks for more work than is allowed."""


def example(schema: object, rng: Random) -> Any:
    """A value that satisfies `schema`; null if none was found: it contradicts itself or is no schema."""
    for _ in range(_TRIES):
        try:
            value = _Writer(schema, rng).value(schema, "", 0)
            if accepts(schema, value):
                return value
        except Unsatisfiable:
            continue
        except (_OutOfSteps, *_MALFORMED):
            break
    return None


class _Writer:
    def __init__(self, root: object, rng: Random) -> None:
        self._root = root
        self._rng = rng
        self._judge = Judge(root)
        self._steps = 0

    def value(self, schema: object, name: str, depth: int) -> Any:
        """A value for `schema` under the property `name`; raises Unsatisfiable."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _OutOfSteps
        if schema is False or depth > _DEEPEST:
            raise Unsatisfiable
        if not isinstance(schema, dict):
            return self._text({}, name)
        flat = self._flat(schema, 0)
        groups: list[tuple[str, list[Any]]] = flat.pop("choices", [])
        if groups:
            return self._chosen(flat, groups, name, depth)
        return self._plain(flat, name, depth)

    def _plain(self, flat: dict[str, Any], name: str, depth: int) -> Any:
        forbidden = flat.pop("forbidden", [])
        for _ in range(_TRIES if forbidden else 1):
            value = self._constant(flat) if "enum" in flat else self._typed(flat, name, depth)
            if not any(self._judge.accepts(part, value, 0) for part in forbidden):
                return value
        raise Unsatisfiable

    def _chosen(self, flat: dict[str, Any], groups: list[tuple[str, list[Any]]], name: str, depth: int) -> Any:
        """Take one way out of the first group of alternatives, and then out of the others."""
        (kind, options), others = groups[0], groups[1:]
        order = list(options)
        if depth < _SHALLOW:
            self._rng.shuffle(order)
            # An answer that says something is a better example than null.
            order.sort(key=lambda option: isinstance(option, dict) and option.get("type") == "null")
        else:
            order.sort(key=_weight)
        for option in order:
            joined = {"allOf": [_unflat(flat), option, *({other: ways} for other, ways in others)]}
            try:
                value = self.value(joined, name, depth + 1)
            except Unsatisfiable:
                continue
            if kind != "oneOf" or sum(self._judge.accepts(part, value, 0) for part in options) == 1:
                return value
        raise Unsatisfiable

    def _flat(self, schema: object, depth: int) -> dict[str, Any]:
        """References and `allOf` folded into one schema; alternatives are under `choices`, `not` under `forbidden`."""
        if depth > _DEEPEST or schema is False:
            raise Unsatisfiable
        if not isinstance(schema, dict):
            return {}
        flat = {key: item for key, item in schema.items() if key not in _FOLDED}
        if "const" in flat:
            constant = flat.pop("const")
            known = flat.get("enum", [constant])
            flat["enum"] = [constant] if any(equal(constant, option) for option in known) else []
        flat["choices"] = [(kind, schema[kind]) for kind in _CHOICES if kind in schema]
        flat["forbidden"] = [schema["not"]] if "not" in schema else []
        if "if" in schema:
            condition = schema["if"]
            met = {"allOf": [condition, schema.get("then", True)]}
            unmet = {"allOf": [{"not": condition}, schema.get("else", True)]}
            flat["choices"].append(("anyOf", [met, unmet]))
        if "$ref" in schema:
            flat = merge(flat, self._flat(resolve(self._root, schema["$ref"]), depth + 1))
        for part in schema.get("allOf", ()):
            flat = merge(flat, self._flat(part, depth + 1))
        return flat

    def _constant(self, flat: dict[str, Any]) -> Any:
        fitting = [option for option in flat["enum"] if self._judge.accepts(flat, option, 0)]
        if not fitting:
            raise Unsatisfiable
        return self._rng.choice(fitting)

    def _typed(self, flat: dict[str, Any], name: str, depth: int) -> Any:
        types = types_of(flat) or [_implied(flat)]
        telling = [kind for kind in types if kind != "null"]
        if not telling or (depth >= _SHALLOW and len(telling) < len(types)):
            return None
        self._rng.shuffle(telling)
        order = telling if depth < _SHALLOW else sorted(telling, key=["object", "array"].__contains__)
        for kind in order:
            try:
                return self._of_type(kind, flat, name, depth)
            except Unsatisfiable:
                continue
        if "null" in types:
            return None
        raise Unsatisfiable

    def _of_type(self, kind: str, flat: dict[str, Any], name: str, depth: int) -> Any:
        if kind == "object":
            return self._object(flat, depth)
        if kind == "array":
            return self._array(flat, name, depth)
        if kind == "string":
            return self._text(flat, name)
        if kind == "integer":
            return self._integer(flat)
        if kind == "number":
            return self._number(flat)
        if kind == "boolean":
            return self._rng.random() < 0.5
        raise Unsatisfiable(kind)

    def _text(self, flat: dict[str, Any], name: str) -> str:
        least, most = flat.get("minLength", 0), flat.get("maxLength")
        if least > _MAX_LENGTH or (most is not None and most < least):
            raise Unsatisfiable
        if "pattern" in flat:
            return self._matching([flat["pattern"], *flat.get("further_patterns", ())], least, most)
        if flat.get("format") in _FORMATS:
            text = _FORMATS[flat["format"]]
            if len(text) < least or (most is not None and len(text) > most):
                raise Unsatisfiable
            return text
        text = _KNOWN.get(name) or self._rng.choice(_WORDS)
        if len(text) < least:
            text += " и далее" * (least // 8 + 1)
            text = text[:least]
        return text if most is None else text[:most]

    def _matching(self, wanted: list[str], least: int, most: int | None) -> str:
        """Text in which every pattern is found: one that fits all, or samples of each side by side."""
        for _ in range(_TRIES if len(wanted) > 1 else 1):
            samples = [patterns.sample(pattern, self._rng, least, most) or "" for pattern in wanted]
            for text in (samples[0], "".join(samples), "".join(reversed(samples))):
                in_length = len(text) >= least and (most is None or len(text) <= most)
                if in_length and all(finds(pattern, text) for pattern in wanted):
                    return text
        raise Unsatisfiable

    def _integer(self, flat: dict[str, Any]) -> int:
        low, low_out, high, high_out = bounds(flat)
        least = None if low == -math.inf else math.floor(low) + 1 if low_out else math.ceil(low)
        most = None if high == math.inf else math.ceil(high) - 1 if high_out else math.floor(high)
        step = Fraction(str(flat.get("multipleOf", 1)))
        # Multiples of step that are whole are multiples of its numerator.
        return self._multiple(least, most, step.numerator) * step.numerator

    def _multiple(self, least: float | None, most: float | None, step: float) -> int:
        """A factor k with least <= k * step <= most."""
        first = None if least is None else math.ceil(least / step)
        last = None if most is None else math.floor(most / step)
        if first is None and last is None:
            first, last = 1, 100
        elif first is None and last is not None:
            first = last - 99
        elif last is None and first is not None:
            last = first + 99
        if first is None or last is None or first > last:
            raise Unsatisfiable
        return self._rng.randint(first, last)

    def _number(self, flat: dict[str, Any]) -> float:
        low, low_out, high, high_out = bounds(flat)
        if "multipleOf" in flat:
            step = Fraction(str(flat["multipleOf"]))
            least = None if low == -math.inf else math.ceil(Fraction(str(low)) / step)
            most = None if high == math.inf else math.floor(Fraction(str(high)) / step)
            if low_out and least is not None and least * step == Fraction(str(low)):
                least += 1
            if high_out and most is not None and most * step == Fraction(str(high)):
                most -= 1
            return float(self._multiple(least, most, 1) * step)
        if low == -math.inf:
            low = 0.0 if high > 0 else high - 100.0
        if high == math.inf:
            high = max(low, 0.0) + 100.0
        if low > high or (low == high and (low_out or high_out)):
            raise Unsatisfiable
        value = round(self._rng.uniform(low, high), 2)
        inside = (value > low if low_out else value >= low) and (value < high if high_out else value <= high)
        return value if inside else low if not low_out and low == high else (low + high) / 2

    def _array(self, flat: dict[str, Any], name: str, depth: int) -> list[Any]:
        fixed, rest = item_schemas(flat)
        least, most = flat.get("minItems", 0), flat.get("maxItems", math.inf)
        wanted = flat.get("minContains", 1) if "contains" in flat else 0
        least = max(least, wanted)
        if least > most or least > _MAX_LENGTH:
            raise Unsatisfiable
        count = int(min(most, max(least, len(fixed), self._rng.randint(1, 3)))) if depth < _SHALLOW else least
        items: list[Any] = []
        while len(items) < count:
            part = fixed[len(items)] if len(items) < len(fixed) else rest
            if len(items) >= count - wanted:
                part = {"allOf": [part, flat["contains"]]}
            try:
                items.append(self._next_item(part, name, depth, items if flat.get("uniqueItems") else []))
            except Unsatisfiable:
                if len(items) < least:
                    raise
                break
        return items

    def _next_item(self, part: Any, name: str, depth: int, taken: list[Any]) -> Any:
        for attempt in range(_TRIES * 2 if taken else 1):
            value = self.value(part, name if not attempt else "", depth + 1)
            if not any(equal(value, other) for other in taken):
                return value
        return self._another(part, taken)

    def _another(self, part: Any, taken: list[Any]) -> Any:
        """Chance did not give a new value: look for one in order."""
        for candidate in (*(f"{_WORDS[0]} {n}" for n in range(100)), *range(-100, 200), True, False, None):
            if self._judge.accepts(part, candidate, 0) and not any(equal(candidate, other) for other in taken):
                return candidate
        raise Unsatisfiable

    def _object(self, flat: dict[str, Any], depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = flat.get("properties", {})
        least, most = flat.get("minProperties", 0), flat.get("maxProperties", math.inf)
        required = self._with_dependants(flat, list(flat.get("required", ())))
        value = {key: self._member(flat, key, depth) for key in required}
        optional = [key for key in properties if key not in value]
        if depth >= _SHALLOW:
            optional = optional[: max(0, least - len(value))]
        elif len(value) + len(optional) > least:
            optional = [key for key in optional if self._rng.random() < 0.7 or len(value) < least]
        for key in optional:
            try:
                added = {
                    other: self._member(flat, other, depth)
                    for other in self._with_dependants(flat, [key])
                    if other not in value
                }
            except Unsatisfiable:
                continue
            if len(value) + len(added) <= most:
                value.update(added)
        self._fill(flat, value, least, depth)
        if len(value) > most:
            raise Unsatisfiable
        for key in list(value):
            if key in flat.get("dependentSchemas", {}) and not self._judge.accepts(
                flat["dependentSchemas"][key], value, 0
            ):
                raise Unsatisfiable
        return value

    def _with_dependants(self, flat: dict[str, Any], names: list[str]) -> list[str]:
        dependants: dict[str, list[str]] = flat.get("dependentRequired", {})
        ordered = dict.fromkeys(names)
        for name in names:
            for other in dependants.get(name, ()):
                if other not in ordered:
                    ordered[other] = None
                    names.append(other)
        return list(ordered)

    def _member(self, flat: dict[str, Any], key: str, depth: int) -> Any:
        if "propertyNames" in flat and not self._judge.accepts(flat["propertyNames"], key, 0):
            raise Unsatisfiable
        parts = property_schemas(flat, key)
        return self.value(parts[0] if len(parts) == 1 else {"allOf": parts}, key, depth + 1)

    def _fill(self, flat: dict[str, Any], value: dict[str, Any], least: int, depth: int) -> None:
        """Own names until there are `least` properties."""
        sources = [{"type": "string", "pattern": pattern} for pattern in flat.get("patternProperties", {})]
        names = flat.get("propertyNames", True)
        if not sources and names is not True:
            sources = [{"allOf": [{"type": "string"}, names]}]
        for attempt in range(least * 4):
            if len(value) >= least:
                return
            key = f"key{attempt + 1}"
            if sources:
                key = self._new_key(sources[attempt % len(sources)], attempt + 1, depth)
            if key not in value:
                value[key] = self._member(flat, key, depth)
        if len(value) < least:
            raise Unsatisfiable

    def _new_key(self, source: dict[str, Any], length: int, depth: int) -> str:
        """A property name: of growing length where it may be, so that it is a new one."""
        try:
            return str(self.value({"allOf": [source, {"minLength": length}]}, "", depth + 1))
        except Unsatisfiable:
            return str(self.value(source, "", depth + 1))


def _implied(flat: dict[str, Any]) -> str:
    """The type that the keywords of an untyped schema speak of."""
    if any(key in flat for key in _TEXT_KEYS):
        return "string"
    if any(key in flat for key in _NUMBER_KEYS):
        return "number"
    if any(key in flat for key in _ARRAY_KEYS):
        return "array"
    if any("ropert" in key or key == "required" for key in flat):
        return "object"
    return "string"


def _weight(option: object) -> int:
    """How much a way out costs deep inside a recursive schema: the lightest is tried first."""
    if not isinstance(option, dict):
        return 1
    if option.get("type") == "null" or "const" in option or "enum" in option:
        return 0
    return 2 if option.get("type") in ("object", "array") or "$ref" in option else 1


def _unflat(flat: dict[str, Any]) -> dict[str, Any]:
    plain = {key: item for key, item in flat.items() if key not in ("choices", "forbidden")}
    forbidden = flat.get("forbidden", [])
    return {**plain, "not": {"anyOf": forbidden}} if forbidden else plain
