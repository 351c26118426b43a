"""Error bodies: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

Source: https://docs.anthropic.com/en/api/errors
"""

from typing import Any, Final

_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TOO_LONG: Final = "prompt is too long"
_NO_MONEY: Final = "credit balance is too low"


def error_of(body: Any) -> Any:
    """The error in a decoded body, in the usual shape; None where it holds none. A proxy speaks as proxies do."""
    if not isinstance(body, dict) or body.get("type") == "message":
        return None
    error = body.get("error")
    if body.get("type") != "error" or not isinstance(error, dict):
        return body if "error" in body or ("message" in body and "type" not in body) else None
    kind, message = error.get("type"), error.get("message")
    return {"message": message, "type": kind, "code": _code(kind, message), "status": _status(kind)}


def _status(kind: Any) -> int | None:
    return _STATUSES.get(kind) if isinstance(kind, str) else None


def _code(kind: Any, message: Any) -> str | None:
    """Ours where the words say more than the type, which is not much of a reason anyway."""
    said = message.lower() if isinstance(message, str) else ""
    if _TOO_LONG in said:
        return "context_length_exceeded"
    if _NO_MONEY in said:
        return "insufficient_quota"
    return "model_not_found" if kind == "not_found_error" and "model" in said else None
