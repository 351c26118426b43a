"""No key gets more than its maker has: one rule for each field of a key (CVE-2026-47101). Pure.

What the maker does not say is what the maker has. What stands above the maker's key (organisation, team, user) need not
be looked at: the new key stands below the same ones, and they narrow it in the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from xrouter.core import globs, networks
from xrouter.core.accounts import Allowance, Plan, effective
from xrouter.core.call import Scope
from xrouter.core.callers import plan_of
from xrouter.core.errors import Forbidden
from xrouter.core.records import KeySpec

Plans = Mapping[str, Plan]
Rule = Callable[[KeySpec, KeySpec, Plans], Any]
"""The value that a new key gets, from what is wanted and from the maker's own key. Raises `Forbidden`."""


def granted(wanted: KeySpec, maker: KeySpec, plans: Plans) -> KeySpec:
    """`wanted`, with what it leaves open filled in from `maker`. `plans` holds every plan that either names.

    Raises `Forbidden`, whose `param` names the field, for anything that the maker does not have.
    """
    return replace(wanted, **{field.name: RULES[field.name](wanted, maker, plans) for field in fields(KeySpec)})


def is_within(spec: KeySpec, maker: KeySpec, plans: Plans) -> bool:
    """May whoever has `maker` have everything that `spec` has? Then rotating it gives nothing new away."""
    try:
        found = granted(spec, maker, plans)
    except Forbidden:
        return False
    same = replace(found, limits=()) == replace(spec, limits=())
    return same and _in_force(found, plans) == _in_force(spec, plans)


def _in_force(spec: KeySpec, plans: Plans) -> frozenset[Allowance]:
    return frozenset(effective(plan_of(spec.plan_id, plans), spec.limits))


def _free(field: str) -> Rule:
    """For what gives no right."""
    return lambda wanted, maker, plans: getattr(wanted, field)


def _scopes(wanted: KeySpec, maker: KeySpec, plans: Plans) -> frozenset[Scope]:
    if Scope.ADMIN not in maker.scopes:
        for scope in sorted(wanted.scopes - maker.scopes):
            raise _beyond(maker, "scopes", f"the scope '{scope}', which it lacks")
    return wanted.scopes


def _expires_at(wanted: KeySpec, maker: KeySpec, plans: Plans) -> float | None:
    if maker.expires_at is None or wanted.expires_at is None:
        return maker.expires_at if wanted.expires_at is None else wanted.expires_at
    if wanted.expires_at > maker.expires_at:
        raise _beyond(maker, "expires_at", "an end later than its own")
    return wanted.expires_at


def _same(field: str, word: str) -> Rule:
    """A key of somebody makes keys of the same one only."""

    def rule(wanted: KeySpec, maker: KeySpec, plans: Plans) -> str | None:
        own: str | None = getattr(maker, field)
        asked: str | None = getattr(wanted, field)
        if own is not None and asked not in (None, own):
            raise _beyond(maker, field, f"another {word} than its own")
        return own if asked is None else asked

    return rule


def _limits(wanted: KeySpec, maker: KeySpec, plans: Plans) -> tuple[Allowance, ...]:
    """Each limit of the maker's key stands in the new one, too, as low or lower. It is written into the key itself: a
    plan may be changed later."""
    theirs = {one.slot: one for one in effective(plan_of(wanted.plan_id, plans), wanted.limits)}
    own = {one.slot: one for one in wanted.limits}
    for bound in effective(plan_of(maker.plan_id, plans), maker.limits):
        found = own.get(bound.slot)
        if found is not None and found.amount > bound.amount:
            raise _beyond(maker, "limits", f"'{found}', more than its own '{bound}'")
        amount = min(bound.amount, theirs.get(bound.slot, bound).amount)
        own[bound.slot] = replace(found or bound, amount=amount, exact=bound.exact or (found or bound).exact)
    return tuple(own.values())


def _models(wanted: KeySpec, maker: KeySpec, plans: Plans) -> tuple[str, ...] | None:
    if maker.models is None or wanted.models is None:
        return maker.models if wanted.models is None else wanted.models
    for glob in wanted.models:
        if not globs.contains_all(maker.models, (glob,)):
            raise _beyond(maker, "models", f"the model '{glob}'; it may use: {', '.join(maker.models) or 'none'}")
    return wanted.models


def _operations(wanted: KeySpec, maker: KeySpec, plans: Plans) -> Any:
    if maker.operations is None or wanted.operations is None:
        return maker.operations if wanted.operations is None else wanted.operations
    for operation in sorted(wanted.operations - maker.operations):
        allowed = ", ".join(sorted(maker.operations)) or "none"
        raise _beyond(maker, "operations", f"the operation '{operation}'; it may use: {allowed}")
    return wanted.operations


def _networks(wanted: KeySpec, maker: KeySpec, plans: Plans) -> tuple[str, ...] | None:
    if maker.networks is None or wanted.networks is None:
        return maker.networks if wanted.networks is None else wanted.networks
    for network in wanted.networks:
        if not networks.contains_all(maker.networks, (network,)):
            allowed = ", ".join(maker.networks) or "none"
            raise _beyond(maker, "networks", f"the network '{network}'; it may be used from: {allowed}")
    return wanted.networks


RULES: Final[Mapping[str, Rule]] = {
    "name": _free("name"),
    "scopes": _scopes,
    "expires_at": _expires_at,
    "disabled": _free("disabled"),
    "organisation_id": _same("organisation_id", "organisation"),
    "team_id": _same("team_id", "team"),
    "user_id": _same("user_id", "user"),
    "plan_id": _free("plan_id"),  # what it would lift, `limits` keeps down
    "limits": _limits,
    "models": _models,
    "operations": _operations,
    "networks": _networks,
}


def _beyond(maker: KeySpec, field: str, what: str) -> Forbidden:
    return Forbidden(f"The API key '{maker.name}' cannot give {what}.", param=field)
