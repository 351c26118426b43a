"""Conditions against a second reading of the same words, and every comparison of every fact."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.fleet import asking

from xrouter.core import conditions
from xrouter.core.call import Call, Caller, Scope
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.gateway import rules
from xrouter.gateway.rules import Facts

CALL = asking(
    "smart", text="x" * 100, stream=True, tags=("batch", "team-a"), inputs=["image"], session="s1", max_tokens=50,
    caller=Caller("k", "app", frozenset({Scope.MODELS}), organisation_id="org_1", team_id="team_1", user_id="user_1"),
    tools=[], metadata={"plan": "free"}, response_format={"type": "json_schema", "json_schema": {}},
)  # fmt: skip
PLAIN = asking("smart")


def holds(when: dict[str, Any], call: Call = CALL) -> bool:
    return rules.holds(conditions.parse(when), Facts(call.request, call))


@pytest.mark.parametrize(
    "when",
    [
        {"key": "app"}, {"team": {"in": ["team_0", "team_1"]}}, {"organisation": {"ne": "org_2"}},
        {"user": {"not_in": ["user_2"]}}, {"model": {"like": "sm*"}}, {"session": "s1"}, {"operation": "chat"},
        {"tags": "batch"}, {"tags": ["other", "team-a"]}, {"tags": {"all": ["batch", "team-a"]}},
        {"tags": {"none": "x"}},
        {"inputs": "image"}, {"inputs": {"all": ["text", "image"]}}, {"prompt_tokens": {"gte": 20, "lt": 100}},
        {"max_tokens": 50}, {"max_tokens": {"gt": 49.5}}, {"max_tokens": {"lte": 50}},
        {"stream": True}, {"tools": True}, {"json_schema": True},
        {"metadata.plan": "free"}, {"metadata.other": ""}, {"metadata.other": {"ne": "x"}},
        {"not": {"key": "ci"}}, {"any_of": [{"key": "ci"}, {"stream": True}]},
        {"all_of": [{"key": "app"}, {"tools": True}]},
        {"key": "app", "any_of": [{"tags": "x"}, {"not": {"stream": False}}]},
    ],
)  # fmt: skip
def test_what_holds(when: dict[str, Any]) -> None:
    assert holds(when)
    assert not holds({"not": when})


@pytest.mark.parametrize(
    "when",
    [
        {"key": "ci"}, {"team": "team_1"}, {"organisation": "org_1"}, {"user": "user_1"}, {"session": "s1"},
        {"tags": "batch"}, {"inputs": "image"}, {"max_tokens": {"gt": 0}}, {"prompt_tokens": {"gt": 1_000}},
        {"stream": True}, {"tools": True}, {"json_schema": True}, {"metadata.plan": "free"}, {"model": {"like": "x*"}},
        {"operation": "embeddings"},
    ],
)  # fmt: skip
def test_what_a_plain_call_is_not(when: dict[str, Any]) -> None:
    assert not holds(when, PLAIN)


def test_other_operations_have_facts_too() -> None:
    request = EmbeddingsRequest(model="v", inputs=("text",), fields={})
    facts = Facts(request, None)
    when = {"operation": "embeddings", "stream": False, "max_tokens": 0, "inputs": {"all": ["text"]}, "key": ""}
    assert rules.holds(conditions.parse(when), facts)


def test_metadata_that_is_no_text_is_none() -> None:
    assert holds({"metadata.plan": ""}, asking("m", metadata={"plan": 5}))


# ── a second reading ─────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.dictionaries(st.sampled_from(["gt", "lt", "eq", "gte", "lte"]), st.integers(0, 3), min_size=1)
LEAVES = st.one_of(
    st.fixed_dictionaries({"key": st.fixed_dictionaries({}, optional={"eq": TEXTS, "ne": TEXTS}).filter(bool)}),
    st.fixed_dictionaries({"key": st.fixed_dictionaries({"in": st.lists(TEXTS, min_size=1)})}),
    st.fixed_dictionaries({"tags": st.fixed_dictionaries({"any": st.lists(TEXTS, min_size=1)})}),
    st.fixed_dictionaries({"tags": st.fixed_dictionaries({"none": st.lists(TEXTS, min_size=1)})}),
    st.fixed_dictionaries({"tags": st.fixed_dictionaries({"all": st.lists(TEXTS, min_size=1)})}),
    st.fixed_dictionaries({"max_tokens": NUMBERS}),
    st.fixed_dictionaries({"stream": st.booleans()}),
)
WHENS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda of: {"any_of": of}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda of: {"all_of": of}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda of: {"not": of}, inner),
        st.builds(lambda one, other: {**one, **other}, inner, inner),
    ),
    max_leaves=6,
)


def read(when: dict[str, Any], facts: dict[str, Any]) -> bool:
    for name, value in when.items():
        if name == "not":
            good = not read(value, facts)
        elif name in ("any_of", "all_of"):
            good = (any if name == "any_of" else all)(read(one, facts) for one in value)
        elif name == "stream":
            good = facts["stream"] == value
        else:
            good = all(_compare(facts[name], operator, wanted) for operator, wanted in value.items())
        if not good:
            return False
    return True


def _compare(found: Any, operator: str, wanted: Any) -> bool:
    if operator in ("any", "all", "none"):
        shared = [word for word in wanted if word in found]
        return {"any": bool(shared), "all": len(shared) == len(wanted), "none": not shared}[operator]
    return bool(
        {
            "eq": lambda: found == wanted, "ne": lambda: found != wanted, "in": lambda: found in wanted,
            "gt": lambda: found > wanted, "lt": lambda: found < wanted,
            "gte": lambda: found >= wanted, "lte": lambda: found <= wanted,
        }[operator]()
    )  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(WHENS, TEXTS, st.sets(TEXTS), st.integers(1, 4), st.booleans())
def test_conditions_mean_what_they_say_and_one_that_is_refused_never_holds(
    when: dict[str, Any], key: str, tags: set[str], max_tokens: int, stream: bool
) -> None:
    facts = {"key": key, "tags": tags, "max_tokens": max_tokens, "stream": stream}
    call = asking(
        "m", tags=tuple(tags), stream=stream, max_tokens=max_tokens, caller=Caller("k", key, frozenset({Scope.MODELS}))
    )
    try:
        condition = conditions.parse(when)
    except ValueError:
        assert not read(when, facts)
        return
    assert rules.holds(condition, Facts(call.request, call)) == read(when, facts)


@settings(max_examples=300, deadline=None)
@given(WHENS, WHENS, TEXTS, st.sets(TEXTS), st.integers(1, 4), st.booleans())
def test_a_rule_that_is_called_unreachable_is(
    when: dict[str, Any], earlier: dict[str, Any], key: str, tags: set[str], max_tokens: int, stream: bool
) -> None:
    facts = {"key": key, "tags": tags, "max_tokens": max_tokens, "stream": stream}
    try:
        later, other = conditions.parse({"all_of": [when, earlier]}), conditions.parse(earlier)
    except ValueError:
        return
    assert conditions.implies(later, other)
    assert not read({"all_of": [when, earlier]}, facts) or read(earlier, facts)
