"""Two tenants: over every route of the control plane, what is another's does not exist."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio
from tests.admin.books import NOW, Plane, attempt

from xrouter.admin.guard import GuardedRoute
from xrouter.stores.sql.cursors import cursor_after

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN_ID = {"/api/v1/generation", "/api/v1/key"}
"""Routes whose id is in the query, or nowhere: tried by themselves below."""
PLANS = "/admin/plans/"
"""Belong to the installation: everybody may read them."""


class Tenant:
    """An organisation with one of everything, made by the installation's admin."""

    def __init__(self, plane: Plane, name: str) -> None:
        self.plane, self.name = plane, name
        self.ids: dict[str, str] = {}
        self.secret = ""

    async def settle(self) -> "Tenant":
        self.ids["organisation_id"] = await self._make("organisations", {})
        organisation = {"organisation_id": self.ids["organisation_id"]}
        self.ids["team_id"] = await self._make("teams", organisation)
        self.ids["user_id"] = await self._make("users", {"team_id": self.ids["team_id"]})
        self.ids["key_id"] = self.ids["hash"] = await self._make("keys", {"user_id": self.ids["user_id"]})
        _, admin, _ = await self.ask(
            "root", "POST", "/admin/keys", {"name": "admin", "scopes": ["admin"], **organisation}
        )
        self.secret, self.admin_id = admin["key"], admin["id"]
        self.ids["generation_id"] = f"chatcmpl-{self.name}"
        self.plane.attempts.records.append(
            attempt(id=f"01{self.name}", call_id=self.ids["generation_id"], key_id=self.ids["key_id"], decision=b"\x01")
        )
        return self

    async def _make(self, kind: str, fields: dict[str, Any]) -> str:
        status, made, _ = await self.ask("root", "POST", f"/admin/{kind}", {"name": f"{self.name} {kind}", **fields})
        assert status == 201, made
        found: str = made["id"]
        return found

    async def ask(self, key: str, method: str, path: str, body: Any = None) -> tuple[int, Any, Any]:
        return await self.plane.ask(method, path, key=key, data=None if body is None else json.dumps(body).encode())


@pytest_asyncio.fixture(loop_scope="module")
async def tenants(plane: Plane) -> tuple[Tenant, Tenant]:
    return await Tenant(plane, "ours").settle(), await Tenant(plane, "theirs").settle()


def routes_with_ids(plane: Plane) -> Iterator[tuple[str, str]]:
    for route in plane.stores.build().routes:
        assert isinstance(route, GuardedRoute)
        if "{" in route.path:
            yield from ((method, route.path) for method in sorted(route.methods or ()))


def body_for(method: str, path: str) -> Any:
    return {"name": "taken"} if method == "PATCH" else {} if path.endswith("/rotate") else None


async def test_every_route_with_an_id_is_404_for_the_other_tenant_and_not_for_the_own(
    plane: Plane, tenants: tuple[Tenant, Tenant]
) -> None:
    ours, theirs = tenants
    before = await everything(ours, "root")
    tried = 0
    for method, template in routes_with_ids(plane):
        if template.startswith(PLANS):
            continue
        (name,) = re.findall(r"{(\w+)}", template)
        foreign, unknown, own = (
            template.replace(f"{{{name}}}", one) for one in (theirs.ids[name], "Z" * 26, ours.ids[name])
        )
        status, answer, _ = await ours.ask(ours.secret, method, foreign, body_for(method, template))
        assert status == 404, (method, template, answer)
        nobody, same, _ = await ours.ask(ours.secret, method, unknown, body_for(method, template))
        assert nobody == 404
        words = [
            one["error"]["message"].replace(theirs.ids[name], "ID").replace("Z" * 26, "ID") for one in (answer, same)
        ]
        assert words[0] == words[1], "the other tenant's id looks like nobody's"
        if method == "GET":
            assert (await ours.ask(ours.secret, method, own))[0] == 200
        tried += 1
    assert tried == 18
    assert await everything(ours, "root") == before, "nothing has changed"


async def everything(tenant: Tenant, key: str) -> list[Any]:
    found = []
    for kind in ("organisations", "teams", "users", "keys", "attempts"):
        _, page, _ = await tenant.ask(key, "GET", f"/admin/{kind}?limit=200")
        found.append(page["data"])
    return found


PLAIN = {
    "name", "disabled", "limits", "models", "operations", "networks", "scopes", "expires_at", "expires_in_days",
    "grace_s", "limit", "limit_reset", "include_byok_in_limit", "offset", "include_disabled", "include_expired",
    "since", "until", "state", "model", "deployment",
    "plan_id",  # plans belong to the installation, and everybody may read them
}  # fmt: skip
"""Fields and parameters that name nobody."""
SEARCHES = {"call_id", "request_id", "client_request_id", "end_user"}
"""What a list is searched for: a search finds nothing in another tenant's rows."""


def named(ours: Tenant, theirs: Tenant) -> dict[str, list[str]]:
    """Whom a field or a parameter may name: the other tenant's."""
    return {
        "organisation_id": [theirs.ids["organisation_id"]],
        "team_id": [theirs.ids["team_id"]],
        "user_id": [theirs.ids["user_id"]],
        "creator_user_id": [theirs.ids["user_id"]],
        "workspace_id": [theirs.ids["team_id"], theirs.ids["organisation_id"]],
        "key_id": [theirs.ids["key_id"], theirs.admin_id],
        "id": [f"chatcmpl-{theirs.name}"],
    }


def operations(plane: Plane) -> Iterator[tuple[str, str, list[str], dict[str, Any]]]:
    """Method, path, query parameters and the schema of the body of everything that the OpenAPI document knows."""
    document = plane.stores.build().openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            query = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            (reference,) = [one["$ref"] for one in (body, *body.get("anyOf", ())) if "$ref" in one] or [None]
            schema = document["components"]["schemas"][reference.rpartition("/")[2]] if reference else {}
            yield method.upper(), path, query, schema


def hidden(answer: Any, ours: str) -> str:
    return re.sub(r"req_\w+", "", json.dumps(answer).replace(ours, "ID"))


async def test_the_openapi_document_knows_every_route(plane: Plane) -> None:
    """What it does not know is not tried below."""
    known = {(method, path) for method, path, _, _ in operations(plane)}
    routes = {
        (method, route.path)
        for route in plane.stores.build().routes
        if isinstance(route, GuardedRoute)
        for method in route.methods or ()
    }
    assert routes - known == {("GET", "/admin/openapi.json")}


async def test_every_id_in_a_body_or_a_query_is_404_for_the_other_tenants_as_for_nobodys(
    plane: Plane, tenants: tuple[Tenant, Tenant]
) -> None:
    ours, theirs = tenants
    foreign = named(ours, theirs)
    before = await everything(ours, "root")
    tried = 0
    for method, template, query, schema in operations(plane):
        if template.startswith(PLANS):
            continue
        path = re.sub(r"{(\w+)}", lambda found: ours.ids[found[1]], template)
        required = {"name": "x"} if "name" in schema.get("required", ()) else {}
        assert set(schema.get("required", ())) <= {"name"}, f"{method} {template}: give this test a body for it"
        fields = [(field, True) for field in schema.get("properties", ())] + [(field, False) for field in query]
        for field, in_body in fields:
            assert field in PLAIN | SEARCHES | set(foreign) | {"cursor"}, f"say in this test whether '{field}' is an id"
            for wanted in foreign.get(field, ()):
                answers = []
                for one in (wanted, "Z" * 26):
                    body = required | {field: one} if in_body else None
                    address = path if in_body else f"{path}?{field}={one}"
                    status, answer, _ = await ours.ask(ours.secret, method, address, body)
                    assert status == 404, (method, template, field, answer)
                    assert answer["error"]["param"] == field
                    answers.append(hidden(answer, one))
                assert answers[0] == answers[1], "the other tenant's id looks like nobody's"
                tried += 1
    assert tried >= 26
    assert await everything(ours, "root") == before, "nothing has changed"


async def test_searches_and_cursors_of_the_other_tenant_find_what_nobodys_find(
    tenants: tuple[Tenant, Tenant],
) -> None:
    ours, theirs = tenants
    (record,) = [one for one in ours.plane.attempts.records if one.key_id == theirs.ids["key_id"]]
    for field in sorted(SEARCHES):
        for wanted in (getattr(record, field) or "eu_theirs", "Z" * 26):
            _, rows, _ = await ours.ask(ours.secret, "GET", f"/admin/attempts?{field}={wanted}&key_id={ours.admin_id}")
            assert rows["data"] == []
    for kind, letter in {"organisations": b"o", "teams": b"t", "users": b"u", "keys": b"k"}.items():
        pages = []
        for row_id in (theirs.ids[f"{kind[:-1]}_id"], "Z" * 26):
            cursor = cursor_after(letter, NOW + 1, row_id)
            pages.append(await ours.ask(ours.secret, "GET", f"/admin/{kind}?cursor={cursor}"))
        assert (pages[0][0], pages[0][1]) == (pages[1][0], pages[1][1])
        assert theirs.name not in json.dumps(pages[0][1])


async def test_what_all_share_is_for_the_installation_alone(plane: Plane, tenants: tuple[Tenant, Tenant]) -> None:
    ours, _ = tenants
    status, answer, _ = await ours.ask(ours.secret, "GET", "/admin/pressure")
    assert (status, answer["error"]["code"]) == (403, "insufficient_permissions")
    status, answer, _ = await ours.ask("root", "GET", "/admin/pressure")
    assert (status, answer["credentials"]) == (200, [])


async def test_lists_show_what_is_below_and_nothing_else(plane: Plane, tenants: tuple[Tenant, Tenant]) -> None:
    ours, theirs = tenants
    seen = json.dumps(await everything(ours, ours.secret))
    assert all(one in seen for one in ours.ids.values())
    assert not [one for one in (*theirs.ids.values(), theirs.name, "kalice") if one in seen]
    _, keys, _ = await ours.ask(ours.secret, "GET", "/api/v1/keys?include_disabled=true")
    assert {key["hash"] for key in keys["data"]} == {ours.ids["key_id"], ours.admin_id}


async def test_generations_of_the_other_tenant_do_not_exist(tenants: tuple[Tenant, Tenant]) -> None:
    ours, _ = tenants
    assert (await ours.ask(ours.secret, "GET", "/api/v1/generation?id=chatcmpl-ours"))[0] == 200
    assert (await ours.ask(ours.secret, "GET", "/api/v1/generation?id=chatcmpl-theirs"))[0] == 404
    assert (await ours.ask("root", "GET", "/api/v1/generation?id=chatcmpl-theirs"))[0] == 200


async def test_an_organisations_admin_changes_what_is_below_and_not_itself(tenants: tuple[Tenant, Tenant]) -> None:
    ours, _ = tenants
    unlimited = {"limits": [], "plan_id": None, "name": "free of limits"}
    own = f"/admin/organisations/{ours.ids['organisation_id']}"
    for method, body in (("PATCH", unlimited), ("DELETE", None)):
        assert (await ours.ask(ours.secret, method, own, body))[0] == 403
    assert (await ours.ask(ours.secret, "POST", "/admin/organisations", {"name": "second"}))[0] == 403
    assert (await ours.ask(ours.secret, "POST", "/admin/plans", {"name": "mine"}))[0] == 403
    assert (await ours.ask(ours.secret, "PATCH", "/admin/plans/free", {"limits": []}))[0] == 403
    assert (await ours.ask(ours.secret, "DELETE", "/admin/plans/free"))[0] == 403
    assert (await ours.ask(ours.secret, "GET", "/admin/plans/free"))[0] == 200
    status, team, _ = await ours.ask(ours.secret, "POST", "/admin/teams", {"name": "new", "plan_id": "free"})
    assert (status, team["organisation_id"]) == (201, ours.ids["organisation_id"])
    status, changed, _ = await ours.ask(ours.secret, "PATCH", f"/admin/teams/{team['id']}", {"plan_id": "pro"})
    assert (status, changed["plan_id"]) == (200, "pro")
    status, key, _ = await ours.ask(ours.secret, "POST", "/admin/keys", {"name": "below"})
    assert (status, key["organisation_id"]) == (201, ours.ids["organisation_id"])


async def test_a_teams_admin_stays_within_its_team(tenants: tuple[Tenant, Tenant]) -> None:
    ours, _ = tenants
    _, other, _ = await ours.ask(
        "root", "POST", "/admin/teams", {"name": "b", "organisation_id": ours.ids["organisation_id"]}
    )
    wanted = {"name": "lead", "scopes": ["admin"], "team_id": other["id"]}
    _, lead, _ = await ours.ask(ours.secret, "POST", "/admin/keys", wanted)
    assert lead["organisation_id"] == ours.ids["organisation_id"], "a team's key is its organisation's"
    for method, path, body in (
        ("GET", f"/admin/teams/{ours.ids['team_id']}", None),
        ("GET", f"/admin/users/{ours.ids['user_id']}", None),
        ("POST", f"/admin/keys/{ours.ids['key_id']}/rotate", {}),
        ("PATCH", f"/admin/keys/{ours.ids['key_id']}", {"name": "x"}),
    ):
        assert (await ours.ask(lead["key"], method, path, body))[0] == 404
    assert (await ours.ask(lead["key"], "PATCH", f"/admin/teams/{other['id']}", {"limits": []}))[0] == 403
    assert (await ours.ask(lead["key"], "POST", "/admin/teams", {"name": "c"}))[0] == 403
    status, user, _ = await ours.ask(lead["key"], "POST", "/admin/users", {"name": "member"})
    assert (status, user["team_id"]) == (201, other["id"])
    status, answer, _ = await ours.ask(
        lead["key"], "POST", "/admin/keys", {"name": "x", "team_id": ours.ids["team_id"]}
    )
    assert (status, answer["error"]["param"]) == (404, "team_id")


async def test_an_admin_key_that_may_less_does_not_take_over_a_key_that_may_more(
    tenants: tuple[Tenant, Tenant],
) -> None:
    ours, _ = tenants
    narrow = {"name": "narrow", "scopes": ["admin"], "models": ["a/*"], "expires_at": NOW + 500}
    _, admin, _ = await ours.ask(ours.secret, "POST", "/admin/keys", narrow)
    key = f"/admin/keys/{ours.ids['key_id']}"
    assert (await ours.ask(admin["key"], "POST", f"{key}/rotate", {}))[0] == 403
    assert (await ours.ask(admin["key"], "PATCH", key, {"name": "mine"}))[0] == 403
    status, made, _ = await ours.ask(admin["key"], "POST", "/admin/keys", {"name": "child"})
    assert (made["models"], made["expires_at"]) == (["a/*"], admin["expires_at"])
    for wider in ({"models": ["*"]}, {"expires_at": NOW + 501}):
        status, answer, _ = await ours.ask(admin["key"], "PATCH", f"/admin/keys/{made['id']}", wider)
        assert (status, answer["error"]["param"]) == (403, *wider)
    assert (await ours.ask(admin["key"], "PATCH", f"/admin/keys/{made['id']}", {"models": None}))[1]["models"] == [
        "a/*"
    ]
    assert (await ours.ask(admin["key"], "DELETE", key))[0] == 200, "disabling gives nothing away"
