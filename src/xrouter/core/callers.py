"""The picture of a key with everything that stands above it: from records to a `Caller`. Pure."""

from collections.abc import Mapping, Sequence

from xrouter.core.accounts import BUILT_IN_PLANS, Account, Allowance, Kind, Plan, effective
from xrouter.core.call import Caller
from xrouter.core.limits import Level, Limit, Per
from xrouter.core.networks import intersection
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord

_LEVELS = {Kind.ORGANISATION: Level.ORGANISATION, Kind.TEAM: Level.TEAM, Kind.USER: Level.USER}
_PER = {Per.END_USER: Level.END_USER, Per.TAG: Level.TAG}
_EACH = frozenset(_PER.values())


def caller_of(key: KeyRecord, above: Sequence[Account], plans: Mapping[str, Plan]) -> Caller:
    """The caller behind `key`. `above` are its organisation, team and user, as far as it has them; `plans` those that
    anybody of them names, by id.

    A key that names somebody who is not there is disabled: whoever stood above it might have narrowed it.
    """
    places = (key.organisation_id, key.team_id, key.user_id)
    found = {account.id for account in above}
    disabled = key.disabled or any(account.disabled for account in above)
    limits: list[Limit] = []
    models: list[tuple[str, ...]] = []
    operations: frozenset[Operation] | None = None
    networks: tuple[str, ...] | None = None
    for account in above:
        limits += _limits(_LEVELS[account.kind], account.id, f"{account.kind.value} '{account.name}'", account, plans)
    holders: tuple[Account | KeyRecord, ...] = (*above, key)
    for each in holders:
        if each.models is not None:
            models.append(each.models)
        if each.operations is not None:
            operations = each.operations if operations is None else operations & each.operations
        networks = intersection(networks, each.networks)
    limits += _limits(Level.KEY, key.id, f"API key '{key.name}'", key, plans)
    return Caller(
        key_id=key.id,
        name=key.name,
        scopes=key.scopes,
        expires_at=key.expires_at,
        disabled=disabled or any(place is not None and place not in found for place in places),
        organisation_id=key.organisation_id,
        team_id=key.team_id,
        user_id=key.user_id,
        models=tuple(dict.fromkeys(models)),
        operations=operations,
        networks=networks,
        limits=tuple(one for one in limits if one.level not in _EACH),
        each=tuple(one for one in limits if one.level in _EACH),
    )


def plan_of(plan_id: str | None, plans: Mapping[str, Plan]) -> Plan | None:
    """The plan with this id, stored or built in."""
    return None if plan_id is None else plans.get(plan_id) or BUILT_IN_PLANS.get(plan_id)


def _limits(
    level: Level, subject: str, owner: str, holder: Account | KeyRecord, plans: Mapping[str, Plan]
) -> list[Limit]:
    plan = plan_of(holder.plan_id, plans)
    own = {one.slot for one in holder.limits}

    def limit(one: Allowance) -> Limit:
        words = owner if plan is None or one.slot in own else f"{owner}, plan '{plan.name}'"
        whose = level if one.per is None else _PER[one.per]
        return Limit(whose, subject, words, one.unit, one.amount, one.window_s, one.model, one.exact)

    return [limit(one) for one in effective(plan, holder.limits)]
