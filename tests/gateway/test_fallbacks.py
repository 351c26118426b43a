"""What a class of failure opens: behind the same filters, and never more than that."""

from typing import Any

import pytest
from tests.gateway.fleet import NOW, asking, deployment, health, route, served

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.errors import Invalid, ProviderRefused, ProviderUnavailable
from xrouter.core.operation import Operation
from xrouter.core.policy import CONTENT_POLICY, CONTEXT_LENGTH
from xrouter.gateway import fallbacks
from xrouter.gateway import route as router
from xrouter.gateway.health import Health

OPENED = ["a/long", "b/long", "c/long", "d/vectors"]
CATALOG = served(
    [
        deployment("a/short", region="ru", context_tokens=1_000),
        deployment("a/long", region="ru", tags=frozenset({"zdr"})),
        deployment("b/long", region="eu"),
        deployment("c/long", region="ru", context_tokens=2_000),
        deployment("d/vectors", serves=frozenset({Operation.EMBEDDINGS})),
    ],
    {
        "r": route(
            models=["a/short"],
            fallbacks={"context_length": OPENED, "content_policy": ["c/long"]},
            rules=[{"when": {"tags": "secret"}, "regions": ["ru"]}],
        ),
        "a/short": route(fallbacks={"context_length": OPENED}),
    },
)
WELL = health(CATALOG)


def opened(call: Call, kind: str = CONTEXT_LENGTH, known: Health = WELL) -> list[str]:
    first = router.plan(call.request, CATALOG, known, call)[0]
    assert first.deployment.id == "a/short"
    found = fallbacks.further(call, first, kind, CATALOG, known)
    assert {one.model for one in found} <= {call.request.model}, "the client's own name stays"
    return [one.deployment.id for one in found]


def key(*globs: str) -> Caller:
    return Caller("k", "app", frozenset({Scope.MODELS}), models=(globs,))


@pytest.mark.parametrize(
    ("model", "more", "expected"),
    [
        ("r", {}, ["a/long", "b/long", "c/long"]),
        ("r", {"tags": ("secret",)}, ["a/long", "c/long"]),
        ("r", {"wishes": {"ignore": ["b"]}}, ["a/long", "c/long"]),
        ("r", {"wishes": {"data_region": "ru", "zdr": False}}, ["a/long", "c/long"]),
        ("r", {"caller": key("r")}, ["a/long", "b/long", "c/long"]),
        ("r", {"caller": key("a/*")}, ["a/long"]),
        ("a/short", {"caller": key("a/*")}, ["a/long"]),
        ("a/short", {"caller": key("a/short", "c/*")}, ["c/long"]),
        ("a/short:floor", {}, ["a/long", "b/long", "c/long"]),
        ("r", {"wishes": {"allow_fallbacks": False}}, []),
        ("r", {"wishes": {"allow_fallbacks": False, "order": ["a/short", "c"]}}, []),
    ],
)
def test_what_is_opened(model: str, more: dict[str, Any], expected: list[str]) -> None:
    assert opened(asking(model, **more)) == expected


def test_who_is_ejected_or_of_another_class_is_not() -> None:
    sick = health(CATALOG, b={"ejected": "failures", "ejected_until": NOW + 5})
    assert opened(asking("r"), known=sick) == ["a/long", "c/long"]
    assert opened(asking("r"), CONTENT_POLICY) == ["c/long"]
    assert opened(asking("a/short"), CONTENT_POLICY) == []


def test_a_request_that_is_known_to_be_too_long_goes_there_at_once() -> None:
    call = asking("r", max_tokens=1_500, tags=("secret",))
    plan = router.plan(call.request, CATALOG, WELL, call)
    assert [one.deployment.id for one in plan] == ["a/long", "c/long"]


@pytest.mark.parametrize(
    "wishes",
    [
        {"only": ["a/short"]},
        {"allow_fallbacks": False},
        {"allow_fallbacks": False, "order": ["a/short", "c/long"]},
    ],
)
def test_nor_does_it_go_where_the_client_does_not_want_it(wishes: dict[str, Any]) -> None:
    call = asking("r", max_tokens=1_500, wishes=wishes)
    with pytest.raises(Invalid) as caught:
        router.plan(call.request, CATALOG, WELL, call)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("context_length_exceeded", CONTEXT_LENGTH),
        ("content_policy_violation", CONTENT_POLICY),
        ("content_filter", CONTENT_POLICY),
        (None, None),
    ],
)
def test_the_class_of_a_failure(code: str | None, kind: str | None) -> None:
    assert fallbacks.class_of(ProviderRefused("no", provider="a", upstream_status=400, code=code)) == kind
    assert fallbacks.class_of(ProviderUnavailable("no", provider="a")) is None
