"""Errors of the control plane, in the shape of every other error: `{"error": {message, type, param, code}}`."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route

from xrouter.core.api_key import NAME_PATTERN
from xrouter.core.errors import GatewayError, Internal, Invalid, MethodNotAllowed, NotFound
from xrouter.core.ids import ulid


class ErrorFields(BaseModel):
    """What went wrong. `param` names the field or query parameter; `code` is a stable word, below `/api/v1` the
    HTTP status as OpenRouter's clients expect it."""

    message: str
    type: str
    param: str | None
    code: str | int | None
    metadata: dict[str, Any]


class ErrorBody(BaseModel):
    error: ErrorFields


def handle_errors(app: FastAPI) -> None:
    """Every error of `app` becomes an `ErrorBody`."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _own_fault)


def unknown_name(name: str, known: frozenset[str], kind: str) -> Invalid:
    """The error for a field or parameter that does not exist; names the nearest one that does."""
    near = get_close_matches(name, sorted(known), 1)
    return Invalid(
        f"The {kind} '{name}' does not exist" + (f"; did you mean '{near[0]}'?" if near else "."),
        param=name,
        code="unknown_parameter",
    )


async def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return _answer(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: list[Mapping[str, Any]] = list(error.errors())
    # A name that does not exist says most: what is missing may only have been misspelled.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    place = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        return _answer(request, Invalid("The body is not valid JSON.", code="invalid_json"))
    if first["type"] == "extra_forbidden":
        names = "known_names" if len(place) == 1 else "nested_names"
        known = frozenset(getattr(request.scope.get("route"), names, ()))
        return _answer(request, unknown_name(place[-1], known, "field"))
    if not place:
        return _answer(request, Invalid("The body must be a JSON object, sent with Content-Type: application/json."))
    param = ".".join(place)
    if first["type"] == "missing":
        return _answer(request, Invalid(f"'{param}' is required.", param=param, code="missing_required_parameter"))
    return _answer(request, Invalid(f"'{param}': {_in_words(first)}.", param=param))


_WORDS = {
    "bool_type": "must be true or false, without quotes",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "int_type": "must be a whole number, without quotes",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number, without quotes",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "none_required": "must be null or left out",
    "string_too_short": "must not be empty",
}
_PATTERNS = {NAME_PATTERN: "must be text without line breaks and other control characters"}
_NO_ID = "is no id: ids are letters, digits, `.`, `_` and `-`"


def _in_words(found: Mapping[str, Any]) -> str:
    """What pydantic says, for people who do not know it."""
    kind, context = str(found["type"]), found.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context.get("pattern")), _NO_ID)
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters"
    if kind in ("too_long", "too_short"):
        least_or_most = "at most" if kind == "too_long" else "at least"
        number = context["max_length" if kind == "too_long" else "min_length"]
        return f"must have {least_or_most} {number} item{'' if number == 1 else 's'}"
    message = str(found["msg"]).removeprefix("Value error, ")
    message = _WORDS.get(kind, message.replace("Input should be", "must be", 1).replace("Input should", "must", 1))
    return message[:1].lower() + message[1:]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(request, NotFound(f"Unknown URL: {request.method} {request.url.path}", code="unknown_url"))
    if error.status_code == 405:
        allow = _methods(request)
        return _answer(
            request, MethodNotAllowed(f"This URL knows {', '.join(allow)}, not {request.method}.", allow=allow)
        )
    if error.status_code == 400:  # what the framework says of a body that is no text at all
        return _answer(request, Invalid("The body cannot be read: it must be JSON in UTF-8.", code="invalid_json"))
    if error.status_code < 500:
        return _answer(request, Invalid(f"The request is refused: {error.detail}."))
    return await _own_fault(request, error)


def _methods(request: Request) -> tuple[str, ...]:
    """What may be done at this URL: the framework itself names the methods of one route only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.path_regex.match(request.scope["path"])]
    return tuple(sorted({method for route in matching for method in route.methods or ()}))


async def _own_fault(request: Request, error: Exception) -> Response:
    """The exception itself goes on to the log; the client learns the request id only."""
    return _answer(request, Internal("Something went wrong in the gateway; its log holds the reason."))


def request_id_of(request: Request) -> str:
    """Ours, made at the first asking; the same for the whole request."""
    found: str | None = getattr(request.state, "request_id", None)
    if found is None:
        found = request.state.request_id = "req_" + ulid()
    return found


def error_body(error: GatewayError, request_id: str, code: str | int | None = None) -> bytes:
    """The JSON body of an error; `code` where it is another one than the error's own."""
    metadata: dict[str, Any] = {"request_id": request_id, **error.metadata}
    if code is not None:
        metadata["code"] = error.code
    fields = ErrorFields(
        message=error.message,
        type=error.type,
        param=error.param,
        code=error.code if code is None else code,
        metadata=metadata,
    )
    return msgspec.json.encode({"error": fields.model_dump()})


def _answer(request: Request, error: GatewayError) -> Response:
    request_id = request_id_of(request)
    code = error.http_status if request.scope["path"].startswith("/api/") else None
    headers = {"x-request-id": request_id}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = ", ".join(error.allow)
    return Response(error_body(error, request_id, code), error.http_status, headers, media_type="application/json")
