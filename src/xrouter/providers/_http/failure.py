"""A vendor's refusal -> our error tree.

Vendors disagree about everything but the status: `error` is an object, a text or a list; `code` a word or a
number; some put `message` at the top, some `detail`. The table of statuses is `_of_status`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)

from .retry_after import retry_after_s

_REASON_LENGTH = 500
_READ_LENGTH = 8_000
_PARAM_LENGTH = 200

_QUOTA_WORDS = frozenset(
    {"insufficient_quota", "insufficient_balance", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"}
)
_OVERFLOW_PHRASES = ("maximum context length", "maximum model length", "context window", "context length exceeded")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_STATUS_OF_WORD = {
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "overloaded_error": 529,
    "timeout_error": 408,
    "server_error": 500,
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_SECRETS = re.compile(
    r"(?P<scheme>\b(?:Bearer|Basic)\s+)\S{8,}"
    r"|(?P<label>\b(?:api[_-]?key|access[_-]?token|token|secret|password|authorization)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;}]{6,}"
    r"|\b(?:sk|pk|rk|key|tok|xai|gsk|hf|ghp)[-_][A-Za-z0-9*_.-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"
    r"|(?<![A-Za-z0-9_+=])(?=[A-Za-z_+=]*\d)(?=[\d_+=]*[A-Za-z])[A-Za-z0-9_+=]{32,}",
    re.IGNORECASE,
)


class Reason(NamedTuple):
    """What a vendor says about a failure, in one shape. `status` is a number inside the body, 400 to 599."""

    text: str = ""
    word: str = ""
    kind: str = ""
    param: str | None = None
    status: int | None = None


def read_reason(body: Any) -> Reason:
    """The reason out of a decoded error body of any vendor's shape."""
    if isinstance(body, list):  # Gemini: [{"error": {...}}]
        return read_reason(body[0]) if body else Reason()
    if isinstance(body, str):
        return Reason(text=body)
    if not isinstance(body, dict):
        return Reason()
    error = body.get("error")
    if isinstance(error, dict | list):
        return read_reason(error)
    if isinstance(error, str) and "message" not in body:
        return Reason(text=error)
    code = body.get("code")
    numbers = [number for number in (code, body.get("status")) if _is_status(number)]
    param = body.get("param")
    return Reason(
        text=_text(body.get("message", body.get("detail"))),
        word=code if isinstance(code, str) else "",
        kind=kind if isinstance(kind := body.get("type"), str) else "",
        param=param if isinstance(param, str) and param else None,
        status=numbers[0] if numbers else None,
    )


def usual_error(body: Any) -> Any:
    """The body itself where it looks like an error of OpenAI's kind or of a proxy; None where it does not."""
    if isinstance(body, dict) and "choices" not in body and ("error" in body or "message" in body):
        return body
    return None


def own_status(_body: Any) -> int | None:
    """None: the status of an answer says enough."""
    return None


def _is_status(value: object) -> bool:
    return type(value) is int and 400 <= value <= 599


def _text(value: Any) -> str:
    """`message` is a text nearly always; Mistral and FastAPI servers nest a list of complaints."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "detail" in value:
        return _text(value["detail"])
    return "" if value is None else msgspec.json.encode(value).decode()


def presentable(text: str, *secrets: str) -> str:
    """Text of a vendor, fit to be shown: no control characters, nothing that looks like a credential, short.

    `secrets` are what we sent ourselves; they are removed whatever they look like.
    """
    text = _without(text, secrets)[:_READ_LENGTH]  # in this order: a cut must not leave half of one
    text = _CONTROL.sub(" ", text).strip()
    text = _SECRETS.sub(lambda found: (found["scheme"] or found["label"] or "") + "***", text)
    return text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 1] + "…"


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):  # the longest first: one may begin another
        text = text.replace(secret, "***")
    return text


def of_response(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    secrets: tuple[str, ...] = (),
    overflow_statuses: frozenset[int] = frozenset(),
    error_of: Callable[[Any], Any] = usual_error,
    status_of: Callable[[Any], int | None] = own_status,
) -> UpstreamError:
    """The error for an answer that is not a success. `overflow_statuses` mean "context too long" at this
    vendor, whatever the text says; `secrets` are what its text must not show; `error_of` and `status_of` as in
    `Exchange`."""
    if 300 <= status < 400:
        return ProviderUnavailable(
            f"{provider} answered {status}: redirect not followed", provider=provider, upstream_status=status
        )
    reason, meant = _read_body(headers, body, error_of, status_of)
    reason = _shown(reason, secrets)
    said = reason.text
    error = _of_status(
        provider,
        meant or status,
        f"{provider} answered {status}: {said}" if said else f"{provider} answered {status}",
        reason,
        overflow=status in overflow_statuses,
    )
    error.retry_after_s = retry_after_s(headers, now)
    return error


def in_band(provider: str, body: Any, secrets: tuple[str, ...] = ()) -> UpstreamError:
    """The error for one that came inside a 200: in a stream, or as the whole body."""
    reason = _shown(read_reason(body), secrets)
    status = reason.status or _STATUS_OF_WORD.get(reason.word.lower()) or _STATUS_OF_WORD.get(reason.kind.lower())
    said = reason.text or "no reason given"
    return _of_status(provider, status or 500, f"{provider} broke off its answer: {said}", reason)


def _shown(reason: Reason, secrets: tuple[str, ...]) -> Reason:
    """The same reason, every text of it fit to be shown."""
    return reason._replace(
        text=presentable(reason.text, *secrets),
        word=_without(reason.word, secrets),
        param=reason.param and presentable(reason.param, *secrets)[:_PARAM_LENGTH],
    )


def _of_status(provider: str, status: int, message: str, reason: Reason, *, overflow: bool = False) -> UpstreamError:
    if status == 402 or (status in (400, 403, 429) and {reason.word, reason.kind} & _QUOTA_WORDS):
        return ProviderQuotaExhausted(message, provider=provider, upstream_status=status)
    if status in (401, 403):
        return ProviderAuthFailed(message, provider=provider, upstream_status=status)
    if status == 429:
        return ProviderRateLimited(message, provider=provider, upstream_status=status)
    if status == 408:
        return ProviderTimeout(message, provider=provider, upstream_status=status)
    if status in (409, 425) or status >= 500 or status < 400:
        return ProviderUnavailable(message, provider=provider, upstream_status=status)
    return ProviderRefused(
        message,
        provider=provider,
        upstream_status=status,
        code=_refusal_code(status, reason, overflow=overflow),
        param=reason.param,
    )


def _refusal_code(status: int, reason: Reason, *, overflow: bool) -> str | None:
    text = reason.text.lower()
    if overflow or any(phrase in text for phrase in _OVERFLOW_PHRASES):
        return "context_length_exceeded"
    if _WORD.fullmatch(reason.word):
        return reason.word
    return "model_not_found" if status == 404 and "model" in text else None


def _read_body(
    headers: Mapping[str, str],
    body: bytes,
    error_of: Callable[[Any], Any],
    status_of: Callable[[Any], int | None],
) -> tuple[Reason, int | None]:
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        if "html" in headers.get("content-type", "") or body.lstrip()[:1] == b"<":
            return Reason(text="an HTML page"), None
        return Reason(text=body.decode("utf-8", "replace")), None
    error = error_of(said)
    return read_reason(said if error is None else error), status_of(said)
