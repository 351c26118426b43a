"""What the control plane says of a wrong field, to somebody who knows neither pydantic nor regular expressions."""

import json
import re
from typing import Any

import pytest
from tests.admin.books import Plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = {"unit": "requests", "amount": 1, "window": "day"}
_JARGON = re.compile(r"Input|pattern|\^|should|valid |value error|str |bool |pydantic", re.IGNORECASE)


@pytest.mark.parametrize(
    ("path", "fields", "param", "words"),
    [
        ("/admin/organisations", {"name": "a\nb"}, "name", "control characters"),
        ("/admin/organisations", {"name": " "}, "name", "must not be empty"),
        ("/admin/organisations", {"name": "a" * 101}, "name", "at most 100 characters"),
        ("/admin/organisations", {"name": 5}, "name", "must be text"),
        ("/admin/organisations", {"disabled": "yes"}, "disabled", "must be true or false"),
        ("/admin/organisations", {"disabled": 1}, "disabled", "must be true or false"),
        ("/admin/organisations", {"disabled": None}, "disabled", "must be true or false"),
        ("/admin/organisations", {"models": "a/*"}, "models", "must be a list"),
        ("/admin/organisations", {"models": [5]}, "models.0", "must be text"),
        ("/admin/organisations", {"limits": [5]}, "limits.0", "must be an object"),
        ("/admin/organisations", {"limits": [LIMIT | {"amount": "5"}]}, "limits.0.amount", "must be a whole number"),
        ("/admin/organisations", {"limits": [LIMIT | {"amount": 1.5}]}, "limits.0.amount", "must be a whole number"),
        ("/admin/organisations", {"limits": [LIMIT | {"exact": "true"}]}, "limits.0.exact", "must be true or false"),
        ("/admin/organisations", {"limits": [LIMIT | {"window": "hour"}]}, "limits.0.window", "'minute' or 'day'"),
        ("/admin/organisations", {"operations": ["x"]}, "operations.0", "must be 'chat'"),
        ("/admin/organisations", {"plan_id": "a b"}, "plan_id", "is no id"),
        ("/admin/teams", {"organisation_id": "a b"}, "organisation_id", "is no id"),
        ("/admin/plans", {"disabled": "no"}, "disabled", "must be true or false"),
        ("/admin/keys", {"disabled": "no"}, "disabled", "must be true or false"),
        ("/admin/keys", {"scopes": []}, "scopes", "must have at least 1 item"),
        ("/admin/keys", {"scopes": ["root"]}, "scopes.0", "must be 'models' or 'admin'"),
        ("/admin/keys", {"expires_in_days": "5"}, "expires_in_days", "must be a number"),
        ("/admin/keys", {"expires_at": "tomorrow"}, "expires_at", "RFC 3339"),
        ("/api/v1/keys", {"limit": 5.0}, "limit", "no limits in money"),
        ("/api/v1/keys", {"limit_reset": "daily"}, "limit_reset", "no limits in money"),
    ],
)
async def test_a_wrong_value_is_told_in_words(
    plane: Plane, path: str, fields: dict[str, Any], param: str, words: str
) -> None:
    body = json.dumps({"name": "a"} | fields).encode()
    status, answer, _ = await plane.ask("POST", path, data=body)
    error = answer["error"]
    assert (status, error["param"]) == (400, param), answer
    assert words in error["message"]
    assert not _JARGON.search(error["message"]), error["message"]


@pytest.mark.parametrize(
    ("query", "param", "words"),
    [
        ("/admin/keys?limit=0", "limit", "greater than or equal to 1"),
        ("/admin/keys?limit=many", "limit", "must be a whole number"),
        ("/admin/keys?limit=", "limit", "must be a whole number"),
        ("/api/v1/keys?offset=x", "offset", "must be a whole number"),
        ("/api/v1/keys?include_disabled=perhaps", "include_disabled", "must be true or false"),
        ("/api/v1/keys?limit=5", "limit", "does not exist"),
        ("/admin/teams/a%20b", "team_id", "is no id"),
        ("/admin/attempts?state=gone", "state", "must be 'open'"),
    ],
)
async def test_a_wrong_parameter_is_told_in_words(plane: Plane, query: str, param: str, words: str) -> None:
    status, answer, _ = await plane.ask("GET", query)
    error = answer["error"]
    assert (status, error["param"]) == (400, param), answer
    assert words in error["message"]
    assert not _JARGON.search(error["message"]), error["message"]


async def test_grace_is_a_number(plane: Plane) -> None:
    _, made, _ = await plane.ask("POST", "/admin/keys", data=b'{"name": "a"}')
    status, answer, _ = await plane.ask("POST", f"/admin/keys/{made['id']}/rotate", data=b'{"grace_s": "5"}')
    assert (status, answer["error"]["param"]) == (400, "grace_s")


async def test_built_in_plans_were_not_made_in_1970(plane: Plane) -> None:
    _, free, _ = await plane.ask("GET", "/admin/plans/free")
    assert (free["created_at"], free["updated_at"]) == (None, None)
    _, changed, _ = await plane.ask("PATCH", "/admin/plans/free", data=b'{"limits": []}')
    assert (changed["created_at"], changed["updated_at"]) == (None, "2027-01-15T08:00:00.000Z")


async def test_a_key_shows_whether_it_works_and_why_not(plane: Plane) -> None:
    async def send(method: str, path: str, **body: Any) -> Any:
        status, answer, _ = await plane.ask(method, path, data=json.dumps(body).encode())
        assert status in (200, 201), answer
        return answer

    one = await send("POST", "/admin/organisations", name="Acme")
    user = await send("POST", "/admin/users", name="anna", organisation_id=one["id"])
    key = await send("POST", "/admin/keys", name="app", user_id=user["id"], expires_in_days=1)
    assert (key["state"], key["state_reason"]) == ("active", None)
    path = f"/admin/keys/{key['id']}"
    await send("PATCH", f"/admin/organisations/{one['id']}", disabled=True)
    _, page, _ = await plane.ask("GET", f"/admin/keys?user_id={user['id']}")
    assert [(one["state"], one["state_reason"]) for one in page["data"]] == [
        ("disabled", "its organisation 'Acme' is disabled")
    ]
    await send("PATCH", f"/admin/organisations/{one['id']}", disabled=False)
    plane.stores.clock.advance(86_401)
    assert (await plane.ask("GET", path))[1]["state"] == "expired"
    plane.stores.clock.advance(-86_401)
    assert (await plane.ask("DELETE", f"/admin/users/{user['id']}"))[0] == 200
    _, deleted, _ = await plane.ask("GET", path)
    assert (deleted["state"], deleted["deleted_at"]) == ("deleted", "2027-01-15T08:00:00.000Z")
    status, answer, _ = await plane.ask("PATCH", path, data=b'{"disabled": false}')
    assert (status, answer["error"]["code"]) == (409, "deleted")
    status, answer, _ = await plane.ask("POST", "/admin/organisations", data=b'{"name": "Acme"}')
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (409, "name_taken", "name")
