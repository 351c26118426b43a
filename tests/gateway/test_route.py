"""Who may serve what, and what is said when nobody can."""

import dataclasses

import pytest
from tests.gateway.script import Maker, Script, call, call_for, world

from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import Invalid, NotFound
from xrouter.core.operation import Operation
from xrouter.gateway import catalog, pipeline, route

CHAT = frozenset({Operation.CHAT})
VECTORS = frozenset({Operation.EMBEDDINGS})


def served(**serves: frozenset[Operation]) -> catalog.Catalog:
    found = world(**{name: Script([]) for name in serves}).gateway.catalog
    deployments = [dataclasses.replace(found.served[f"{name}/m"][0], serves=what) for name, what in serves.items()]
    return catalog.build(deployments, {"any": [one.id for one in deployments]})


def vectors(model: str, *models: str) -> EmbeddingsRequest:
    return EmbeddingsRequest(model=model, inputs=("x",), fields={}, models=models)


def test_only_deployments_that_can_do_it_are_candidates() -> None:
    known = served(a=CHAT, b=VECTORS, c=CHAT | VECTORS)
    assert [one.deployment.provider for one in route.plan(vectors("any"), known)] == ["b", "c"]
    assert [one.deployment.provider for one in route.plan(call("any").request, known)] == ["a", "c"]
    assert [one.deployment.provider for one in route.plan(vectors("a/m", "c/m"), known)] == ["c"]


def test_a_model_that_cannot_is_told_what_it_can_and_who_else_could() -> None:
    with pytest.raises(Invalid) as caught:
        route.plan(vectors("a/m"), served(a=CHAT, b=VECTORS))
    assert (caught.value.code, caught.value.param) == ("model_not_supported", "model")
    assert caught.value.message == "The model 'a/m' does chat, not embeddings; models for it: b/m, any."


def test_where_nobody_can_that_is_said() -> None:
    with pytest.raises(Invalid, match="no model here does"):
        route.plan(vectors("a/m", "any"), served(a=CHAT))


def test_long_lists_are_cut() -> None:
    with pytest.raises(Invalid, match=r"b/m, c/m, d/m, e/m, f/m, and 2 more"):
        route.plan(vectors("a/m"), served(a=CHAT, **dict.fromkeys("bcdefg", VECTORS)))


def test_an_unknown_model_becomes_the_default_of_its_operation() -> None:
    known = served(a=CHAT, b=VECTORS)
    found = catalog.build(
        [one for name in ("a/m", "b/m") for one in known.served[name]],
        {},
        "a/m",
        default_models={Operation.EMBEDDINGS: "b/m"},
    )
    assert route.plan(vectors("nobody"), found)[0].deployment.id == "b/m"
    assert route.plan(call("nobody").request, found)[0].deployment.id == "a/m"


def test_a_default_that_does_something_else_is_none() -> None:
    known = served(a=CHAT, b=VECTORS)
    found = catalog.build([one for name in ("a/m", "b/m") for one in known.served[name]], {}, "a/m")
    with pytest.raises(NotFound):
        route.plan(vectors("nobody"), found)


@pytest.mark.parametrize(("name", "words"), [("c/m", "not served"), ("a/m", "does not do that")])
def test_a_wrong_default_is_refused_at_start(name: str, words: str) -> None:
    known = served(a=CHAT, b=VECTORS)
    with pytest.raises(ValueError, match=words):
        catalog.build(
            [one for each in known.served.values() for one in each], {}, default_models={Operation.EMBEDDINGS: name}
        )


async def test_what_the_wire_format_cannot_is_the_requests_fault_and_another_may() -> None:
    place = world(a=Script([]), b=Maker(), serves=VECTORS)
    events = pipeline.converse(call_for(vectors("any")), place.gateway)
    assert [event async for event in events] != []
    with pytest.raises(Invalid) as caught:
        await anext(pipeline.converse(call_for(vectors("a/m")), place.gateway))
    assert caught.value.code == "model_not_supported"
    assert len(place.books.ends) == 1, "what could not be asked is no attempt"
