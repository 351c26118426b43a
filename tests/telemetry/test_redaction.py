"""What may not stand in a log line, and what may."""

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrouter.core.api_key import mint
from xrouter.core.secret import Secret
from xrouter.settings import parse_config
from xrouter.telemetry.redaction import Redaction, is_hidden, secrets_in

redaction = Redaction()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-abcdefgh12345678 refused", "key *** refused"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("sent bearer abcdef123", "sent bearer ***"),
        ("Basic dXNlcjpwYXNz was refused", "Basic *** was refused"),
        (f"token {JWT} expired", "token *** expired"),
        (f"bad key {PEM} in file", "bad key *** in file"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEv", "***"),
        ("postgresql://user:pa@ss@db.example.com/x", "postgresql://***@db.example.com/x"),
        ("GET https://example.com/v1/models?key=AIza123 failed", "GET https://example.com/v1/models?*** failed"),
        ("GET /v1/models?api_key=x HTTP/1.1", "GET /v1/models?*** HTTP/1.1"),
        ("https://example.com/x?opaque", "https://example.com/x?***"),
        ('{"api_key": "hunter2", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("client_secret=abc&scope=x", "client_secret=***&scope=x"),
        ("password: hunter2", "password: ***"),
        ("Cookie: a=b; session=c", "***"),
        (base64.b64encode(b"client-id-1234:client-secret-5678-90").decode(), "***"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text, shown):
    assert redaction.text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the provider gigachat answered 503",
        "chatcmpl-01J5ZK3V9QY8W7T6R5E4D3C2B1",
        "0b9c8a7e-5d4f-4c3b-9a2e-1f0e9d8c7b6a",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "max_tokens: 5 of 100 tokens",
        "why? because",
        "listening on http://127.0.0.1:8080",
        "XROUTER_MAX_HEADER_BYTES is too small",
    ],
)
def test_what_operators_need_is_kept(text):
    assert redaction.text(text) == text


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z0-9_-]{1,39}", fullmatch=True))
def test_the_short_cut_for_ids_changes_nothing(text):
    assert redaction.text(text) == redaction.text(f"{text} ")[:-1]


@settings(deadline=None)
@given(st.text(max_size=3_000))
def test_any_text_is_accepted_and_bounded(text):
    assert len(redaction.text(text)) <= 1_100


@settings(deadline=timedelta(seconds=5))
@given(st.text(alphabet="a-_+=?/:@ .\"'0", min_size=1_000, max_size=1_000))
def test_no_text_makes_the_search_explode(text):
    redaction.text(text)  # takes a millisecond; backtracking without end would pass the deadline


def test_our_own_keys_are_masked():
    for _ in range(50):
        assert redaction.text(f"who sent {mint()[1].reveal()}?") == "who sent ***?"


NAMES = [
    "authorization", "Authorization", "api-key", "api_key", "X-Api-Key", "cookie", "set-cookie", "client_secret",
    "refresh_token", "db_password", "passwordHash", "messages", "prompt", "input", "content", "body",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_hidden_by_name_at_every_depth(name):
    assert redaction.fields({name: "x"}) == {name: "***"}
    assert redaction.fields({"a": [{name: ["x"]}]}) == {"a": [{name: "***"}]}


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "key_id", "model", "status", "reason", "why"])
def test_fields_of_numbers_and_names_are_not_hidden(name):
    assert not is_hidden(name)


def test_values_are_shown_by_kind():
    class Conversation:
        def __repr__(self) -> str:
            return "my passport is 4510 123456"

    at = datetime(2027, 1, 1, tzinfo=UTC)
    shown = redaction.fields(
        {
            "secret_object": Secret("hunter2"),
            "raw": b"my passport",
            "object": Conversation(),
            "objects": {"k": (Conversation(), 1, None, True, 1.5)},
            "path": Path("/var/lib"),
            "price": Decimal("0.1"),
            "at": at,
            "many": list(range(100)),
        }
    )
    many = shown.pop("many")
    assert isinstance(many, list)
    assert len(many) == 50
    assert shown == {
        "secret_object": "***",
        "raw": "<11 bytes>",
        "object": "<Conversation>",
        "objects": {"k": ["<Conversation>", 1, None, True, 1.5]},
        "path": "/var/lib",
        "price": "0.1",
        "at": str(at),
    }


def test_structures_without_end_are_cut():
    endless: list[object] = []
    endless.append(endless)
    assert "<list>" in str(redaction.fields({"x": endless}))


def test_exceptions_are_shown_without_the_values_they_quote():
    try:
        try:
            int("my passport is 4510 123456")
        except ValueError as error:
            raise RuntimeError("login with Bearer abcdef123456 failed") from error
    except RuntimeError as error:
        shown = redaction.exception(error)
    assert shown["type"] == "RuntimeError"
    assert shown["text"] == "login with Bearer *** failed"
    assert shown["cause"] == {"type": "ValueError", "text": "invalid literal for int() with base 10: '...'"}
    (place,) = shown["at"]
    assert place.startswith("tests/telemetry/test_redaction.py:")


def test_an_exception_that_cannot_be_printed_is_still_shown():
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert redaction.exception_text(Broken()) == "***"


def test_configured_secrets_are_masked_literally_wherever_they_stand():
    config = parse_config(
        {"providers": {"p": {"base_url": "https://example.com/v1", "api_key": "correct horse", "models": ["m"]}}}, "t"
    )
    found = list(secrets_in(config))
    assert [secret.reveal() for secret in found] == ["correct horse"]
    literal = Redaction([*found, Secret("ab")])
    assert literal.text("vendor says: 'correct horse' is about wrong") == "vendor says: '***' is about wrong"
    assert "corr" not in literal.text("x" * 990 + " correct horse")
