"""The bodies of the native methods: completion, tokenizing, embedding, pictures.

proto3-JSON of `yandex/cloud/ai/foundation_models/v1` (https://github.com/yandex-cloud/cloudapi): int64 is text,
`Struct` an object, of a oneof there is one.
"""

import re
from collections.abc import Mapping
from math import gcd
from typing import Any, Final

import msgspec

from xrouter.core.chat import ChatRequest, Message, ToolCall
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import Invalid
from xrouter.core.images import ImagesRequest

from . import parameters
from .openai_request import Outgoing

PROMPT_CHARS: Final = 500
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_EMBEDDING_FIELDS: Final = frozenset({"input", "model", "models", "encoding_format", "dimensions"})
_IMAGE_FIELDS: Final = frozenset({"prompt", "model", "models", "n", "size", "response_format", "seed", "stream"})
_IMAGE_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "background": ("auto",),
    "moderation": ("auto",),
    "output_format": ("jpeg",),
    "quality": ("auto",),
    "stream": (False,),
}

_encode = msgspec.json.Encoder().encode


def completion_request(request: ChatRequest, uri: str) -> Outgoing:
    """A chat. Raises `Invalid` for what cannot be said."""
    parameters.refuse(request)
    options: dict[str, Any] = {"stream": request.stream}
    temperature, clamped = parameters.temperature(request)
    if temperature is not None:
        options["temperature"] = temperature
    if request.max_tokens is not None:
        options["maxTokens"] = str(request.max_tokens)
    if (effort := request.field("reasoning_effort")) is not None:
        options["reasoningOptions"] = {"mode": "DISABLED" if effort == "none" else "ENABLED_HIDDEN"}
    body = {"modelUri": uri, "completionOptions": options, "messages": _messages(request.messages())}
    body |= _tools(request) | _response_format(request.field("response_format"))
    stops, one_call = parameters.stops(request), parameters.one_call(request)
    return Outgoing(_encode(body), parameters.dropped(request), stops, one_call, clamped)


def tokenize_request(uri: str, text: str) -> bytes:
    """The body for counting one text."""
    return _encode({"modelUri": uri, "text": text})


def embedding_request(request: EmbeddingsRequest, uri: str) -> tuple[bytes, tuple[str, ...]]:
    """The body for one text, and what is left out. Raises `Invalid`."""
    if len(request.inputs) != 1:
        raise Invalid("YandexGPT makes the vector of one text per call", param="input")
    body: dict[str, Any] = {"modelUri": uri, "text": request.inputs[0]}
    if request.dimensions is not None:
        body["dim"] = str(request.dimensions)
    return _encode(body), tuple(
        name
        for name, raw in request.fields.items()
        if name not in _EMBEDDING_FIELDS and msgspec.json.decode(raw) is not None
    )


def picture_request(request: ImagesRequest, uri: str) -> tuple[bytes, tuple[str, ...]]:
    """The body for one picture, and what is left out. Raises `Invalid`."""
    if len(request.prompt) > PROMPT_CHARS:
        raise Invalid(f"YandexART takes a prompt of {PROMPT_CHARS} characters at most", param="prompt")
    options: dict[str, Any] = {"mimeType": "image/jpeg"}
    fields = {name: msgspec.json.decode(raw) for name, raw in request.fields.items()}
    seed = fields.get("seed")
    if seed is not None:
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise Invalid("seed must be a whole number from 0 on", param="seed")
        options["seed"] = str(seed)
    if request.size not in (None, "auto"):
        options["aspectRatio"] = _aspect_ratio(request.size or "")
    body = {"modelUri": uri, "messages": [{"text": request.prompt, "weight": "1"}], "generationOptions": options}
    return _encode(body), tuple(
        name
        for name, value in fields.items()
        if name not in _IMAGE_FIELDS and value is not None and value not in _IMAGE_NEUTRAL.get(name, ())
    )


def _aspect_ratio(size: str) -> dict[str, str]:
    """A picture has about 1024 x 1024 points whatever is asked; only the proportion can be chosen."""
    found = _SIZE.fullmatch(size)
    if found is None:
        raise Invalid(f"size is {size!r}: write WIDTHxHEIGHT in pixels, or auto", param="size")
    width, height = int(found[1]), int(found[2])
    common = gcd(width, height)
    return {"widthRatio": str(width // common), "heightRatio": str(height // common)}


def _tools(request: ChatRequest) -> dict[str, Any]:
    tools = parameters.tools_of(request)
    if not tools.functions:
        return {}
    choice = {"functionName": tools.only} if tools.only else {"mode": tools.mode.upper()}
    out: dict[str, Any] = {"tools": [{"function": function} for function in tools.functions], "toolChoice": choice}
    parallel = request.field("parallel_tool_calls")
    return out if parallel is None else {**out, "parallelToolCalls": parallel}


def _response_format(wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    kind = (wanted or {}).get("type")
    if wanted is not None and kind == "json_schema":
        return {"jsonSchema": {"schema": (wanted.get("json_schema") or {}).get("schema") or {"type": "object"}}}
    return {"jsonObject": True} if kind == "json_object" else {}


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    """The conversation. A message has text or calls or results, so a turn with text and calls becomes two."""
    names: dict[str, str] = {}
    out: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        text = _text(message, place)
        if message.role == "tool":
            call_id = message.tool_call_id or ""
            if call_id not in names:
                raise Invalid(
                    f"messages[{place}] answers no call of an assistant message before it", param=f"messages[{place}]"
                )
            result = {"functionResult": {"name": names[call_id], "content": text}}
            if out and "toolResultList" in out[-1]:
                out[-1]["toolResultList"]["toolResults"].append(result)
            else:
                out.append({"role": "user", "toolResultList": {"toolResults": [result]}})
            continue
        role = "system" if message.role == "developer" else message.role
        if text or not message.tool_calls:
            out.append({"role": role, "text": text})
        if message.tool_calls:
            names |= {call.id or call.name: call.name for call in message.tool_calls}
            calls = [{"functionCall": _call(call)} for call in message.tool_calls]
            out.append({"role": role, "toolCallList": {"toolCalls": calls}})
    return out


def _call(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": _arguments(call.arguments)}


def _arguments(text: str) -> dict[str, Any]:
    """The arguments of a call as the object that the vendor wants; what is none is wrapped into one."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"value": value}


def _text(message: Message, place: int) -> str:
    """The text of a message. Parts are joined by line ends."""
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        kind = part.get("type")
        if kind not in ("text", "refusal"):
            why = "this API takes no pictures" if kind == "image_url" else "only text is known"
            raise Invalid(
                f"messages[{place}].content has a part of type {kind!r}: {why}", param=f"messages[{place}].content"
            )
        found = part.get(kind)
        texts.append(found if isinstance(found, str) else "")
    return "\n".join(texts)
