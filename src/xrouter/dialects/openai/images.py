"""`POST /v1/images/generations`: https://platform.openai.com/docs/api-reference/images/create.

Pictures come inside the answer, as base64: this gateway keeps none, so it has no URL to give.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from xrouter.core.call import Call
from xrouter.core.errors import Invalid
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.preferences import Preferences
from xrouter.dialects.openai import chat_answer
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openai.fields import SIZE, Checks, ModelId, ModelIds, Text, preferred, require
from xrouter.gateway import meter

MAX_PROMPT = 32_000
"""Characters, OpenAI's limit for its newest model."""

TYPES: dict[str, Any] = {
    "background": Literal["transparent", "opaque", "auto"],
    "model": ModelId,
    "models": ModelIds,
    "moderation": Literal["low", "auto"],
    "n": Annotated[int, Meta(ge=1, le=10)],
    "output_compression": Annotated[int, Meta(ge=0, le=100)],
    "output_format": Literal["png", "webp", "jpeg", "gif", "svg"],
    "partial_images": Annotated[int, Meta(ge=0, le=3)],
    "prompt": Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)],
    "provider": Preferences,
    "quality": Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"],
    "response_format": Literal["url", "b64_json"],
    "safety_identifier": Text,
    "seed": int,
    "size": Annotated[str, Meta(pattern=SIZE)],
    "stream": bool,
    "style": Literal["vivid", "natural"],
    "user": Text,
}
_CHECKS = Checks(TYPES)
_OURS = frozenset({"model", "models", "n", "partial_images", "prompt", "response_format", "size", "stream"})
_FORMATS = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}


def parse(body: bytes) -> tuple[ImagesRequest, Preferences | None]:
    """The request, and its wishes for the route. Raises `Invalid` that names the field."""
    fields, values = _CHECKS.read(body)
    require(values, "model", "prompt")
    if values.get("response_format") == "url":
        raise Invalid(
            "response_format: pictures come as 'b64_json'; this gateway keeps none, so there is no 'url' to them.",
            param="response_format",
        )
    for name in ("stream", "partial_images"):
        if values.get(name):
            raise Invalid(
                f"'{name}' is not supported: a picture comes whole.", param=name, code="unsupported_parameter"
            )
    size = values.get("size")
    return preferred(
        ImagesRequest(
            model=values["model"],
            prompt=values["prompt"],
            fields={name: raw for name, raw in fields.items() if name not in _OURS},
            n=values.get("n", 1),
            size=None if size == "auto" else size,
            models=tuple(values.get("models") or ()),
        )
    )


def whole(call: Call, answer: Images) -> bytes:
    """The body of the answer."""
    body: dict[str, Any] = {"created": int(call.started_at), "data": pictures(answer)}
    formats = {_FORMATS.get(image.mime) for image in answer.images}
    if len(formats) == 1 and None not in formats:
        body["output_format"] = formats.pop()
    body["usage"] = _usage(call)
    return msgspec.json.encode(body)


def pictures(answer: Images) -> list[dict[str, Any]]:
    """`data` of the answer."""
    return [
        {"b64_json": image.b64} | ({} if image.revised_prompt is None else {"revised_prompt": image.revised_prompt})
        for image in answer.images
    ]


def _usage(call: Call) -> dict[str, Any]:
    tokens = meter.used(call)
    read, made = (0, 0) if tokens is None else (tokens.input_tokens, tokens.output_tokens)
    found: dict[str, Any] = {
        "input_tokens": read,
        "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
        "output_tokens": made,
        "total_tokens": read + made,
        "cost": chat_answer.cost(call),
    }
    if meter.unpriced(call):
        found["unpriced"] = True
    if tokens is not None and tokens.estimated:
        found["estimated"] = True
    return found


def _asked(body: bytes) -> Asked:
    request, preferences = parse(body)
    return Asked(request, whole, preferences=preferences)


FORM = Form("img", _asked)
