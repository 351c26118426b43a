"""Keys over HTTP: made once, shown once, listed, disabled."""

import json
from typing import Any

import pytest
from tests.admin.books import CALLERS, NOW, Plane

from xrouter.core.api_key import is_mistyped

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _create(plane: Plane, **fields: Any) -> tuple[int, Any, Any]:
    return await plane.ask("POST", "/admin/keys", data=json.dumps(fields).encode())


async def test_a_new_key_is_shown_once(plane: Plane) -> None:
    status, made, headers = await _create(plane, name=" my app ")
    assert status == 201
    assert headers["content-type"] == "application/json"
    assert made["name"] == "my app"
    assert made["scopes"] == ["models"]
    assert made["created_at"] == "2027-01-15T08:00:00.000Z"
    assert made["created_by"] == "kroot"
    assert made["expires_at"] is None
    assert made["key"].startswith(f"sk-xr-v1-{made['id']}-")
    assert not is_mistyped(made["key"])

    status, shown, _ = await plane.ask("GET", f"/admin/keys/{made['id']}")
    assert status == 200
    assert shown == {name: value for name, value in made.items() if name != "key"}


@pytest.mark.parametrize(
    ("fields", "expires_at"),
    [
        ({"expires_in_days": 1}, "2027-01-16T08:00:00.000Z"),
        ({"expires_in_days": 0.5}, "2027-01-15T20:00:00.000Z"),
        ({"expires_at": "2027-02-01T03:00:00.5+03:00"}, "2027-02-01T00:00:00.500Z"),
        ({"expires_at": "2027-02-01T00:00:00z"}, "2027-02-01T00:00:00.000Z"),
        ({"expires_at": NOW + 1}, "2027-01-15T08:00:01.000Z"),
    ],
)
async def test_a_key_may_expire(plane: Plane, fields: dict[str, Any], expires_at: str) -> None:
    status, made, _ = await _create(plane, name="a", **fields)
    assert (status, made["expires_at"]) == (201, expires_at)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "name", "missing_required_parameter"),
        ({"name": ""}, "name", "invalid_value"),
        ({"name": "   "}, "name", "invalid_value"),
        ({"name": "a\nb"}, "name", "invalid_value"),
        ({"name": "a" * 101}, "name", "invalid_value"),
        ({"name": 5}, "name", "invalid_value"),
        ({"name": "a", "scopes": []}, "scopes", "invalid_value"),
        ({"name": "a", "scopes": ["root"]}, "scopes.0", "invalid_value"),
        ({"name": "a", "expires_at": "tomorrow"}, "expires_at", "invalid_value"),
        ({"name": "a", "expires_at": "2027-02-30T00:00:00Z"}, "expires_at", "invalid_value"),
        ({"name": "a", "expires_at": "2027-02-01T00:00:00"}, "expires_at", "invalid_value"),
        ({"name": "a", "expires_at": "2026-01-01T00:00:00Z"}, "expires_at", "invalid_value"),
        ({"name": "a", "expires_in_days": 0}, "expires_in_days", "invalid_value"),
        ({"name": "a", "expires_in_days": float("nan")}, "expires_in_days", "invalid_value"),
        ({"name": "a", "expires_in_days": "7"}, "expires_in_days", "invalid_value"),
        ({"name": "a", "expires_in_days": 1, "expires_at": NOW + 1}, "expires_in_days", "invalid_value"),
        ({"name": "a", "created_by": "me"}, "created_by", "unknown_parameter"),
    ],
)
async def test_wrong_fields_are_named(plane: Plane, fields: dict[str, Any], param: str, code: str) -> None:
    status, body, _ = await _create(plane, **fields)
    assert status == 400
    assert (body["error"]["param"], body["error"]["code"]) == (param, code)
    assert body["error"]["type"] == "invalid_request_error"
    assert len((await plane.keys.page(None, 10)).items) == len(CALLERS)


async def test_an_unknown_field_gets_a_near_name(plane: Plane) -> None:
    _, body, _ = await _create(plane, name="a", expires_in_day=3)
    assert "did you mean 'expires_in_days'?" in body["error"]["message"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b'"\\ud800"', b'{"name":"\\ud800"}', b"[" * 9_000]
)
async def test_a_body_that_is_no_object_is_refused(plane: Plane, data: bytes) -> None:
    status, body, _ = await plane.ask("POST", "/admin/keys", data=data)
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_64_kib_is_refused(plane: Plane) -> None:
    status, body, _ = await plane.ask("POST", "/admin/keys", data=b" " * 70_000)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


async def test_keys_are_listed_page_by_page_without_their_text(plane: Plane) -> None:
    made = [(await _create(plane, name=f"k{number}"))[1] for number in range(5)]
    seen: list[Any] = []
    path = "/admin/keys?limit=2"
    for _ in range(4):  # with those of the test's own callers
        status, page, _ = await plane.ask("GET", path)
        assert status == 200
        assert page["object"] == "list"
        assert page["has_more"] == (page["next_cursor"] is not None)
        seen += page["data"]
        path = f"/admin/keys?limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert sorted(key["name"] for key in seen[:5]) == ["k0", "k1", "k2", "k3", "k4"]
    assert {key["id"] for key in seen[5:]} == {caller.key_id for caller in CALLERS.values()}
    assert not any("key" in key for key in seen)
    assert not any(one["key"] in json.dumps(seen) for one in made)


async def test_disabling_may_be_repeated_and_keeps_the_row(plane: Plane) -> None:
    _, made, _ = await _create(plane, name="a")
    for _ in range(2):
        status, key, _ = await plane.ask("DELETE", f"/admin/keys/{made['id']}")
        assert (status, key["disabled"]) == (200, True)
    _, key, _ = await plane.ask("GET", f"/admin/keys/{made['id']}")
    assert key["disabled"] is True


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_key_is_not_found(plane: Plane, method: str) -> None:
    status, body, _ = await plane.ask(method, "/admin/keys/nobody")
    assert (status, body["error"]["param"]) == (404, "key_id")
