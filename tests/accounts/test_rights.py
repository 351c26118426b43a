"""No key gets more than its maker has, in any field (CVE-2026-47101)."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounts.specs import FIELDS, PLANS, SPECS, WORLDS, above, record

from xrouter.core.accounts import Account, Allowance, Plan
from xrouter.core.call import Caller, Scope
from xrouter.core.callers import caller_of
from xrouter.core.errors import Forbidden, NotFound
from xrouter.core.globs import match_any
from xrouter.core.limits import DAY_S, MINUTE_S, Level, Limit, Per, Unit
from xrouter.core.networks import allows
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord, KeySpec
from xrouter.core.rights import RULES, granted, is_within

MODELS = ("a/b", "a/bc", "a/x", "c/d", "e")
ADDRESSES = ("10.1.2.3", "10.1.0.0", "10.9.9.9", "8.8.8.8", "2001:db8::1")

FIVE, SIX = (Allowance(Unit.REQUESTS, amount, MINUTE_S) for amount in (5, 6))

NO_RIGHTS = {"id", "last4", "created_at", "created_by", "updated_at", "former_until", "deleted_at"}
"""What a record holds besides: nobody can ask for it."""


def test_every_field_of_a_key_has_a_rule() -> None:
    """A field that is added without one would be given away by whoever may make keys."""
    assert set(RULES) == {field.name for field in fields(KeySpec)}
    assert set(RULES) == set(FIELDS), "and is tried below"
    assert {field.name for field in fields(KeyRecord)} == set(RULES) | NO_RIGHTS


@given(SPECS, SPECS, PLANS, WORLDS)
def test_a_granted_key_may_nothing_that_its_maker_may_not(
    wanted: KeySpec, maker: KeySpec, plans: dict[str, Plan], world: dict[str, Account]
) -> None:
    try:
        spec = granted(wanted, maker, plans)
    except (Forbidden, NotFound):
        return
    assert is_within(spec, maker, plans)
    assert granted(spec, maker, plans) == spec
    maker = replace(maker, disabled=False)
    new, old = (caller_of(record(one), above(one, world), plans) for one in (replace(spec, disabled=False), maker))
    check_subset(new, old)


def check_subset(new: Caller, old: Caller) -> None:
    """Whatever `new` may, `old` may, as the gateway enforces it."""
    assert new.disabled or not old.disabled
    assert all(old.may(scope) for scope in Scope if new.may(scope))
    assert old.expires_at is None or (new.expires_at is not None and new.expires_at <= old.expires_at)
    for field in ("organisation_id", "team_id", "user_id"):
        assert getattr(old, field) in (None, getattr(new, field))
    for model in MODELS:
        assert may_model(old, model) or not may_model(new, model)
    for operation in Operation:
        assert may_do(old, operation) or not may_do(new, operation)
    for address in ADDRESSES:
        assert may_from(old, address) or not may_from(new, address)
    for limit in (*old.limits, *old.each):
        # On whichever level: one that stands above a key counts for it and for others.
        same = [one for one in (*new.limits, *new.each) if slot(one) == slot(limit)]
        assert same
        assert any(one.amount <= limit.amount and (one.exact or not limit.exact) for one in same)


def slot(limit: Limit) -> tuple[Any, ...]:
    per = limit.level if limit.level in (Level.END_USER, Level.TAG) else None
    return limit.unit, limit.window_s, limit.model, per


def may_model(caller: Caller, model: str) -> bool:
    return all(match_any(group, model) for group in caller.models)


def may_do(caller: Caller, operation: Operation) -> bool:
    return caller.operations is None or operation in caller.operations


def may_from(caller: Caller, address: str) -> bool:
    return caller.networks is None or allows(caller.networks, address)


@given(SPECS, PLANS)
def test_a_maker_may_give_what_it_has(maker: KeySpec, plans: dict[str, Plan]) -> None:
    assert is_within(maker, maker, plans), "and change itself"
    copy = granted(maker, maker, plans)
    assert replace(copy, limits=()) == replace(maker, limits=())
    assert granted(KeySpec(name="new", scopes=maker.scopes), maker, plans).models == maker.models


@given(SPECS, PLANS)
def test_an_unlimited_maker_gives_everything(wanted: KeySpec, plans: dict[str, Plan]) -> None:
    root = KeySpec(name="root", scopes=frozenset({Scope.ADMIN}))
    assert granted(wanted, root, plans) == wanted


@pytest.mark.parametrize(
    ("wanted", "maker", "param"),
    [
        ({"scopes": frozenset({Scope.ADMIN})}, {}, "scopes"),
        ({"expires_at": 9.0}, {"expires_at": 5.0}, "expires_at"),
        ({"limits": (SIX,)}, {"limits": (FIVE,)}, "limits"),
        ({"limits": (replace(SIX, per=Per.TAG),)}, {"limits": (replace(FIVE, per=Per.TAG),)}, "limits"),
        ({"limits": (Allowance(Unit.REQUESTS, 21, MINUTE_S),)}, {"plan_id": "free"}, "limits"),
        ({"models": ("*",)}, {"models": ("a/*",)}, "models"),
        ({"operations": frozenset(Operation)}, {"operations": frozenset({Operation.CHAT})}, "operations"),
        ({"networks": ("0.0.0.0/0",)}, {"networks": ("10.0.0.0/8",)}, "networks"),
    ],
)  # fmt: skip
def test_more_is_refused_and_named(wanted: dict[str, Any], maker: dict[str, Any], param: str) -> None:
    with pytest.raises(Forbidden) as caught:
        granted(KeySpec(name="new", **wanted), KeySpec(name="maker", **maker), {})
    assert caught.value.param == param
    assert "The API key 'maker' cannot give" in caught.value.message


@pytest.mark.parametrize("field", ["organisation_id", "team_id", "user_id"])
def test_another_place_is_not_there(field: str) -> None:
    with pytest.raises(NotFound) as caught:
        granted(KeySpec(name="new", **{field: "x2"}), KeySpec(name="maker", **{field: "x1"}), {})
    assert caught.value.param == field
    assert caught.value.message == f"No {field.removesuffix('_id')} has the id 'x2'."


def test_a_plan_does_not_lift_the_makers_limits() -> None:
    maker = KeySpec(name="maker", limits=(Allowance(Unit.REQUESTS, 5, DAY_S),))
    made = granted(KeySpec(name="new", plan_id="pro"), maker, {})
    assert made.limits == (Allowance(Unit.REQUESTS, 5, DAY_S),)
    assert granted(KeySpec(name="new", plan_id="free"), KeySpec(name="m", plan_id="pro"), {}).limits == (
        Allowance(Unit.REQUESTS, 20, MINUTE_S),
        Allowance(Unit.REQUESTS, 200, DAY_S),
        Allowance(Unit.CONCURRENT, 5, 0),
    )


def test_a_limit_for_each_end_user_is_no_limit_of_the_key_nor_the_other_way_round() -> None:
    each = replace(SIX, per=Per.END_USER)
    maker = KeySpec(name="maker", limits=(FIVE, each))
    assert granted(KeySpec(name="new"), maker, {}).limits == (FIVE, each)
    assert granted(KeySpec(name="new", limits=(replace(SIX, per=Per.TAG),)), maker, {}).limits == (
        replace(SIX, per=Per.TAG), FIVE, each,
    )  # fmt: skip
    assert not is_within(KeySpec(name="new", limits=(FIVE, replace(FIVE, per=Per.TAG))), maker, {})
    assert not is_within(KeySpec(name="new", limits=(each, replace(FIVE, per=Per.TAG))), maker, {})
    assert is_within(KeySpec(name="new", limits=(FIVE, replace(FIVE, per=Per.END_USER))), maker, {})


@given(st.data(), PLANS)
def test_a_key_that_is_wider_in_one_field_is_not_within(data: st.DataObject, plans: dict[str, Plan]) -> None:
    maker = KeySpec(
        name="m", expires_at=5.0, organisation_id="o1", team_id="t1", user_id="u1", models=("a/*",),
        operations=frozenset({Operation.CHAT}), networks=("10.0.0.0/8",),
        limits=(Allowance(Unit.REQUESTS, 5, MINUTE_S),),
    )  # fmt: skip
    assert is_within(maker, maker, plans)
    wider: dict[str, Any] = {
        "expires_at": None, "organisation_id": None, "team_id": "t2", "user_id": None, "models": None,
        "operations": None, "networks": None, "limits": (), "scopes": frozenset(Scope),
    }  # fmt: skip
    field = data.draw(st.sampled_from(sorted(wider)))
    assert not is_within(replace(maker, **{field: wider[field]}), maker, plans)
