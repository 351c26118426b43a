"""Keys over HTTP. No key gets more than the one that asks has: `core/rights.py`."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Response

from xrouter.admin import account_schemas as schemas
from xrouter.admin.account_routes import listing
from xrouter.admin.desk import Desk, ObjectId, bad_cursor, place_of, within
from xrouter.admin.schemas import KeyQuery, Listing, answer
from xrouter.core.accounts import Kind
from xrouter.core.api_key import LAST_EXPIRY
from xrouter.core.call import Caller
from xrouter.core.errors import Forbidden, Invalid, NotFound
from xrouter.core.records import KeyRecord, KeySpec
from xrouter.core.rights import Plans, changed_key, granted, is_within


def add_keys(app: FastAPI, desk: Desk) -> None:
    """The routes of `/admin/keys`."""
    _Admin = Annotated[Caller, desk.admin]  # noqa: N806 - a type
    one = "/admin/keys/{key_id}"

    @app.post("/admin/keys", status_code=201, response_model=schemas.FreshKey, operation_id="create_key")
    async def create_key(wanted: schemas.NewKeyInput, caller: _Admin) -> Response:
        """Make a key. Its text is in this answer and nowhere else: only a digest is kept. What is left out is as wide
        as the key that asks."""
        made = await desk.keys.make(
            granted(KeySpec(**_fields(wanted, desk.clock.now())), *await desk.maker(caller)),
            caller.key_id,
            place_of(caller),
        )
        return answer(await desk.fresh_key(made), 201)

    @app.get("/admin/keys", response_model=Listing[schemas.Key], operation_id="list_keys")
    async def list_keys(query: Annotated[KeyQuery, Query()], caller: _Admin) -> Response:
        """Keys without their secrets, disabled ones included, newest first."""
        place = await within(desk, caller, query.organisation_id, query.team_id, query.user_id)
        try:
            page = await desk.keys.page(query.cursor, query.limit, place)
        except ValueError:
            raise bad_cursor() from None
        above = await desk.above(page.items)
        return answer(listing(page, lambda record: schemas.key(record, above, desk.clock.now())))

    @app.get(one, response_model=schemas.Key, operation_id="get_key")
    async def get_key(key_id: ObjectId, caller: _Admin) -> Response:
        """One key without its secret."""
        return answer(await desk.shown_key(there(key_id, await desk.keys.get(key_id, place_of(caller)))))

    @app.patch(one, response_model=schemas.Key, operation_id="change_key")
    async def change_key(key_id: ObjectId, wanted: schemas.KeyChange, caller: _Admin) -> Response:
        """Change a key; every worker follows within a second. Disabling alone needs no rights but to see it."""
        return answer(await desk.shown_key(await changed(desk, key_id, _fields(wanted, desk.clock.now()), caller)))

    @app.delete(one, response_model=schemas.Key, operation_id="disable_key")
    async def disable_key(key_id: ObjectId, caller: _Admin) -> Response:
        """Disable a key. Its row stays, because the books refer to it. May be repeated."""
        return answer(await desk.shown_key(await disabled(desk, key_id, caller)))

    @app.post(one + "/rotate", response_model=schemas.FreshKey, operation_id="rotate_key")
    async def rotate_key(
        key_id: ObjectId, caller: _Admin, wanted: Annotated[schemas.RotateInput | None, Body()] = None
    ) -> Response:
        """A new secret for a key, shown in this answer only; the former one works for `grace_s` more, 24 h where left
        out, 0 not at all."""
        maker = await desk.maker(caller)
        grace_s = schemas.DEFAULT_GRACE_S if wanted is None else wanted.grace_s
        made = await desk.keys.rotate(key_id, grace_s, lambda record: _check_reach(record, *maker), place_of(caller))
        if made is None:
            raise there_is_none(key_id)
        return answer(await desk.fresh_key(made))


async def changed(desk: Desk, key_id: str, fields: dict[str, Any], caller: Caller) -> KeyRecord:
    """The key with these fields changed, as far as the caller's own key goes. Raises `NotFound` and `Forbidden`."""
    if fields == {"disabled": True}:
        return await disabled(desk, key_id, caller)
    for kind in Kind:
        field = f"{kind.value}_id"
        if field in fields and fields[field] is None and getattr(place_of(caller), field) is not None:
            raise Invalid(
                f"'{field}' cannot be taken away: the API key that asks belongs to this {kind.value}, and so do all "
                "that it sees.",
                param=field,
            )
    maker, plans = await desk.maker(caller)

    def edit(record: KeyRecord) -> KeySpec:
        return changed_key(record.spec, replace(record.spec, **fields), maker, plans)

    return there(key_id, await desk.keys.change(key_id, edit, place_of(caller)))


async def disabled(desk: Desk, key_id: str, caller: Caller) -> KeyRecord:
    """The key, disabled: that needs no rights but to see it."""
    found = await desk.keys.change(key_id, lambda record: replace(record.spec, disabled=True), place_of(caller))
    return there(key_id, found)


def there(key_id: str, found: KeyRecord | None) -> KeyRecord:
    if found is None:
        raise there_is_none(key_id)
    return found


def there_is_none(key_id: str) -> NotFound:
    return NotFound(f"No key has the id '{key_id}'.", param="key_id")


def _check_reach(record: KeyRecord, maker: KeySpec, plans: Plans) -> None:
    """Whoever could rotate a key that may more than the own one would get those rights."""
    if not is_within(record.spec, maker, plans):
        raise Forbidden(f"The API key '{maker.name}' may less than the key '{record.name}', and so not rotate it.")


def _fields(wanted: schemas.KeyFields, now: float) -> dict[str, Any]:
    fields = schemas.said(wanted)
    if {"expires_at", "expires_in_days"} & wanted.model_fields_set:
        fields["expires_at"] = _expiry(wanted, now)
    return fields


def _expiry(wanted: schemas.KeyFields, now: float) -> float | None:
    if wanted.expires_in_days is not None:
        if wanted.expires_at is not None:
            raise Invalid("Give 'expires_at' or 'expires_in_days', not both.", param="expires_in_days")
        return now + wanted.expires_in_days * schemas.DAY_S
    if wanted.expires_at is not None and not now < wanted.expires_at <= LAST_EXPIRY:
        raise Invalid("'expires_at' must be in the future.", param="expires_at")
    return wanted.expires_at
