"""An admin key that is restricted itself gives nobody more than it has, by any write (SEC-PRIV-01)."""

import json
from typing import Any

import pytest
import pytest_asyncio
from tests.admin.books import NOW, Plane

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIVE = {"unit": "requests", "amount": 5, "window": "minute", "model": None, "exact": False, "per": None}
NARROW = {"models": ["a/*"], "limits": [FIVE], "operations": ["chat"], "networks": ["127.0.0.0/8"]}
WIDER: dict[str, Any] = {
    "models": ["*"], "limits": [FIVE | {"amount": 6}], "operations": ["chat", "images"], "networks": ["0.0.0.0/0"],
}  # fmt: skip


async def ask(plane: Plane, key: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    status, answer, _ = await plane.ask(method, path, key=key, data=data, headers=headers)
    return status, answer


async def made(plane: Plane, key: str, kind: str, **fields: Any) -> Any:
    status, answer = await ask(plane, key, "POST", f"/admin/{kind}", {"name": kind} | fields)
    assert status == 201, answer
    return answer


class Organisation:
    """With a team that may everything, a team and a user that may little, and a restricted admin key."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.admin = ""

    async def settle(self) -> "Organisation":
        one = await made(self.plane, "root", "organisations")
        self.id = one["id"]
        self.wide = await made(self.plane, "root", "teams", name="wide", organisation_id=self.id)
        self.team = await made(self.plane, "root", "teams", name="narrow", organisation_id=self.id, **NARROW)
        self.user = await made(self.plane, "root", "users", team_id=self.team["id"], **NARROW)
        key = await made(self.plane, "root", "keys", scopes=["admin"], organisation_id=self.id, **NARROW)
        self.admin, self.admin_id = key["key"], key["id"]
        return self

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        return await ask(self.plane, self.admin, method, path, body, **headers)


@pytest_asyncio.fixture(loop_scope="module")
async def organisation(plane: Plane) -> Organisation:
    return await Organisation(plane).settle()


@pytest.mark.parametrize("field", sorted(WIDER))
async def test_wider_accounts_and_keys_are_neither_made_nor_left_behind(organisation: Organisation, field: str) -> None:
    wider = {field: WIDER[field]}
    below = {"organisation_id": organisation.id}
    for kind in ("teams", "users", "keys"):
        status, answer = await organisation.ask("POST", f"/admin/{kind}", {"name": "x"} | below | wider)
        assert (status, answer["error"]["param"]) == (403, field), kind
    key = await made(organisation.plane, organisation.admin, "keys", **NARROW)
    for path in (
        f"teams/{organisation.team['id']}",
        f"users/{organisation.user['id']}",
        f"keys/{key['id']}",
        f"keys/{organisation.admin_id}",
    ):
        status, answer = await organisation.ask("PATCH", f"/admin/{path}", wider)
        assert (status, answer["error"]["param"]) == (403, field), path


async def test_what_is_left_out_or_taken_away_is_the_makers_own(organisation: Organisation) -> None:
    for kind in ("teams", "users", "keys"):
        one = await made(organisation.plane, organisation.admin, kind, name=f"new {kind}")
        assert {name: one[name] for name in NARROW} == NARROW, kind
    nothing = {"models": None, "limits": [], "operations": None, "networks": None, "plan_id": "enterprise"}
    status, team = await organisation.ask("PATCH", f"/admin/teams/{organisation.team['id']}", nothing)
    assert (status, {name: team[name] for name in NARROW}) == (200, NARROW)


async def test_a_team_that_may_more_is_renamed_narrowed_and_disabled_and_not_enabled_again(
    organisation: Organisation,
) -> None:
    path = f"/admin/teams/{organisation.wide['id']}"
    status, team = await organisation.ask("PATCH", path, {"name": "renamed"})
    assert (status, team["models"], team["limits"]) == (200, None, []), "and stays as wide as it was"
    assert (await organisation.ask("PATCH", path, {"models": ["c/*"]}))[0] == 200
    assert (await organisation.ask("PATCH", path, {"models": ["*"]}))[0] == 403
    assert (await organisation.ask("PATCH", path, {"disabled": True}))[0] == 200
    status, answer = await organisation.ask("PATCH", path, {"disabled": False})
    assert status == 403
    assert "cannot" in answer["error"]["message"]


async def test_a_key_that_expires_widens_nobody_for_longer_than_it_lasts(organisation: Organisation) -> None:
    admin = await made(
        organisation.plane, "root", "keys", scopes=["admin"], organisation_id=organisation.id, expires_at=NOW + 60
    )
    path = f"/admin/teams/{organisation.team['id']}"
    status, answer = await ask(organisation.plane, admin["key"], "PATCH", path, {"models": ["a/*", "c/*"]})
    assert (status, answer["error"]["param"]) == (403, "models")
    assert "expires" in answer["error"]["message"]
    assert (await ask(organisation.plane, admin["key"], "PATCH", path, {"models": ["a/b"]}))[0] == 200


async def test_plans_and_organisations_are_widened_by_an_unrestricted_key_only(plane: Plane) -> None:
    plan = await made(plane, "root", "plans", limits=[FIVE])
    own = await made(plane, "root", "keys", scopes=["admin"], plan_id=plan["id"])
    one = await made(plane, "root", "organisations", limits=[FIVE])
    for path in (f"plans/{plan['id']}", "plans/free", f"organisations/{one['id']}"):
        for limits in ([], [FIVE | {"amount": 1_000_000}]):
            status, answer = await ask(plane, own["key"], "PATCH", f"/admin/{path}", {"limits": limits})
            if path.startswith("organisations") and not limits:
                assert answer["limits"] == [FIVE], "the maker's own take the place of what is taken away"
            else:
                assert (status, answer["error"]["param"]) == (403, "limits"), path
    assert (await ask(plane, own["key"], "PATCH", f"/admin/plans/{plan['id']}", {"limits": [FIVE | {"amount": 4}]}))[
        0
    ] == 200
    assert (await ask(plane, "root", "PATCH", f"/admin/plans/{plan['id']}", {"limits": []}))[0] == 200


@pytest.mark.parametrize("disabled", [False, True])
async def test_nobody_with_a_key_that_may_more_is_deleted(organisation: Organisation, disabled: bool) -> None:
    """Disabling first would be a way round."""
    wide = await made(organisation.plane, "root", "keys", user_id=organisation.user["id"])
    path = f"/admin/users/{organisation.user['id']}"
    if disabled:
        assert (await organisation.ask("DELETE", f"/admin/keys/{wide['id']}"))[0] == 200
    status, answer = await organisation.ask("DELETE", path)
    assert (status, wide["id"] in answer["error"]["message"]) == (403, True)
    assert (await ask(organisation.plane, "root", "PATCH", f"/admin/keys/{wide['id']}", {"disabled": False}))[0] == 200
    expiring = await made(
        organisation.plane, "root", "keys", scopes=["admin"], organisation_id=organisation.id, expires_at=NOW + 60
    )
    assert (await ask(organisation.plane, expiring["key"], "DELETE", path))[0] == 403
    assert (await ask(organisation.plane, wide["key"], "GET", "/admin/keys/current"))[0] != 401, "it works on"
    assert (await ask(organisation.plane, "root", "DELETE", path))[0] == 200


async def test_a_team_goes_where_its_keys_may_no_more_than_the_admin(organisation: Organisation) -> None:
    wide = await made(organisation.plane, "root", "keys", team_id=organisation.wide["id"])
    path = f"/admin/teams/{organisation.wide['id']}"
    for _ in range(2):
        assert (await organisation.ask("DELETE", path))[0] == 403
        assert (await organisation.ask("PATCH", f"/admin/keys/{wide['id']}", {"disabled": True}))[0] == 200
    team = await made(organisation.plane, organisation.admin, "teams", name="own", organisation_id=organisation.id)
    user = await made(organisation.plane, organisation.admin, "users", team_id=team["id"])
    await made(organisation.plane, organisation.admin, "keys", user_id=user["id"])
    assert (await organisation.ask("DELETE", f"/admin/users/{user['id']}"))[0] == 200
    assert (await organisation.ask("DELETE", f"/admin/teams/{team['id']}"))[0] == 200


async def test_no_plan_is_called_as_the_word_that_takes_one_away(plane: Plane) -> None:
    for name in ("none", "None"):
        status, answer = await ask(plane, "root", "POST", "/admin/plans", {"name": name})
        assert (status, answer["error"]["param"]) == (400, "name")


async def test_the_words_of_a_403_fit_whoever_asks(organisation: Organisation) -> None:
    status, answer = await organisation.ask("GET", "/admin/deployments")
    assert (status, "admins see them" in answer["error"]["message"]) == (403, True)
    own = await organisation.ask("PATCH", f"/admin/organisations/{organisation.id}", {"name": "x"})
    assert (own[0], "not by its own admin" in own[1]["error"]["message"]) == (403, True)


async def test_a_plan_is_deleted_by_an_unrestricted_key_only(plane: Plane) -> None:
    plan = await made(plane, "root", "plans", limits=[FIVE | {"amount": 4}])
    path = f"/admin/plans/{plan['id']}"
    for restriction in ({"limits": [FIVE]}, {"expires_at": NOW + 60}):
        admin = await made(plane, "root", "keys", scopes=["admin"], **restriction)
        assert (await ask(plane, admin["key"], "DELETE", path))[0] == 403
        assert (await ask(plane, admin["key"], "PATCH", path, {"disabled": True}))[0] == 200
    assert (await ask(plane, "root", "DELETE", path))[0] == 200


@pytest.mark.parametrize("api", ["/admin/keys", "/api/v1/keys"])
async def test_a_key_that_may_more_is_disabled_by_a_change_as_by_delete(organisation: Organisation, api: str) -> None:
    wide = await made(organisation.plane, "root", "keys", organisation_id=organisation.id)
    status, answer = await organisation.ask("PATCH", f"{api}/{wide['id']}", {"disabled": True})
    assert (status, answer.get("data", answer)["disabled"]) == (200, True)
    assert (await organisation.ask("PATCH", f"{api}/{wide['id']}", {"disabled": True, "name": "x"}))[0] == 403
    assert (await organisation.ask("PATCH", f"{api}/{wide['id']}", {"disabled": False}))[0] == 403


async def test_only_changes_of_limits_or_plan_write_the_admins_own_limits(organisation: Organisation) -> None:
    """What holds by the plan is not written down beside it by somebody who changes a name."""
    plan = await made(organisation.plane, "root", "plans", limits=[FIVE])
    by_plan = NARROW | {"limits": [], "plan_id": plan["id"]}
    team = await made(organisation.plane, "root", "teams", name="p", organisation_id=organisation.id, **by_plan)
    key = await made(organisation.plane, "root", "keys", team_id=team["id"], **by_plan)
    for path in (f"/admin/teams/{team['id']}", f"/admin/keys/{key['id']}"):
        for change in ({"disabled": True}, {"disabled": False}, {"name": "other"}, {"operations": ["chat"]}):
            status, answer = await organisation.ask("PATCH", path, change)
            assert (status, answer["limits"], answer["plan_id"]) == (200, [], plan["id"]), (path, change)
        status, answer = await organisation.ask("PATCH", path, {"plan_id": None})
        assert (status, answer["limits"]) == (200, [FIVE]), path


async def test_a_place_that_cannot_be_taken_away_is_said_to_be_so(organisation: Organisation) -> None:
    key = await made(organisation.plane, "root", "keys", user_id=organisation.user["id"])
    path = f"/admin/keys/{key['id']}"
    for field, words in (("organisation_id", "'user_id'"), ("team_id", "'user_id'")):
        status, answer = await ask(organisation.plane, "root", "PATCH", path, {field: None})
        assert (status, answer["error"]["param"]) == (400, field)
        assert words in answer["error"]["message"]
    status, answer = await ask(organisation.plane, "root", "PATCH", path, {"user_id": None})
    assert (status, answer["user_id"], answer["team_id"]) == (200, None, organisation.team["id"])
    status, answer = await ask(organisation.plane, "root", "PATCH", path, {"organisation_id": None})
    assert (status, "'team_id'" in answer["error"]["message"]) == (400, True)
    own = await made(organisation.plane, organisation.admin, "keys")
    status, answer = await organisation.ask("PATCH", f"/admin/keys/{own['id']}", {"organisation_id": None})
    assert (status, answer["error"]["param"]) == (400, "organisation_id")
    status, answer = await ask(
        organisation.plane, "root", "PATCH", path, {"organisation_id": None, "team_id": None, "user_id": None}
    )
    assert (status, answer["organisation_id"], answer["team_id"]) == (200, None, None)


async def test_a_key_that_may_more_is_neither_moved_nor_rotated_nor_given_a_plan(organisation: Organisation) -> None:
    wide = await made(organisation.plane, "root", "keys", organisation_id=organisation.id)
    path = f"/admin/keys/{wide['id']}"
    for body in ({"team_id": organisation.wide["id"]}, {"plan_id": "free"}, {"disabled": False}, {"name": "x"}):
        assert (await organisation.ask("PATCH", path, body))[0] == 403
    assert (await organisation.ask("POST", f"{path}/rotate"))[0] == 403
    assert (await organisation.ask("PATCH", f"/api/v1/keys/{wide['id']}", {"name": "x"}))[0] == 403


async def test_a_repeated_write_does_not_hand_out_again_what_the_key_may_not_make_any_more(plane: Plane) -> None:
    admin = await made(plane, "root", "keys", scopes=["admin"])
    once = {"idempotency_key": "once"}
    body = {"name": "wide", "scopes": ["admin"]}
    headers = {name.replace("_", "-"): value for name, value in once.items()}
    assert (await ask(plane, admin["key"], "POST", "/admin/keys", body, **headers))[0] == 201
    assert (await ask(plane, admin["key"], "POST", "/admin/keys", body, **headers))[0] == 201
    for change in ({"models": ["a/*"]}, {"limits": [FIVE]}):
        assert (await ask(plane, "root", "PATCH", f"/admin/keys/{admin['id']}", change))[0] == 200
        status, answer = await ask(plane, admin["key"], "POST", "/admin/keys", body, **headers)
        assert (status, answer["error"]["code"]) == (422, "idempotency_key_reused")
