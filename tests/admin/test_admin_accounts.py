"""Organisations, teams, users and plans over HTTP; rotation; writes that are repeated."""

import asyncio
import json
from typing import Any

import pytest
from tests.admin.books import NOW, Plane

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def send(plane: Plane, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any, Any]:
    return await plane.ask(method, path, data=None if body is None else json.dumps(body).encode(), **more)


async def make(plane: Plane, kind: str, **fields: Any) -> Any:
    status, made, _ = await send(plane, "POST", f"/admin/{kind}", {"name": "a", **fields})
    assert status == 201, made
    return made


async def test_an_account_is_made_shown_changed_and_deleted(plane: Plane) -> None:
    organisation = await make(
        plane, "organisations", name=" Acme ", plan_id="pro", networks=["10.1.2.3", "10.1.2.3/32"]
    )
    assert organisation == {
        "object": "organisation",
        "id": organisation["id"],
        "name": "Acme",
        "created_at": "2027-01-15T08:00:00.000Z",
        "updated_at": "2027-01-15T08:00:00.000Z",
        "disabled": False,
        "plan_id": "pro",
        "limits": [],
        "models": None,
        "operations": None,
        "networks": ["10.1.2.3/32"],
    }
    limit = {"unit": "requests", "amount": 5, "window": "minute", "model": "a/*", "exact": True, "per": "tag"}
    team = await make(plane, "teams", organisation_id=organisation["id"], limits=[limit], operations=["chat"])
    assert (team["organisation_id"], team["limits"], team["operations"]) == (organisation["id"], [limit], ["chat"])
    user = await make(plane, "users", team_id=team["id"], models=["a/*"])
    assert (user["organisation_id"], user["team_id"]) == (organisation["id"], team["id"])

    path = f"/admin/users/{user['id']}"
    status, changed, _ = await send(plane, "PATCH", path, {"models": None, "disabled": True})
    assert (status, changed) == (200, user | {"models": None, "disabled": True})
    assert (await send(plane, "GET", path))[1] == changed

    status, answer, _ = await send(plane, "DELETE", f"/admin/organisations/{organisation['id']}")
    assert (status, answer["error"]["code"]) == (409, "still_in_use")
    for kind, one in (("users", user), ("teams", team), ("organisations", organisation)):
        assert (await send(plane, "DELETE", f"/admin/{kind}/{one['id']}"))[0] == 200
        assert (await send(plane, "GET", f"/admin/{kind}/{one['id']}"))[0] == 404


@pytest.mark.parametrize(
    ("kind", "fields", "param", "words"),
    [
        ("teams", {}, "organisation_id", "belongs to an organisation"),
        ("teams", {"organisation_id": "nobody"}, "organisation_id", "No organisation"),
        ("users", {"team_id": "nobody"}, "team_id", "No team"),
        ("organisations", {"plan_id": "nobody"}, "plan_id", "No plan"),
        ("organisations", {"limits": [{"unit": "requests", "amount": 1}]}, "limits", "have a window"),
        ("organisations", {"limits": [{"unit": "concurrent", "amount": 1, "window": "day"}]}, "limits", "has none"),
        (
            "organisations",
            {"limits": [{"unit": "requests", "amount": -1, "window": "day"}]},
            "limits.0.amount",
            "equal",
        ),
        ("organisations", {"limits": [{"unit": "x", "amount": 1, "window": "day"}]}, "limits.0.unit", "requests"),
        ("organisations", {"limits": [{"amout": 1}]}, "amout", "did you mean 'amount'?"),
        ("organisations", {"models": ["a b"]}, "models", "is no model id"),
        ("organisations", {"networks": ["10.0.0.1/8"]}, "networks", "host bits set"),
        ("organisations", {"operations": ["paint"]}, "operations.0", "chat"),
        ("organisations", {"modles": []}, "modles", "did you mean 'models'?"),
        ("plans", {"plan_id": "x"}, "plan_id", "does not exist"),
    ],
)
async def test_a_wrong_field_is_named(plane: Plane, kind: str, fields: dict[str, Any], param: str, words: str) -> None:
    status, answer, _ = await send(plane, "POST", f"/admin/{kind}", {"name": "a", **fields})
    assert status in (400, 404)
    error = answer["error"]
    assert error["param"].endswith(param)
    assert words in error["message"]


async def test_plans_are_listed_changed_and_not_deleted_while_somebody_has_them(plane: Plane) -> None:
    limits = [{"unit": "tokens", "amount": 9, "window": "day"}]
    plan = await make(plane, "plans", name="mine", limits=limits)
    _, page, _ = await send(plane, "GET", "/admin/plans")
    assert [one["name"] for one in page["data"]] == ["mine", "pro", "free", "enterprise"]
    seen: list[str] = []
    path = "/admin/plans?limit=1"
    for _ in range(4):
        _, page, _ = await send(plane, "GET", path)
        seen += [one["name"] for one in page["data"]]
        path = f"/admin/plans?limit=1&cursor={page['next_cursor']}"
    assert seen == ["mine", "pro", "free", "enterprise"]
    assert page["has_more"] is False

    status, answer, _ = await send(plane, "POST", "/admin/plans", {"name": "free"})
    assert (status, answer["error"]["code"]) == (409, "name_taken")
    status, changed, _ = await send(plane, "PATCH", "/admin/plans/free", {"limits": limits})
    assert (status, changed["name"], changed["limits"][0]["amount"]) == (200, "free", 9)
    assert (await send(plane, "GET", "/admin/plans/free"))[1] == changed
    assert (await send(plane, "DELETE", "/admin/plans/free"))[1]["error"]["code"] == "built_in"

    organisation = await make(plane, "organisations", plan_id=plan["id"])
    assert (await send(plane, "DELETE", f"/admin/plans/{plan['id']}"))[1]["error"]["code"] == "still_in_use"
    await send(plane, "PATCH", f"/admin/plans/{plan['id']}", {"disabled": True})
    status, answer, _ = await send(plane, "POST", "/admin/organisations", {"name": "late", "plan_id": plan["id"]})
    assert (status, answer["error"]["param"]) == (400, "plan_id")
    status, kept, _ = await send(plane, "PATCH", f"/admin/organisations/{organisation['id']}", {"name": "still"})
    assert (status, kept["plan_id"]) == (200, plan["id"])
    await send(plane, "PATCH", f"/admin/organisations/{organisation['id']}", {"plan_id": None})
    assert (await send(plane, "DELETE", f"/admin/plans/{plan['id']}"))[0] == 200
    assert (await send(plane, "GET", f"/admin/plans/{plan['id']}"))[0] == 404


async def test_a_keys_levels_follow_from_its_user_and_must_fit(plane: Plane) -> None:
    one, two = [await make(plane, "organisations", name=name) for name in ("one", "two")]
    team = await make(plane, "teams", organisation_id=one["id"])
    user = await make(plane, "users", team_id=team["id"])
    key = await make(plane, "keys", user_id=user["id"])
    assert (key["organisation_id"], key["team_id"]) == (one["id"], team["id"])
    wanted = {"name": "x", "organisation_id": two["id"], "team_id": team["id"]}
    status, answer, _ = await send(plane, "POST", "/admin/keys", wanted)
    assert (status, answer["error"]["param"]) == (400, "organisation_id")
    plain = await make(plane, "keys")
    status, moved, _ = await send(plane, "PATCH", f"/admin/keys/{plain['id']}", {"team_id": team["id"]})
    assert (status, moved["organisation_id"]) == (200, one["id"])
    _, page, _ = await send(plane, "GET", f"/admin/keys?team_id={team['id']}")
    assert {found["id"] for found in page["data"]} == {key["id"], plain["id"]}


async def test_a_key_is_changed_disabled_and_enabled_again(plane: Plane) -> None:
    key = await make(plane, "keys", expires_in_days=1, limits=[{"unit": "concurrent", "amount": 2}])
    path = f"/admin/keys/{key['id']}"
    plane.stores.clock.advance(1)
    for change, expected in (
        ({"name": "b"}, {"name": "b"}),
        ({"expires_at": None}, {"expires_at": None}),
        ({"disabled": True}, {"disabled": True}),
        ({"disabled": False}, {"disabled": False}),
        ({"limits": []}, {"limits": []}),
        ({"models": []}, {"models": []}),
        ({"expires_in_days": 2}, {"expires_at": "2027-01-17T08:00:01.000Z"}),
    ):
        status, changed, _ = await send(plane, "PATCH", path, change)
        assert status == 200, changed
        assert {name: changed[name] for name in expected} == expected
        assert changed["updated_at"] == "2027-01-15T08:00:01.000Z"
    plane.stores.clock.advance(-1)
    for wrong in ({"name": None}, {"name": ""}, {"scopes": None}, {"disabled": None}, {"expires_at": NOW - 1}):
        status, answer, _ = await send(plane, "PATCH", path, wrong)
        assert (status, answer["error"]["param"]) == (400, *wrong)


async def test_rotation_gives_a_new_secret_and_a_time_of_grace(plane: Plane) -> None:
    made = await make(plane, "keys", scopes=["admin"])
    path = f"/admin/keys/{made['id']}"
    status, fresh, _ = await send(plane, "POST", f"{path}/rotate")
    assert status == 200
    assert fresh["key"] != made["key"]
    assert fresh["key"].split("-")[3] == made["id"]
    assert fresh["former_until"] == "2027-01-16T08:00:00.000Z"
    for secret in (made["key"], fresh["key"]):
        assert (await plane.ask("GET", path, key=secret))[0] == 200
    plane.stores.clock.advance(86_401)
    assert (await plane.ask("GET", path, key=made["key"]))[0] == 401
    assert (await plane.ask("GET", path, key=fresh["key"]))[0] == 200
    plane.stores.clock.advance(-86_401)
    _, last, _ = await send(plane, "POST", f"{path}/rotate", {"grace_s": 0})
    assert last["former_until"] is None
    assert [(await plane.ask("GET", path, key=one["key"]))[0] for one in (made, fresh, last)] == [401, 401, 200]
    for wrong in ({"grace_s": -1}, {"grace_s": 1e9}, {"grace": 1}):
        assert (await send(plane, "POST", f"{path}/rotate", wrong))[0] == 400


async def test_a_repeated_write_is_made_once_and_answered_as_it_was(plane: Plane) -> None:
    headers = {"Idempotency-Key": "once"}
    before = len((await plane.keys.page(None, 100)).items)
    first = await send(plane, "POST", "/admin/keys", {"name": "a", "scopes": ["models"]}, headers=headers)
    again = await plane.ask("POST", "/admin/keys", data=b'{"scopes": ["models"],  "name": "a"}', headers=headers)
    assert (again[0], again[1]) == (201, first[1]), "the secret, too"
    assert "idempotent-replayed" not in first[2]
    assert again[2]["idempotent-replayed"] == "true"
    assert len((await plane.keys.page(None, 100)).items) == before + 1
    other = await send(plane, "POST", "/admin/keys", {"name": "b"}, headers=headers)
    assert (other[0], other[1]["error"]["code"]) == (422, "idempotency_key_reused")
    elsewhere = await send(plane, "POST", "/admin/organisations", {"name": "a", "scopes": ["models"]}, headers=headers)
    assert elsewhere[0] == 422
    plane.stores.clock.advance(86_401)
    assert (await send(plane, "POST", "/admin/keys", {"name": "b"}, headers=headers))[0] == 201
    plane.stores.clock.advance(-86_401)


async def test_the_key_of_a_refused_write_is_free_again(plane: Plane) -> None:
    headers = {"Idempotency-Key": "refused"}
    assert (await send(plane, "POST", "/admin/keys", {"nam": "a"}, headers=headers))[0] == 400
    assert (await send(plane, "POST", "/admin/keys", {"name": "a"}, headers=headers))[0] == 201
    for wrong in ("", "a" * 256, "ä"):
        status, answer, _ = await send(plane, "POST", "/admin/keys", {"name": "a"}, headers={"Idempotency-Key": wrong})
        assert (status, answer["error"]["param"]) == (400, "Idempotency-Key")


async def test_while_the_first_write_runs_a_second_one_is_told_to_wait(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key, gate, begun = plane.keys.make, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> Any:
        begun.set()
        await gate.wait()
        return await make_key(*arguments)

    monkeypatch.setattr(plane.keys, "make", slow)
    headers = {"Idempotency-Key": "slow"}
    running = asyncio.create_task(send(plane, "POST", "/admin/keys", {"name": "a"}, headers=headers))
    await begun.wait()
    status, answer, second = await send(plane, "POST", "/admin/keys", {"name": "a"}, headers=headers)
    assert (status, answer["error"]["code"], second["retry-after"]) == (409, "conflict", "1")
    gate.set()
    assert (await running)[0] == 201
    assert (await send(plane, "POST", "/admin/keys", {"name": "a"}, headers=headers))[2][
        "idempotent-replayed"
    ] == "true"


async def test_two_callers_with_one_idempotency_key_do_not_meet(plane: Plane) -> None:
    headers = {"Idempotency-Key": "shared"}
    admin = await make(plane, "keys", scopes=["admin"])
    _, first, _ = await send(plane, "POST", "/admin/keys", {"name": "a"}, headers=headers)
    _, second, again = await send(plane, "POST", "/admin/keys", {"name": "a"}, headers=headers, key=admin["key"])
    assert first["id"] != second["id"]
    assert "idempotent-replayed" not in again


async def test_keys_in_openrouters_form(plane: Plane) -> None:
    organisation = await make(plane, "organisations")
    team = await make(plane, "teams", organisation_id=organisation["id"])
    status, made, _ = await send(plane, "POST", "/api/v1/keys", {"name": "app", "workspace_id": team["id"]})
    assert status == 201
    data = made["data"]
    assert (data["workspace_id"], data["usage"], data["last_used_at"]) == (team["id"], 0, None)
    path = f"/api/v1/keys/{data['hash']}"
    assert (await send(plane, "GET", path))[1] == {"data": data}
    status, changed, _ = await send(plane, "PATCH", path, {"name": "renamed", "disabled": True})
    assert (changed["data"]["name"], changed["data"]["disabled"]) == ("renamed", True)
    assert data["hash"] not in {one["hash"] for one in (await send(plane, "GET", "/api/v1/keys"))[1]["data"]}
    _, listed, _ = await send(plane, "GET", f"/api/v1/keys?include_disabled=true&workspace_id={team['id']}")
    assert [one["hash"] for one in listed["data"]] == [data["hash"]]
    assert (await send(plane, "GET", "/api/v1/keys?offset=99"))[1] == {"data": []}
    await send(plane, "PATCH", path, {"disabled": False})
    assert (await send(plane, "DELETE", path))[1] == {"deleted": True}
    assert (await send(plane, "GET", path))[1]["data"]["disabled"] is True
    status, answer, _ = await send(plane, "POST", "/api/v1/keys", {"name": "app", "limit": 5.0})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, 400, "limit")
