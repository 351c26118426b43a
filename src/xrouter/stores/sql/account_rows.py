"""Rows of keys, accounts and plans, read and written: lists are JSON arrays, NULL where nothing is said.

While an upgrade rolls, a newer release may have written words that this one does not know. It passes over them: a
scope, an endpoint or a kind of account that it does not know gives nobody a right here.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Row

from xrouter.core.accounts import Account, Allowance, Kind, Place, Plan
from xrouter.core.call import Scope
from xrouter.core.limits import Per, Unit
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord, KeySpec

_texts: Final = msgspec.json.Decoder(tuple[str, ...])
_objects: Final = msgspec.json.Decoder(tuple[dict[str, Any], ...])
_KINDS: Final = frozenset(one.value for one in Kind)
_SCOPES: Final = {one.value: one for one in Scope}
_OPERATIONS: Final = {one.value: one for one in Operation}
_UNITS: Final = frozenset(one.value for one in Unit)
_PERS: Final = frozenset([None, *(one.value for one in Per)])


def is_known(row: Row[Any]) -> bool:
    """Is this an account of a kind that this release knows?"""
    return row.kind in _KINDS


def key_record(row: Row[Any]) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        name=row.name,
        scopes=frozenset(_SCOPES[word] for word in row.scopes.split() if word in _SCOPES),
        last4=row.last4,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.created_at if row.updated_at is None else row.updated_at,
        expires_at=row.expires_at,
        disabled=row.disabled,
        former_until=row.former_until,
        deleted_at=row.deleted_at,
        organisation_id=row.organisation_id,
        team_id=row.team_id,
        user_id=row.user_id,
        **_common(row),
    )


def key_values(spec: KeySpec) -> dict[str, Any]:
    """The columns of what may be said of a key."""
    return {
        "name": spec.name,
        "scopes": " ".join(sorted(spec.scopes)),
        "expires_at": spec.expires_at,
        "disabled": spec.disabled,
        "organisation_id": spec.organisation_id,
        "team_id": spec.team_id,
        "user_id": spec.user_id,
        **_common_values(spec),
    }


def account(row: Row[Any]) -> Account:
    return Account(
        kind=Kind(row.kind),
        id=row.id,
        name=row.name,
        place=Place(row.organisation_id, row.team_id, row.user_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
        disabled=row.disabled,
        **_common(row),
    )


def account_values(one: Account) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind.value,
        "name": one.name,
        "organisation_id": one.place.organisation_id,
        "team_id": one.place.team_id,
        "user_id": one.place.user_id,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "disabled": one.disabled,
        **_common_values(one),
    }


def plan(row: Row[Any]) -> Plan:
    return Plan(row.id, row.name, _read_limits(row.limits), row.created_at, row.updated_at, row.disabled)


def plan_values(one: Plan) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "limits": _json(one.limits) if one.limits else None,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "disabled": one.disabled,
    }


def _common(row: Row[Any]) -> dict[str, Any]:
    return {
        "plan_id": row.plan_id,
        "limits": _read_limits(row.limits),
        "models": None if row.models is None else _texts.decode(row.models),
        "operations": None if row.operations is None else _read_operations(row.operations),
        "networks": None if row.networks is None else _texts.decode(row.networks),
    }


def _common_values(one: KeySpec | Account) -> dict[str, Any]:
    return {
        "plan_id": one.plan_id,
        "limits": _json(one.limits) if one.limits else None,
        "models": None if one.models is None else _json(one.models),
        "operations": None if one.operations is None else _json(sorted(one.operations)),
        "networks": None if one.networks is None else _json(one.networks),
    }


def _read_limits(text: str | None) -> tuple[Allowance, ...]:
    if text is None:
        return ()
    each = _objects.decode(text)
    known = (fields for fields in each if fields.get("unit") in _UNITS and fields.get("per") in _PERS)
    return tuple(msgspec.convert(fields, Allowance) for fields in known)


def _read_operations(text: str) -> frozenset[Operation]:
    return frozenset(_OPERATIONS[word] for word in _texts.decode(text) if word in _OPERATIONS)


def _json(values: Iterable[Any]) -> str:
    return msgspec.json.encode(values).decode()
