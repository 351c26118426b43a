"""Keys, accounts and plans for hypothesis: a small world, so that they often meet."""

from typing import Any

from hypothesis import strategies as st

from xrouter.core.accounts import Account, Allowance, Kind, Place, Plan
from xrouter.core.call import Scope
from xrouter.core.limits import DAY_S, MINUTE_S, Per, Unit
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord, KeySpec

ALLOWANCES = st.builds(
    Allowance,
    st.just(Unit.REQUESTS) | st.just(Unit.TOKENS),
    st.integers(0, 5),
    st.sampled_from([MINUTE_S, DAY_S]),
    st.sampled_from([None, "a/*"]),
    st.booleans(),
    st.sampled_from([None, *Per]),
)
LIMITS = st.lists(ALLOWANCES, max_size=4, unique_by=lambda one: one.slot).map(tuple)
GLOBS = st.none() | st.lists(st.sampled_from(["*", "a/*", "a/b*", "a/b", "c/d"]), max_size=3).map(tuple)
OPERATIONS = st.none() | st.frozensets(st.sampled_from(Operation))
NETWORKS = st.none() | st.lists(
    st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0"]), max_size=3
).map(tuple)
PLAN_IDS = st.sampled_from([None, "free", "pro", "enterprise", "own"])
PLANS = LIMITS.map(lambda limits: {"own": Plan("own", "own", limits, 0.0, 0.0)})

ORGANISATION, TEAM, USER = (
    st.sampled_from([None, "o1", "o2"]), st.sampled_from([None, "t1", "t2"]), st.sampled_from([None, "u1", "u2"])
)  # fmt: skip

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["one", "other"]),
    "scopes": st.frozensets(st.sampled_from(Scope), min_size=1),
    "expires_at": st.none() | st.integers(1, 3).map(float),
    "disabled": st.booleans(),
    "organisation_id": ORGANISATION,
    "team_id": TEAM,
    "user_id": USER,
    "plan_id": PLAN_IDS,
    "limits": LIMITS,
    "models": GLOBS,
    "operations": OPERATIONS,
    "networks": NETWORKS,
}
SPECS = st.builds(KeySpec, **FIELDS)


def record(spec: KeySpec, key_id: str = "k") -> KeyRecord:
    return KeyRecord(
        id=key_id, last4="last", created_at=0.0, created_by="maker", updated_at=0.0,
        **{name: getattr(spec, name) for name in FIELDS},
    )  # fmt: skip


def accounts(kind: Kind, account_id: str) -> st.SearchStrategy[Account]:
    return st.builds(
        Account, st.just(kind), st.just(account_id), st.just(account_id), st.just(Place()), st.just(0.0), st.just(0.0),
        st.booleans(), PLAN_IDS, LIMITS, GLOBS, OPERATIONS, NETWORKS,
    )  # fmt: skip


WORLDS = st.fixed_dictionaries(
    {
        name: accounts(kind, name)
        for kind, names in {
            Kind.ORGANISATION: ("o1", "o2"), Kind.TEAM: ("t1", "t2"), Kind.USER: ("u1", "u2"),
        }.items()
        for name in names
    }
)  # fmt: skip


def above(spec: KeySpec, world: dict[str, Account]) -> list[Account]:
    return [world[one] for one in (spec.organisation_id, spec.team_id, spec.user_id) if one is not None]
