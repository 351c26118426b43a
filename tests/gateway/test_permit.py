"""What of a plan a key may use, and the words of a refusal."""

from typing import Any

import pytest
from tests.gateway.script import call_for

from xrouter.core.call import Call, Caller, Request, Scope
from xrouter.core.chat import ChatRequest
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import Forbidden
from xrouter.core.operation import Operation
from xrouter.gateway import permit, route
from xrouter.gateway.catalog import Catalog, build


def deployment(name: str, *serves: Operation) -> Deployment:
    return Deployment(
        id=name, provider=name.partition("/")[0], kind="openai_compatible", upstream_model=name,
        serves=frozenset(serves or (Operation.CHAT,)),
    )  # fmt: skip


CATALOG = build(
    [deployment("a/one"), deployment("a/two"), deployment("b/one"), deployment("b/vectors", Operation.EMBEDDINGS)],
    {"fast": ["a/one", "b/one"], "b/alias": ["a/two"]},
    default_model="b/one",
)


def allowed(caller: Caller, model: str, catalog: Catalog = CATALOG, *models: str) -> list[str]:
    request = ChatRequest(model=model, stream=False, fields={}, models=models)
    return [one.deployment.id for one in route.plan(request, catalog, call=asked(request, caller))]


def asked(request: Request, caller: Caller) -> Call:
    call = call_for(request)
    call.caller = caller
    return call


def key(*groups: tuple[str, ...], **fields: Any) -> Caller:
    return Caller("k", "app", frozenset({Scope.MODELS}), models=groups, **fields)


@pytest.mark.parametrize(
    ("groups", "model", "found"),
    [
        ((), "fast", ["a/one", "b/one"]),
        ((("a/*",),), "fast", ["a/one"]),
        ((("fast",),), "fast", ["a/one", "b/one"]),
        ((("a/one",),), "a/one", ["a/one"]),
        ((("b/*",),), "b/alias", ["a/two"]),
        ((("b/*",), ("a/*",)), "b/alias", ["a/two"]),
        ((("*",), ("fast", "b/*")), "fast", ["a/one", "b/one"]),
        ((("b/one",),), "nobody serves this", ["b/one"]),
    ],
)
def test_a_model_is_allowed_by_its_name_or_its_deployments(
    groups: tuple[tuple[str, ...], ...], model: str, found: list[str]
) -> None:
    assert allowed(key(*groups), model) == found


@pytest.mark.parametrize(
    ("groups", "model"),
    [((("a/*",),), "b/one"), ((("fast",),), "a/one"), (((),), "a/one"), ((("cheap/*",),), "cheap/model"),
     ((("a/*",), ("b/*",)), "a/one")],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_and_the_key_learns_what_is(
    groups: tuple[tuple[str, ...], ...], model: str
) -> None:
    with pytest.raises(Forbidden, match="The API key 'app' may not use the model") as caught:
        allowed(key(*groups), model)
    assert (caught.value.code, caught.value.param) == ("model_not_allowed", "model")
    assert all(glob in caught.value.message for group in groups for glob in group)


def test_a_fallback_that_is_not_allowed_is_left_out() -> None:
    assert allowed(key(("a/*",)), "a/one", CATALOG, "b/one", "a/two") == ["a/one", "a/two"]


def test_a_simulated_fault_is_the_model_without_it() -> None:
    catalog = build([deployment("a/one"), deployment("b/one")], {"both": ["a/one", "b/one"]}, simulated=True)
    assert allowed(key(("a/one",)), "a/one+status-500", catalog) == ["a/one+status-500"]
    assert allowed(key(("both",)), "both+status-500", catalog) == ["a/one+status-500", "b/one+status-500"]
    with pytest.raises(Forbidden):
        allowed(key(("b/one",)), "a/one+status-500", catalog)


def test_an_endpoint_that_is_not_allowed_is_refused() -> None:
    caller = key(operations=frozenset({Operation.CHAT}))
    assert allowed(caller, "a/one") == ["a/one"]
    request = EmbeddingsRequest(model="b/vectors", fields={}, inputs=("x",))
    with pytest.raises(Forbidden, match="not be used for embeddings, only for: chat") as caught:
        route.plan(request, CATALOG, call=asked(request, caller))
    assert caught.value.code == "operation_not_allowed"


def test_the_list_shows_what_the_key_may_use() -> None:
    def seen(caller: Caller) -> list[str]:
        return [name for name, found in CATALOG.served.items() if permit.sees(caller, name, found, CATALOG)]

    assert seen(key()) == list(CATALOG.served)
    assert seen(key(("a/*",))) == ["a/one", "a/two", "fast", "b/alias"]
    assert seen(key(operations=frozenset({Operation.EMBEDDINGS}))) == ["b/vectors"]
    assert seen(key(("a/*",), operations=frozenset({Operation.EMBEDDINGS}))) == []
