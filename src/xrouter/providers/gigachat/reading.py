"""What both contracts need to read an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import Answer, Fields, FinishReason, Usage, token_count
from xrouter.core.errors import ProviderUnavailable, UpstreamError
from xrouter.core.stops import StopCutter

from .json_object import ObjectCutter
from .schema import restored

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "function_call": "tool_calls",
    "blacklist": "content_filter",
}
NULL = Raw(b"null")

as_fields = msgspec.json.Decoder(Fields).decode
as_list = msgspec.json.Decoder(list[Fields]).decode
_as_text = msgspec.json.Decoder(str | None).decode


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request leaves to know for its answer. `names` leads from the vendor's function names to the client's;
    `stops` end the text; `wants_object`: it must be a JSON object; `schema_function` is the function whose arguments
    are the answer itself, for models without structured output. `schemas` are the client's schemas of arguments, by
    the client's names, where the vendor was given another one."""

    provider: str
    in_band: Callable[[Any], UpstreamError]
    attempt_id: str
    names: Mapping[str, str] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    wants_object: bool = False
    schema_function: str = ""
    schemas: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def broken(self, what: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.provider} {what}", provider=self.provider)

    def finish_reason(self, native: str) -> FinishReason:
        """Ours for the vendor's. `error` (the model wrote arguments that are none) is the vendor's failure."""
        if native == "error":
            raise self.broken("broke off its answer: the model produced an invalid function call")
        if native == "function_call" and self.schema_function:
            return "stop"
        return _FINISH.get(native, "stop")

    def no_object(self) -> ProviderUnavailable:
        return self.broken("did not answer with the JSON object that was asked for")

    def check(self, answer: Answer) -> None:
        """Raises `ProviderUnavailable` where a whole answer is not the object that was asked for."""
        for choice in answer.choices if self.wants_object else ():
            if choice.finish_reason == "stop" and (choice.native_finish_reason or "stop") == "stop":
                cutter = ObjectCutter()
                cutter.feed(choice.message.content or "")
                if not (cutter.is_object() or self.stops):
                    raise self.no_object()


class AnswerText:
    """The text of one choice, in any cut, as it may be shown: ended by a stop sequence (`hit`), and nothing but the
    object where one was asked for."""

    __slots__ = ("_object", "_stops", "hit", "plain")

    def __init__(self, reading: Reading) -> None:
        self._stops = StopCutter(reading.stops)
        self._object = ObjectCutter() if reading.wants_object else None
        self.plain = not reading.stops and self._object is None
        self.hit = False

    def feed(self, text: str) -> str:
        if self.plain:
            return text
        text = self._stops.feed(text)
        self.hit = self._stops.hit
        return text if self._object is None else self._object.feed(text)

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        if self.plain:
            return ""
        text = self._stops.end()
        return text if self._object is None else self._object.feed(text)

    def rest(self) -> str:
        """What stood before the object, for an answer that may end without one."""
        return "" if self._object is None else self._object.rest()

    def lacks_object(self) -> bool:
        return self._object is not None and not self._object.is_object()


def function_call(raw: Raw, reading: Reading) -> tuple[str, str]:
    """(the client's name, arguments as JSON text, as the client's schema wants them)."""
    call = as_fields(raw)
    name = text_of(call.get("name"))
    if not name:
        raise ValueError("a function call without a name")
    arguments = call.get("arguments", Raw(b"{}"))
    value = msgspec.json.decode(arguments)
    text = value if isinstance(value, str) else "{}" if value is None else str(arguments, "utf-8")
    name = reading.names.get(name, name)
    schema = reading.schemas.get(name)
    if schema is not None and isinstance(value, dict):
        text = msgspec.json.encode(restored(value, schema, schema)).decode()
    return name, text


def text_of(raw: Raw | None) -> str:
    return "" if raw is None else _as_text(raw) or ""


def extra_of(fields: Fields, ours: tuple[str, ...] = ()) -> Fields | None:
    """What is left, as copies in UTF-8. Raises ValueError for other bytes."""
    out = {}
    for name, raw in fields.items():
        if name not in ours and raw != NULL:
            str(raw, "utf-8")
            out[name] = raw.copy()
    return out or None


def read_usage(raw: Raw | None) -> Usage | None:
    """Tokens as reported; None where the report is absent or absurd, then the gateway estimates.

    `prompt_tokens` leaves out the cached ones already (`precached_prompt_tokens` are free and come on top), so
    what is billed is the price of `prompt_tokens`, and the cached count must not lower it again: it is told to
    the client, cut to the input, and no price table here has a price for it. Contract v2 says the same in other
    words: `input_tokens_details.prompt_tokens` and `.cached_tokens`.
    """
    try:
        found = None if raw is None else msgspec.json.decode(raw)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    if "input_tokens" in found:
        details = found.pop("input_tokens_details", None)
        details = details if isinstance(details, dict) else {}
        told = found.pop("input_tokens")
        prompt, completion = (
            token_count(details.get("prompt_tokens", told)),
            token_count(found.pop("output_tokens", None)),
        )
        cached = token_count(details.get("cached_tokens")) or 0
    else:
        prompt, completion = (
            token_count(found.pop("prompt_tokens", None)),
            token_count(found.pop("completion_tokens", None)),
        )
        cached = token_count(found.get("precached_prompt_tokens")) or 0
    if prompt is None or completion is None:
        return None
    found.pop("total_tokens", None)
    extra = {name: Raw(msgspec.json.encode(value)) for name, value in found.items()}
    return Usage(prompt, completion, cached_tokens=min(cached, prompt), extra=extra or None)
