"""The top level of a request body, field by field: each known one is checked by its own decoder, so that an error
names the field (`messages[2].role`); the others are JSON and travel on as they came. Every endpoint reads its body so.
"""

import re
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Raw, Struct

from xrouter.core.chat import ChatRequest, Fields
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import Invalid
from xrouter.core.images import ImagesRequest
from xrouter.core.preferences import NOTHING, Preferences
from xrouter.core.rerank import RerankRequest

MAX_MODELS = 16

Text = Annotated[str, Meta(max_length=512)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
ModelId = Annotated[str, Meta(min_length=1, max_length=512)]
ModelIds = Annotated[list[ModelId], Meta(max_length=MAX_MODELS)]
NAME = "^[A-Za-z0-9_-]{1,64}$"
SIZE = "^(auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4})$"
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stops = Annotated[list[str], Meta(max_length=4)] | str
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]


class StreamOptions(Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_TOP_LEVEL = msgspec.json.Decoder(dict[str, Raw])
_NULL = Raw(b"null")
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")


class Checks:
    """The fields that an endpoint knows, and the type of each."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types
        self._decode = {name: msgspec.json.Decoder(kind).decode for name, kind in types.items()}

    def read(self, body: bytes) -> tuple[Fields, dict[str, Any]]:
        """All fields as text, and the decoded values of the known ones. Raises `Invalid` that names the field."""
        fields = top_level(body)
        decode = self._decode
        return fields, {name: self._check(name, raw) for name, raw in fields.items() if name in decode}

    def _check(self, name: str, raw: Raw) -> Any:
        try:
            return self._decode[name](raw)
        except msgspec.DecodeError as error:
            raise invalid(name, error, self._types[name]) from None


_AnyRequest = TypeVar("_AnyRequest", ChatRequest, EmbeddingsRequest, ImagesRequest, RerankRequest)
_PREFERENCES = msgspec.json.Decoder(Preferences)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_FOLLOWED = frozenset(Preferences.__struct_fields__)


def preferred(request: _AnyRequest) -> tuple[_AnyRequest, Preferences | None]:
    """The request without the preferences that are ours to follow, and these; None where there are none.

    What else stands in `provider` stays there: no vendor gets it, and the client is told that it was dropped.
    """
    raw = request.fields.get("provider")
    if raw is None:
        return request, None
    found = _PREFERENCES.decode(raw)
    rest = {name: value for name, value in _OBJECT.decode(raw).items() if name not in _FOLLOWED and value != _NULL}
    fields = {name: value for name, value in request.fields.items() if name != "provider"}
    if rest:
        fields["provider"] = Raw(msgspec.json.encode(rest))
    return msgspec.structs.replace(request, fields=fields), None if found == NOTHING else found


def require(values: Mapping[str, Any], *names: str) -> None:
    """Raises `Invalid` for the first field that is missing."""
    for name in names:
        if name not in values:
            raise Invalid(f"The field '{name}' is missing.", param=name, code="missing_required_parameter")


def include_usage(values: Mapping[str, Any]) -> bool:
    """Does `stream_options` ask for the usage? Raises `Invalid` where nothing is streamed."""
    options = values.get("stream_options")
    if options is None:
        return False
    if not values.get("stream", False):
        raise Invalid("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    return bool(options.include_usage)


def texts(name: str, value: str | list[Any], most: int) -> tuple[str, ...]:
    """A field that may be a text or a list of texts. Raises `Invalid` for an empty one, and for tokens: they belong to
    a tokenizer, and whoever serves the model may have another one."""
    if isinstance(value, str):
        value = [value] if value else []
    if not value:
        raise Invalid(f"{name}: must not be empty.", param=name)
    if len(value) > most:
        raise Invalid(f"{name}: at most {most} texts in one request, not {len(value)}.", param=name)
    for place, text in enumerate(value):
        if isinstance(text, list) or type(text) is int:
            raise Invalid(f"{name}: tokens are not accepted, because they depend on the model; send text.", param=name)
        if not isinstance(text, str) or not text:
            raise Invalid(f"{name}[{place}]: must be a text that is not empty.", param=f"{name}[{place}]")
    return tuple(value)


def top_level(body: bytes) -> Fields:
    """The JSON object, one level deep; fields that are null count as not sent."""
    try:
        fields = _TOP_LEVEL.decode(body)
    except msgspec.ValidationError:
        raise Invalid("The body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise Invalid("The body is nested too deeply.", code="invalid_json") from None
    return {name: raw for name, raw in fields.items() if raw != _NULL}


_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_WRONG_WORD = re.compile(r"Invalid enum value (?P<value>.+)$", re.DOTALL)
_OUT_OF_RANGE = re.compile(
    r"Expected `(?P<kind>str|array|int|float|object)` (?P<length>of length )?(?P<bound>>=|<=|>|<) (?P<number>[0-9.-]+)$"
)
_BOUNDS = {">=": "at least {}", "<=": "at most {}", ">": "more than {}", "<": "less than {}"}
_UNITS = {"str": " characters", "array": " entries", "object": " entries"}
_PATTERN = re.compile(r"Expected `str` matching regex '(?P<pattern>.+)'$", re.DOTALL)
# Who reads these words knows no regular expressions, or need not.
_PATTERNS = {
    NAME: "must be 1 to 64 letters, digits, _ and -",
    SIZE: "must be WIDTHxHEIGHT in pixels, such as 1024x1024, or auto",
}
_STEP = re.compile(r"\[[^]]*\]|[^.\[\]]+")


def _words_at(kind: Any, path: list[str]) -> list[str]:
    """The words that the type `kind` allows at `path`, whose steps are field names and `[...]`."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words_at(inside[0], path)
    if origin is Union or origin is UnionType:
        return [word for one in inside for word in _words_at(one, path)]
    if origin is Literal:
        return [] if path else list(inside)
    if origin is list or origin is dict:
        return _words_at(inside[-1], path[1:]) if path else []
    if isinstance(kind, type) and issubclass(kind, Struct):
        if not path:
            return ["an object"]
        return _words_at(get_type_hints(kind, include_extras=True).get(path[0]), path[1:])
    return []


def invalid(name: str, error: msgspec.DecodeError, kind: Any) -> Invalid:
    """msgspec's complaint about the field `name` of type `kind` with the place in our spelling and the words it
    may be."""
    text, param, code = str(error), name, None
    path: list[str] = []
    place = _PLACE.search(text)
    if place:
        path = _STEP.findall(place["path"])
        # msgspec writes `[...]` for a value of an object whose keys are the client's own.
        text, param = text[: place.start()], name + place["path"].replace("[...]", "")
    missing = _MISSING.search(text)
    if missing:
        param, text, code = f"{param}.{missing['field']}", "is missing", "missing_required_parameter"
    wrong = _WRONG_WORD.match(text)
    if wrong:
        allowed = _words_at(kind, path)
        text = f"{wrong['value'][:100]} is not allowed" + (f"; allowed: {', '.join(allowed)}" if allowed else "")
    return Invalid(f"{param}: {_in_words(text)}.", param=param, code=code)


def _in_words(text: str) -> str:
    """msgspec's complaint about a length, a range or a pattern as a person would say it; another one as it is."""
    bad = _OUT_OF_RANGE.fullmatch(text)
    if bad:
        if bad["length"] and (bad["bound"], bad["number"]) == (">=", "1"):
            return "must not be empty"
        bound = _BOUNDS[bad["bound"]].format(bad["number"])
        return f"must have {bound}{_UNITS[bad['kind']]}" if bad["length"] else f"must be {bound}"
    shaped = _PATTERN.fullmatch(text)
    return _PATTERNS.get(shaped["pattern"], text) if shaped else text
