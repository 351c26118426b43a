"""Default deny, errors in one shape whatever goes wrong, and the API's own description."""

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.admin.books import Plane, Stores

from xrouter.admin.guard import Guard, GuardedRoute
from xrouter.core.authorize import authorize
from xrouter.core.call import Caller, Scope
from xrouter.core.errors import Forbidden

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE = {name: f"/admin/{name}s/x" for name in ("key", "organisation", "team", "user", "plan")}
ADMIN_ROUTES = [
    *((method, path) for path in ONE.values() for method in ("GET", "PATCH", "DELETE")),
    *((method, path.removesuffix("/x")) for path in ONE.values() for method in ("GET", "POST")),
    ("POST", "/admin/keys/x/rotate"),
    ("GET", "/admin/attempts"),
    ("GET", "/admin/config"),
    ("GET", "/admin/deployments"),
    ("GET", "/admin/generations/x/route"),
    ("GET", "/admin/openapi.json"),
    ("GET", "/admin/pressure"),
    *((method, "/api/v1/keys") for method in ("GET", "POST")),
    *((method, "/api/v1/keys/x") for method in ("GET", "PATCH", "DELETE")),
]
ROUTES = [*ADMIN_ROUTES, ("GET", "/api/v1/generation"), ("GET", "/api/v1/generation/x/route"), ("GET", "/api/v1/key")]
WRITES = ("POST", "PATCH")


def _app() -> FastAPI:
    nowhere: Any = SimpleNamespace()
    return Stores(nowhere).build()


async def _authenticate(*_: object) -> Caller:
    raise AssertionError("nobody asks")


async def test_every_route_is_guarded_and_is_in_this_file() -> None:
    routes = _app().routes
    assert all(isinstance(route, GuardedRoute) for route in routes)
    found = {(method, re.sub(r"{\w+}", "x", route.path)) for route in routes for method in route.methods}  # type: ignore[attr-defined]
    assert found == set(ROUTES)
    for route in routes:
        assert isinstance(route, GuardedRoute)
        own = route.path.startswith("/api/v1/generation") or route.path == "/api/v1/key"
        assert route.guard.scope is (Scope.MODELS if own else Scope.ADMIN)


async def test_a_route_without_a_guard_or_with_two_cannot_be_made() -> None:
    app = _app()
    one, two = Guard(Scope.ADMIN, _authenticate), Guard(Scope.MODELS, _authenticate)

    async def endpoint() -> None: ...

    async def doubly(a: Annotated[Caller, Depends(one)], b: Annotated[Caller, Depends(two)]) -> None: ...

    with pytest.raises(TypeError, match="exactly one Guard"):
        app.get("/admin/open")(endpoint)
    with pytest.raises(TypeError, match="exactly one Guard"):
        app.get("/admin/double")(doubly)


async def test_authorize_says_no_unless_the_scope_is_held() -> None:
    admin = Caller("a", "a", frozenset({Scope.ADMIN}))
    models = Caller("m", "m", frozenset({Scope.MODELS}))
    authorize(admin, Scope.ADMIN)
    authorize(admin, Scope.MODELS)
    authorize(models, Scope.MODELS)
    with pytest.raises(Forbidden):
        authorize(models, Scope.ADMIN)
    with pytest.raises(Forbidden):
        authorize(Caller("n", "n", frozenset()), Scope.MODELS)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("key", [None, "nobody"])
async def test_nothing_answers_without_a_key(plane: Plane, method: str, path: str, key: str | None) -> None:
    status, body, _ = await plane.ask(method, path, key=key, data=b"{" if method in WRITES else None)
    assert status == 401, "the key comes before the body"
    assert body["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
async def test_a_key_for_models_is_no_admin(plane: Plane, method: str, path: str) -> None:
    status, body, _ = await plane.ask(method, path, key="alice", data=b"{" if method in WRITES else None)
    code = body["error"]["metadata"]["code"] if path.startswith("/api/") else body["error"]["code"]
    assert (status, code) == (403, "insufficient_permissions")


async def test_an_unguarded_body_is_not_read_before_the_key_is_known(plane: Plane) -> None:
    """A stranger who announces a body and does not send it is answered at once."""
    port = int(plane.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /admin/keys HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/admin", 404, "unknown_url"),
        ("GET", "/admin/keys/", 404, "unknown_url"),
        ("GET", "/docs", 404, "unknown_url"),
        ("GET", "/openapi.json", 404, "unknown_url"),
        ("PUT", "/admin/keys", 405, "method_not_allowed"),
        ("PUT", "/admin/keys/x", 405, "method_not_allowed"),
        ("POST", "/api/v1/generation", 405, 405),
        ("GET", "/api/v1/nothing", 404, 404),
    ],
)
async def test_wrong_urls_and_methods_answer_in_the_same_shape(
    plane: Plane, method: str, path: str, status: int, code: str | int
) -> None:
    found, body, headers = await plane.ask(method, path)
    assert found == status
    assert set(body["error"]) == {"message", "type", "param", "code", "metadata"}
    assert body["error"]["code"] == code
    assert headers["x-request-id"] == body["error"]["metadata"]["request_id"]
    if status == 405:
        allow = {"/admin/keys": "GET, POST", "/admin/keys/x": "DELETE, GET, PATCH", "/api/v1/generation": "GET"}
        assert headers["allow"] == allow[path]


async def test_our_own_fault_is_a_500_that_says_nothing(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(plane.keys, "page", broken)
    status, body, _ = await plane.ask("GET", "/admin/keys")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "hunter2" not in str(body)


async def test_the_description_tells_the_truth(plane: Plane) -> None:
    status, api, _ = await plane.ask("GET", "/admin/openapi.json")
    assert status == 200
    described = {
        (method.upper(), re.sub(r"{\w+}", "x", path)) for path, item in api["paths"].items() for method in item
    }
    assert described == set(ROUTES) - {("GET", "/admin/openapi.json")}
    for item in api["paths"].values():
        for operation in item.values():
            assert operation["security"]
            assert "4XX" in operation["responses"]
            assert "422" not in operation["responses"]
    schemas = api["components"]["schemas"]
    assert schemas["AttemptRow"]["properties"]["cost_rub"]["type"] == "number"
    assert schemas["AttemptRow"]["properties"]["started_at"]["format"] == "date-time"


_NAMES = st.sampled_from(["limit", "cursor", "since", "until", "state", "call_id", "id", "model"]) | st.text(max_size=8)
_VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.sampled_from(["NaN", "1e9", "2027-01-15T08:00:00Z", "9999999999", "0001-01-01T00:00:00+23:59", "open", "\x00"]),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_BODIES = st.binary(max_size=40) | st.fixed_dictionaries(
    {}, optional={"name": _JSON, "scopes": _JSON, "expires_at": _JSON, "expires_in_days": _JSON, "x": _JSON}
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(ROUTES), query=st.lists(st.tuples(_NAMES, _VALUES), max_size=3), body=_BODIES)
async def test_nothing_that_an_admin_sends_is_our_fault(
    plane: Plane, route: tuple[str, str], query: list[tuple[str, str]], body: Any
) -> None:
    method, path = route
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    query = [
        (name.encode("utf-8", "replace").decode(), value.encode("utf-8", "replace").decode()) for name, value in query
    ]
    status, answer, _ = await plane.ask(method, path, data=data if method in WRITES else None, params=query)
    assert status < 500
    if status >= 400:
        assert answer["error"]["message"]
