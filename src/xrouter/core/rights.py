"""Nobody gets more than the key that asks has: one rule for each field of a key, and of whoever stands above keys
(CVE-2026-47101). Pure.

What the maker does not say is what the maker has. What stands above the maker's key (organisation, team, user) need not
be looked at: what it makes or changes stands below the same ones, and they narrow it in the same way.

An account or a plan that is widened widens every key below it, also those that the maker could neither make nor see
through. So what a restricted key changes there is narrower than before, or lies within its own rights altogether.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from xrouter.core import globs, networks
from xrouter.core.accounts import Account, Allowance, Kind, Plan, effective, nobody
from xrouter.core.call import Scope
from xrouter.core.callers import plan_of
from xrouter.core.errors import Forbidden, NotFound
from xrouter.core.records import AccountSpec, KeyRecord, KeySpec, PlanSpec

Plans = Mapping[str, Plan]
Rule = Callable[[Any, KeySpec, Plans], Any]
"""The value that a new key or account gets, from what is wanted and from the maker's own key. Raises `Forbidden`, and
`NotFound` for a place that is not there for the maker."""

_Spec = TypeVar("_Spec", KeySpec, AccountSpec)
_Narrowing = KeySpec | AccountSpec


def granted(wanted: _Spec, maker: KeySpec, plans: Plans) -> _Spec:
    """`wanted`, with what it leaves open filled in from `maker`. `plans` holds every plan that either names.

    Raises `Forbidden`, whose `param` names the field, for anything that the maker does not have, and `NotFound` for
    another place than its own.
    """
    return replace(wanted, **{field.name: RULES[field.name](wanted, maker, plans) for field in fields(wanted)})


def is_within(spec: _Spec, maker: KeySpec, plans: Plans) -> bool:
    """May whoever has `maker` have everything that `spec` has? Then rotating it gives nothing new away."""
    try:
        found = granted(spec, maker, plans)
    except (Forbidden, NotFound):
        return False
    return not _differing(found, spec, plans)


def changed_key(before: KeySpec, after: KeySpec, maker: KeySpec, plans: Plans) -> KeySpec:
    """`after`, with what the change leaves open filled in from `maker`. Raises `Forbidden` where `before` may more
    than the maker: whoever could change such a key would get those rights."""
    if not is_within(before, maker, plans):
        raise Forbidden(f"The API key '{maker.name}' may less than the key '{before.name}', and so not change it.")
    return _limits_as_said(before, after, granted(after, maker, plans))


def changed_account(before: AccountSpec, after: AccountSpec, maker: KeySpec, plans: Plans) -> AccountSpec:
    """`after`, with what the change leaves open filled in from `maker`.

    What makes an account narrower gives nothing away. What makes it wider must leave it within the maker's rights as a
    whole, and for ever: an account has no end. Raises `Forbidden`.
    """
    wider = _wider(before, after, plans)
    if not wider or is_unrestricted(maker, plans):
        return after
    if maker.expires_at is not None:
        raise Forbidden(
            f"The API key '{maker.name}' expires, and so does not widen '{before.name}', which would stay as wide.",
            param=wider[0],
        )
    found = granted(after, maker, plans)
    # Nobody asked for a change of the other fields, so they are not filled in: they fit, or nothing is widened.
    unsaid = [
        name
        for name in _differing(found, after, plans)
        if (not _touches_limits(before, after) if name == "limits" else getattr(after, name) == getattr(before, name))
    ]
    if unsaid:
        raise Forbidden(
            f"'{before.name}' may more than the API key '{maker.name}' (its {unsaid[0]}), which so cannot widen it.",
            param=wider[0],
        )
    return _limits_as_said(before, after, found)


def check_removal(account: Account, keys: Iterable[KeyRecord], maker: KeySpec, plans: Plans) -> None:
    """Deleting an account takes the secrets of its `keys`, for good: only what the maker could also change. A disabled
    one counts: it could be enabled again. Raises `Forbidden`."""
    for one in keys:
        if not is_within(one.spec, maker, plans):
            raise Forbidden(
                f"The API key '{maker.name}' may less than the key '{one.name}' ({one.id}), which would go for good "
                f"with the {account.kind.value} '{account.name}'. Disable it instead."
            )


def check_plan_removal(maker: KeySpec, plans: Plans) -> None:
    """A plan may be wider than the maker, and nobody who is restricted brings it back. Raises `Forbidden`."""
    if not is_unrestricted(maker, plans):
        raise Forbidden(f"The API key '{maker.name}' is restricted itself, and so deletes no plan. Disable it instead.")


def check_plan_change(before: Plan, after: PlanSpec, maker: KeySpec, plans: Plans) -> None:
    """Whoever has a plan has its new limits at once, whatever else they may: only a key without restrictions widens
    one. Raises `Forbidden`."""
    if not _covers(after.limits, before.limits) and not is_unrestricted(maker, plans):
        raise Forbidden(
            f"The API key '{maker.name}' is restricted itself, and so does not widen a plan that others have.",
            param="limits",
        )


def is_unrestricted(maker: KeySpec, plans: Plans) -> bool:
    """Does the key itself narrow nothing? What stands above it narrows everything that it makes anyway."""
    return (
        maker.expires_at is None
        and maker.models is None
        and maker.operations is None
        and maker.networks is None
        and not _in_force(maker, plans)
    )


def _limits_as_said(before: _Spec, after: _Spec, found: _Spec) -> _Spec:
    """Only a change of the limits or of the plan fills in limits: the maker's own are not written where nobody asked
    for any."""
    return found if _touches_limits(before, after) else replace(found, limits=after.limits)


def _touches_limits(before: _Narrowing, after: _Narrowing) -> bool:
    return (before.limits, before.plan_id) != (after.limits, after.plan_id)


def _differing(one: _Spec, other: _Spec, plans: Plans) -> list[str]:
    """The fields in which they are not the same; limits by what is in force."""
    names = [field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name)]
    return [name for name in names if name != "limits" or _in_force(one, plans) != _in_force(other, plans)]


def _wider(before: AccountSpec, after: AccountSpec, plans: Plans) -> list[str]:
    """The fields that allow something that they did not allow before."""
    old, new = _in_force(before, plans), _in_force(after, plans)
    found = {
        "disabled": before.disabled and not after.disabled,
        "limits" if after.plan_id == before.plan_id else "plan_id": not _covers(new, old),
        "models": _opens(before.models, after.models, globs.contains_all),
        "operations": _opens(before.operations, after.operations, frozenset.issuperset),
        "networks": _opens(before.networks, after.networks, networks.contains_all),
    }
    return [name for name, wider in found.items() if wider]


def _opens(before: Any, after: Any, contains: Callable[[Any, Any], bool]) -> bool:
    """None allows all."""
    return before is not None and (after is None or not contains(before, after))


def _covers(limits: Iterable[Allowance], bounds: Iterable[Allowance]) -> bool:
    """Is there for each of `bounds` one of `limits` that is as low or lower?"""
    by_slot = {one.slot: one for one in limits}
    return all(
        (found := by_slot.get(bound.slot)) is not None
        and found.amount <= bound.amount
        and (found.exact or not bound.exact)
        for bound in bounds
    )


def _in_force(spec: _Narrowing, plans: Plans) -> frozenset[Allowance]:
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


def _same(kind: Kind) -> Rule:
    """A key of somebody makes keys of the same one only: others are not there for it."""
    field = f"{kind.value}_id"

    def rule(wanted: KeySpec, maker: KeySpec, plans: Plans) -> str | None:
        own: str | None = getattr(maker, field)
        asked: str | None = getattr(wanted, field)
        if own is not None and asked is not None and asked != own:
            raise nobody(kind, asked, field)
        return own if asked is None else asked

    return rule


def _limits(wanted: _Narrowing, maker: KeySpec, plans: Plans) -> tuple[Allowance, ...]:
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


def _models(wanted: _Narrowing, maker: KeySpec, plans: Plans) -> tuple[str, ...] | None:
    if maker.models is None or wanted.models is None:
        return maker.models if wanted.models is None else wanted.models
    for glob in wanted.models:
        if not globs.contains_all(maker.models, (glob,)):
            raise _beyond(maker, "models", f"the model '{glob}'; it may use: {', '.join(maker.models) or 'none'}")
    return wanted.models


def _operations(wanted: _Narrowing, maker: KeySpec, plans: Plans) -> Any:
    if maker.operations is None or wanted.operations is None:
        return maker.operations if wanted.operations is None else wanted.operations
    for operation in sorted(wanted.operations - maker.operations):
        allowed = ", ".join(sorted(maker.operations)) or "none"
        raise _beyond(maker, "operations", f"the operation '{operation}'; it may use: {allowed}")
    return wanted.operations


def _networks(wanted: _Narrowing, maker: KeySpec, plans: Plans) -> tuple[str, ...] | None:
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
    "organisation_id": _same(Kind.ORGANISATION),
    "team_id": _same(Kind.TEAM),
    "user_id": _same(Kind.USER),
    "plan_id": _free("plan_id"),  # what it would lift, `limits` keeps down
    "limits": _limits,
    "models": _models,
    "operations": _operations,
    "networks": _networks,
}


def _beyond(maker: KeySpec, field: str, what: str) -> Forbidden:
    return Forbidden(f"The API key '{maker.name}' cannot give {what}.", param=field)
