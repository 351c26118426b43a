"""Vendors' refusals in all their shapes -> our errors, and nothing secret in them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.providers._http.failure import in_band, of_response, presentable, read_reason
from xrouter.providers._http.retry_after import retry_after_s

NOW = 1_795_211_677.0  # Fri, 20 Nov 2026 21:54:37 GMT


def failure(status: int, body: Any, headers: dict[str, str] | None = None, **more: Any) -> UpstreamError:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return of_response("acme", status, headers or {}, raw, now=NOW, **more)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "text"),
    [
        (
            404,
            {
                "error": {
                    "message": "The model `x` does not exist",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model_not_found",
                }
            },
            ProviderRefused,
            "model_not_found",
            "The model `x` does not exist",
        ),
        (
            404,
            {
                "error": {
                    "message": "The model `x` does not exist.",
                    "type": "NotFoundError",
                    "param": None,
                    "code": 404,
                }
            },
            ProviderRefused,
            "model_not_found",
            "does not exist",
        ),
        (404, {"status": 404, "message": "No such model"}, ProviderRefused, "model_not_found", "No such model"),
        (
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 32768 tokens.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
            ProviderRefused,
            "context_length_exceeded",
            "32768",
        ),
        (
            400,
            {"error": {"message": "System message must be at the beginning.", "type": "BadRequestError", "code": 400}},
            ProviderRefused,
            "provider_refused",
            "System message",
        ),
        (
            422,
            {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "bad"}]}},
            ProviderRefused,
            "provider_refused",
            "bad",
        ),
        (422, {"detail": "nope"}, ProviderRefused, "provider_refused", "nope"),
        (
            400,
            [{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}],
            ProviderRefused,
            "provider_refused",
            "API key not valid",
        ),
        (400, {"error": "just text"}, ProviderRefused, "provider_refused", "just text"),
        (
            429,
            {
                "error": {
                    "message": "You exceeded your quota",
                    "type": "insufficient_quota",
                    "code": "insufficient_quota",
                }
            },
            ProviderQuotaExhausted,
            "provider_quota_exhausted",
            "quota",
        ),
        (
            429,
            {"status": 429, "message": "Too Many Requests"},
            ProviderRateLimited,
            "provider_rate_limited",
            "Too Many",
        ),
        (401, {"error": {"code": "invalid_api_key"}}, ProviderAuthFailed, "provider_auth_error", "acme answered 401"),
        (502, b"<html><h1>Bad gateway</h1></html>", ProviderUnavailable, "provider_unavailable", "an HTML page"),
        (500, b"", ProviderUnavailable, "provider_unavailable", "acme answered 500"),
        (500, b"\xff\xfe plain", ProviderUnavailable, "provider_unavailable", "plain"),
    ],
)
def test_bodies(status: int, body: Any, kind: type, code: str, text: str) -> None:
    error = failure(status, body)
    assert type(error) is kind
    assert (error.code, error.upstream_status) == (code, status)
    assert text in error.message


def test_the_param_of_a_refusal_is_told() -> None:
    assert failure(400, {"error": {"message": "bad", "param": "temperature"}}).param == "temperature"


def test_a_vendor_may_have_its_own_status_for_a_long_prompt() -> None:
    body = {"status": 413, "message": "Payload too large"}
    assert failure(413, body, overflow_statuses=frozenset({413})).code == "context_length_exceeded"
    assert failure(413, body).code == "provider_refused"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "x", "type": "rate_limit_error"}}, ProviderRateLimited),
        ({"error": {"message": "x", "type": "BadRequestError", "code": 400}}, ProviderRefused),
        ({"error": {"message": "x", "code": "402"}}, ProviderUnavailable),
        ({"error": {"message": "x", "code": 402}}, ProviderQuotaExhausted),
        ({"error": "x"}, ProviderUnavailable),
        ({"error": True}, ProviderUnavailable),
        (None, ProviderUnavailable),
    ],
)
def test_errors_inside_a_success(body: Any, kind: type) -> None:
    assert type(in_band("acme", body)) is kind


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "param", "status", "detail"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json, st.sampled_from([200, 302, 400, 401, 404, 422, 429, 500, 599]))
def test_no_body_breaks_the_reading(body: Any, status: int) -> None:
    read_reason(body)
    for error in (failure(status, body), in_band("acme", body)):
        assert isinstance(error, UpstreamError)
        assert len(error.message) < 600
        assert not any(ord(char) < 32 for char in error.message)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-AbCd1234efgh5678",
        "eyJhbGciOiJSU0EifQ.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "0123456789abcdef0123456789abcdef",
        "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY3ODkw",
        "api_key=hunter2hunter2",
        "Bearer abcdefgh-ijkl",
        "Basic dXNlcjpwYXNz",
        '"token": "s3cr3t-value"',
    ],
)
def test_what_looks_like_a_credential_is_hidden(secret: str) -> None:
    shown = presentable(f"Incorrect key provided: {secret}.")
    assert "***" in shown
    value = secret.replace('"', " ").replace("=", " ").replace(":", " ").split()[-1]
    assert value not in shown


def test_our_own_credential_is_hidden_whatever_it_looks_like() -> None:
    assert presentable("key abc is wrong", "abc") == "key *** is wrong"


@pytest.mark.parametrize(
    "text",
    [
        "The model `t-tech/T-pro-it-2.1` does not exist",
        "request 550e8400-e29b-41d4-a716-446655440000",
        "DeepSeek-R1-Distill-Llama-70B-FP8-dynamic is loading",
        "Сообщение слишком длинное",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert presentable(text) == text


def test_reasons_are_cut() -> None:
    assert len(presentable("я" * 10_000)) == 500


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "500", "retry-after": "7"}, 0.5),
        ({"retry-after": "Fri, 20 Nov 2026 21:54:47 GMT"}, 10.0),
        ({"retry-after": "Fri, 20 Nov 2026 21:54:27 GMT"}, 0.0),
        ({"retry-after": "soon", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "120ms"}, 1.0),
        ({"x-ratelimit-reset-requests": "1h2m3.5s", "x-ratelimit-remaining-requests": "0"}, 3723.5),
        (
            {
                "x-ratelimit-reset-requests": "9s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "2s",
                "x-ratelimit-remaining-tokens": "0",
            },
            2.0,
        ),
        ({"x-ratelimit-reset": "1795211687"}, 10.0),
        ({"x-ratelimit-reset": "1795211687000"}, 10.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "999999999"}, 86400.0),
        ({"retry-after": "Fri, 99 Nov 2026 99:99:99 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds
    assert failure(429, b"{}", headers).retry_after_s == seconds


@given(st.text(max_size=40))
def test_no_header_breaks_the_reading(text: str) -> None:
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"):
        found = retry_after_s({name: text}, NOW)
        assert found is None or 0 <= found <= 86400
