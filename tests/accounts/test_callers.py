"""The picture of a key: every level narrows it, and a plan gives way to what is said beside it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.accounts.specs import PLANS, SPECS, WORLDS, above, record
from tests.accounts.test_rights import ADDRESSES, MODELS, may_from, may_model

from xrouter.core.accounts import (
    BUILT_IN_PLANS,
    Account,
    Allowance,
    Kind,
    Place,
    Plan,
    check_globs,
    check_limits,
    read_allowance,
)
from xrouter.core.callers import caller_of
from xrouter.core.globs import match_any
from xrouter.core.limits import DAY_S, MINUTE_S, Level, Limit, Per, Unit
from xrouter.core.networks import allows
from xrouter.core.operation import Operation
from xrouter.core.records import KeySpec


@given(SPECS, PLANS, WORLDS)
def test_everything_above_must_allow(spec: KeySpec, plans: dict[str, Plan], world: dict[str, Account]) -> None:
    levels = above(spec, world)
    caller = caller_of(record(spec), levels, plans)
    everybody = [*levels, spec]
    assert caller.disabled == any(each.disabled for each in everybody)
    for model in MODELS:
        assert may_model(caller, model) == all(
            each.models is None or match_any(each.models, model) for each in everybody
        )
    for operation in Operation:
        assert (caller.operations is None or operation in caller.operations) == all(
            each.operations is None or operation in each.operations for each in everybody
        )
    for address in ADDRESSES:
        assert may_from(caller, address) == all(
            each.networks is None or allows(each.networks, address) for each in everybody
        )
    everything = (*caller.limits, *(one.for_name("n") for one in caller.each))
    assert len({limit.counter for limit in everything}) == len(everything)
    assert {one.level for one in caller.each} <= {Level.END_USER, Level.TAG}
    assert not {one.level for one in caller.limits} & {Level.END_USER, Level.TAG}


def test_limits_say_whose_they_are() -> None:
    team = Account(
        Kind.TEAM, "t", "payments", Place("o", "t"), 0.0, 0.0,
        plan_id="free", limits=(Allowance(Unit.REQUESTS, 7, MINUTE_S),),
    )  # fmt: skip
    key = record(KeySpec(name="ci", team_id="t", limits=(Allowance(Unit.TOKENS, 9, DAY_S, "a/*", exact=True),)))
    assert caller_of(key, [team], {}).limits == (
        Limit(Level.TEAM, "t", "team 'payments'", Unit.REQUESTS, 7, MINUTE_S),
        Limit(Level.TEAM, "t", "team 'payments', plan 'free'", Unit.REQUESTS, 200, DAY_S),
        Limit(Level.TEAM, "t", "team 'payments', plan 'free'", Unit.CONCURRENT, 5, 0),
        Limit(Level.KEY, "k", "API key 'ci'", Unit.TOKENS, 9, DAY_S, "a/*", exact=True),
    )


def test_a_limit_for_each_is_everybodys_who_is_below_whoever_has_it() -> None:
    each = Allowance(Unit.REQUESTS, 9, DAY_S, per=Per.END_USER)
    plan = Plan("p", "chat", (each, replace(each, per=Per.TAG)), 0.0, 0.0)
    team = Account(
        Kind.TEAM, "t", "payments", Place("o", "t"), 0.0, 0.0, plan_id="p", limits=(replace(each, amount=8),)
    )
    caller = caller_of(record(KeySpec(name="ci", team_id="t")), [team], {"p": plan})
    assert caller.limits == ()
    assert caller.each == (
        Limit(Level.END_USER, "t", "team 'payments'", Unit.REQUESTS, 8, DAY_S),
        Limit(Level.TAG, "t", "team 'payments', plan 'chat'", Unit.REQUESTS, 9, DAY_S),
    )
    user, tag = (one.for_name("eu_0123456789abcdef0123456789abcdef") for one in caller.each)
    assert user.owner == "end user 'eu_01234567...' of team 'payments'"
    assert tag.owner == "tag 'eu_0123456789abcdef0123456789abcdef' of team 'payments', plan 'chat'"


TAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@given(
    st.lists(
        st.builds(
            lambda limit, name: (limit, name),
            st.builds(
                Limit, st.sampled_from([Level.END_USER, Level.TAG]), st.sampled_from(["k", "t"]), st.just("somebody"),
                st.sampled_from(Unit), st.just(1), st.sampled_from([0, MINUTE_S]),
                st.none() | st.sampled_from(["a", "a:requests:60", "requests:60"]),
            ),
            TAGS | st.sampled_from(["a", "a:requests:60", "a:requests:60:requests:60", "a%3Arequests"]),
        ),
        min_size=2, max_size=2, unique=True,
    )
)  # fmt: skip
def test_no_name_that_a_client_chooses_is_another_counter(each: list[tuple[Limit, str]]) -> None:
    assert len({limit.for_name(name).counter for limit, name in each}) == 2


def test_a_stored_plan_takes_the_place_of_the_built_in_one() -> None:
    stored = replace(BUILT_IN_PLANS["enterprise"], limits=(Allowance(Unit.CONCURRENT, 3, 0),))
    key = record(KeySpec(name="k", plan_id="enterprise"))
    assert caller_of(key, [], {}).limits == ()
    assert [limit.amount for limit in caller_of(key, [], {"enterprise": stored}).limits] == [3]


def test_a_key_whose_team_is_not_there_is_disabled() -> None:
    assert caller_of(record(KeySpec(name="k", team_id="gone")), [], {}).disabled


def test_the_built_in_plans_are_those_of_the_documents() -> None:
    said = {plan.id: [str(one) for one in plan.limits] for plan in BUILT_IN_PLANS.values()}
    assert said == {
        "free": ["20 requests/minute", "200 requests/day", "5 concurrent"],
        "pro": ["100 requests/minute", "1000 requests/day", "20 concurrent"],
        "enterprise": [],
    }


@pytest.mark.parametrize(
    "text",
    [
        "20 requests/minute", "5 concurrent", "0 tokens/day", "9 tokens/day a/* exact", "5 concurrent exact",
        "9 requests/day per end_user", "5 concurrent per tag", "9 tokens/day a/* per tag exact",
    ],
)  # fmt: skip
def test_a_limit_is_read_as_it_is_written(text: str) -> None:
    assert str(read_allowance(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "requests", "5 requests", "5 requests/hour", "-1 requests/day", "5 concurrent/day", "5 apples/day",
        "5 tokens/day a b", "5 tokens/day ключ", "x tokens/day", "9999999999999999 tokens/day", "5 tokens/",
        "5 requests/day per model", "per tag", "5 requests/day per tag a/*", "5 requests/day exact per tag",
        "5 requests/day per", "5 requests/day per per tag",
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        read_allowance(text)


def test_limits_must_make_sense_together() -> None:
    one = Allowance(Unit.REQUESTS, 1, MINUTE_S)
    check_limits(
        [one, replace(one, model="a/*"), replace(one, window_s=DAY_S), *(replace(one, per=per) for per in Per)]
    )
    for wrong in ([one, replace(one, amount=2)], [replace(one, window_s=3600)], [replace(one, model="")]):
        with pytest.raises(ValueError, match="'"):
            check_limits(wrong)
    with pytest.raises(ValueError, match="at most 32"):
        check_limits([replace(one, model=f"m{number}") for number in range(33)])
    with pytest.raises(ValueError, match="at most 200"):
        check_globs(f"m{number}" for number in range(201))
