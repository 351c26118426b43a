"""Nobody widens an account or a plan beyond the rights of the key that asks (SEC-PRIV-01).

A small installation: o1 > t1 > u1, and o2 > t2 > u2, with any keys in it. Whatever a restricted admin key makes or
changes there, every key may afterwards no more than it could before, or no more than the admin key itself.
"""

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounts.specs import FIELDS, LIMITS, PLANS, SPECS, accounts, record
from tests.accounts.test_rights import check_subset

from xrouter.core.accounts import ANYWHERE, Account, Allowance, Kind, Place, Plan
from xrouter.core.call import Caller, Scope
from xrouter.core.callers import caller_of
from xrouter.core.errors import Forbidden, NotFound
from xrouter.core.limits import MINUTE_S, Unit
from xrouter.core.records import AccountSpec, KeySpec, PlanSpec
from xrouter.core.rights import RULES, changed_account, check_plan_change, granted, is_within

PLACES = {
    "o1": Place("o1"), "t1": Place("o1", "t1"), "u1": Place("o1", "t1", "u1"),
    "o2": Place("o2"), "t2": Place("o2", "t2"), "u2": Place("o2", "t2", "u2"),
}  # fmt: skip
KINDS = {"o": Kind.ORGANISATION, "t": Kind.TEAM, "u": Kind.USER}

FIVE, SIX = (Allowance(Unit.REQUESTS, amount, MINUTE_S) for amount in (5, 6))


@dataclass
class Installation:
    accounts: dict[str, Account]
    keys: dict[str, KeySpec]
    plans: dict[str, Plan]

    def callers(self) -> dict[str, Caller]:
        return {name: self.caller(spec, name) for name, spec in self.keys.items()}

    def caller(self, spec: KeySpec, key_id: str) -> Caller:
        ids = [one for one in (spec.organisation_id, spec.team_id, spec.user_id) if one is not None]
        return caller_of(record(spec, key_id), [self.accounts[one] for one in ids], self.plans)


def at(spec: KeySpec, place: Place) -> KeySpec:
    return replace(spec, organisation_id=place.organisation_id, team_id=place.team_id, user_id=place.user_id)


KEYS = st.builds(at, SPECS, st.sampled_from([ANYWHERE, *PLACES.values()]))
ADMINS = st.builds(
    lambda spec, place: at(replace(spec, scopes=frozenset({Scope.ADMIN}), disabled=False), place),
    SPECS,
    st.sampled_from([ANYWHERE, *PLACES.values()]),
)
ACCOUNTS = st.fixed_dictionaries(
    {name: accounts(KINDS[name[0]], name).map(lambda one: replace(one, place=PLACES[one.id])) for name in PLACES}
)
INSTALLATIONS = st.builds(Installation, ACCOUNTS, st.fixed_dictionaries({"k1": KEYS, "k2": KEYS, "k3": KEYS}), PLANS)
ACCOUNT_FIELDS = {name: FIELDS[name] for name in FIELDS if name in {field.name for field in fields(AccountSpec)}}
CHANGES = st.fixed_dictionaries({}, optional=ACCOUNT_FIELDS)


def check_nobody_gained(before: dict[str, Caller], after: dict[str, Caller], maker: Caller) -> None:
    for name, caller in after.items():
        try:
            check_subset(caller, before.get(name, maker))
        except AssertionError:
            check_subset(caller, maker)


def test_every_field_of_an_account_and_of_a_plan_has_a_rule() -> None:
    assert {field.name for field in fields(AccountSpec)} <= set(RULES)
    assert set(ACCOUNT_FIELDS) == {field.name for field in fields(AccountSpec)}, "and is tried below"
    assert {field.name for field in fields(PlanSpec)} == {"name", "limits", "disabled"}, "limits are tried below"


@given(INSTALLATIONS, ADMINS, st.sampled_from(sorted(PLACES)), CHANGES)
def test_nobody_gains_more_than_the_admin_key_has_by_a_changed_account(
    world: Installation, maker: KeySpec, target: str, change: dict[str, Any]
) -> None:
    place = Place(maker.organisation_id, maker.team_id, maker.user_id)
    one = world.accounts[target]
    if one.place == place or not one.place.is_within(place):
        return  # the stores refuse it: tests/admin/test_admin_tenants.py
    before, own = world.callers(), world.caller(maker, "admin")
    spec = AccountSpec.of(one)
    with suppress(Forbidden):
        world.accounts[target] = changed_account(spec, replace(spec, **change), maker, world.plans).changed(one, 1.0)
    check_nobody_gained(before, world.callers(), own)


@given(INSTALLATIONS, ADMINS, st.sampled_from(["o1", "t1", "u1"]), CHANGES, SPECS)
def test_what_is_made_below_a_new_account_may_no_more_than_its_maker(
    world: Installation, maker: KeySpec, target: str, said: dict[str, Any], key: KeySpec
) -> None:
    """An account, made anew in the place of one that was deleted, with a key of the same maker below it."""
    place = Place(maker.organisation_id, maker.team_id, maker.user_id)
    one = world.accounts[target]
    if one.place == place or not one.place.is_within(place):
        return
    own = world.caller(maker, "admin")
    world.keys = {}
    with suppress(Forbidden, NotFound):
        spec = granted(AccountSpec(**{"name": "new"} | said), maker, world.plans)
        assert is_within(spec, maker, world.plans)
        world.accounts[target] = spec.changed(one, 1.0)
        world.keys["new"] = granted(at(key, one.place), maker, world.plans)
    check_nobody_gained({}, world.callers(), own)


@given(INSTALLATIONS, st.builds(lambda spec: at(spec, ANYWHERE), ADMINS), st.sampled_from(["own", "free"]), LIMITS)
def test_nobody_gains_more_than_the_admin_key_has_by_a_changed_plan(
    world: Installation, maker: KeySpec, plan_id: str, limits: tuple[Allowance, ...]
) -> None:
    plan = world.plans.get(plan_id) or Plan(plan_id, plan_id, (FIVE,), 0.0, 0.0)
    world.plans[plan_id] = plan
    before, own = world.callers() | {"admin": world.caller(maker, "admin")}, world.caller(maker, "admin")
    with suppress(Forbidden):
        check_plan_change(plan, PlanSpec(name=plan.name, limits=limits), maker, world.plans)
        world.plans[plan_id] = replace(plan, limits=limits)
    check_nobody_gained(before, world.callers() | {"admin": world.caller(maker, "admin")}, own)


@given(INSTALLATIONS, ADMINS, st.sampled_from(["k1", "k2", "k3"]), SPECS, st.sets(st.sampled_from(sorted(FIELDS))))
def test_nobody_gains_more_than_the_admin_key_has_by_a_changed_or_moved_key(
    world: Installation, maker: KeySpec, target: str, wanted: KeySpec, said: set[str]
) -> None:
    place = Place(maker.organisation_id, maker.team_id, maker.user_id)
    spec = world.keys[target]
    if not Place(spec.organisation_id, spec.team_id, spec.user_id).is_within(place):
        return
    before, own = world.callers(), world.caller(maker, "admin")
    with suppress(Forbidden, NotFound):
        if is_within(spec, maker, world.plans):
            changed = granted(replace(spec, **{name: getattr(wanted, name) for name in said}), maker, world.plans)
            if Place(changed.organisation_id, changed.team_id, changed.user_id) in PLACES.values():
                world.keys[target] = changed
    check_nobody_gained(before, world.callers(), own)


@pytest.mark.parametrize(
    ("change", "maker", "param"),
    [
        ({"models": ("*",)}, {"models": ("a/*",)}, "models"),
        ({"limits": (SIX,)}, {"limits": (FIVE,)}, "limits"),
        ({"plan_id": "enterprise", "limits": (SIX,)}, {"limits": (FIVE,)}, "limits"),
        ({"operations": None, "models": ("*",)}, {"models": ("a/*",)}, "models"),
        ({"networks": ("0.0.0.0/0",)}, {"networks": ("10.0.0.0/8",)}, "networks"),
        ({"disabled": False}, {"expires_at": 5.0}, "disabled"),
        ({"disabled": False}, {"models": ("c/*",)}, "models"),
        ({"models": None}, {"expires_at": 5.0}, "models"),
    ],
)  # fmt: skip
def test_what_would_widen_an_account_too_far_is_refused_and_named(
    change: dict[str, Any], maker: dict[str, Any], param: str
) -> None:
    before = AccountSpec(
        name="team", disabled=True, limits=(replace(FIVE, amount=1),), models=("a/b",), networks=("10.1.0.0/16",),
    )  # fmt: skip
    with pytest.raises(Forbidden) as caught:
        changed_account(before, replace(before, **change), KeySpec(name="maker", **maker), {})
    assert (caught.value.param, "'maker'" in caught.value.message) == (param, True)


def test_what_is_taken_away_becomes_the_makers_own() -> None:
    before = AccountSpec(name="team", limits=(replace(FIVE, amount=1),), models=("a/b",))
    maker = KeySpec(name="maker", limits=(FIVE,), models=("a/*",))
    found = changed_account(before, replace(before, limits=(), models=None), maker, {})
    assert (found.limits, found.models) == ((FIVE,), ("a/*",))


def test_a_wide_account_may_be_renamed_narrowed_and_disabled_by_a_narrow_key_as_it_is() -> None:
    before = AccountSpec(name="team", limits=(SIX,))
    maker = KeySpec(name="maker", limits=(FIVE,), models=("a/*",), expires_at=5.0)
    for change in ({"name": "new"}, {"disabled": True}, {"models": ("c/*",)}, {"limits": (SIX, FIVE)[1:]}):
        after = replace(before, **change)  # type: ignore[arg-type]
        assert changed_account(before, after, maker, {}) == after
