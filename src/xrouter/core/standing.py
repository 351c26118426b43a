"""Whether a key or an account works, and if not, why: it may be disabled, expired or deleted itself, or somebody above
it may be disabled. Pure; the gateway decides by `core/callers.py`, in the same words."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from xrouter.core.accounts import Account, Kind, Place
from xrouter.core.records import KeyRecord


class Standing(StrEnum):
    """What becomes of a call with a key, or with a key below an account."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    DELETED = "deleted"


def standing_of_key(key: KeyRecord, above: Mapping[str, Account], now: float) -> tuple[Standing, str | None]:
    """Its standing, and why where it does not work. `above` holds its organisation, team and user, by id."""
    if key.deleted_at is not None:
        return Standing.DELETED, f"it was deleted on {_day(key.deleted_at)}"
    found = _disabled("the key", key.disabled, key.place, above, None)
    if found is not None:
        return Standing.DISABLED, found
    if key.expires_at is not None and key.expires_at <= now:
        return Standing.EXPIRED, f"it expired on {_day(key.expires_at)}"
    return Standing.ACTIVE, None


def standing_of_account(one: Account, above: Mapping[str, Account]) -> tuple[Standing, str | None]:
    """The same for an account."""
    found = _disabled(f"the {one.kind.value}", one.disabled, one.place, above, one.id)
    return (Standing.ACTIVE, None) if found is None else (Standing.DISABLED, found)


def ids_above(place: Place) -> list[str]:
    """The ids of all that stand there, the widest first."""
    return [one for one in (place.organisation_id, place.team_id, place.user_id) if one is not None]


def _disabled(what: str, disabled: bool, place: Place, above: Mapping[str, Account], own_id: str | None) -> str | None:
    for kind in Kind:
        account_id: str | None = getattr(place, f"{kind.value}_id")
        if account_id in (None, own_id):
            continue
        account = above.get(str(account_id))
        if account is None:
            return f"its {kind.value} is not there any more"
        if account.disabled:
            return f"its {kind.value} '{account.name}' is disabled"
    return f"{what} itself is disabled" if disabled else None


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
