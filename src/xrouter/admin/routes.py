"""The control plane's routes. Each declares whom it lets in; see `guard.py`."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Response

from xrouter.admin.current_key import CurrentKey, current_key, periods
from xrouter.admin.generation import Generation, generation
from xrouter.admin.guard import Authenticate, Guard, GuardedRoute
from xrouter.admin.problems import ErrorBody, handle_errors
from xrouter.admin.schemas import (
    AttemptQuery,
    AttemptRow,
    FreshKey,
    Key,
    Listing,
    NewKeyInput,
    PageQuery,
    answer,
    attempt_row,
    key_fields,
)
from xrouter.core.api_key import LAST_EXPIRY
from xrouter.core.call import Caller, Scope, State
from xrouter.core.clock import Clock
from xrouter.core.errors import Forbidden, Invalid, NotFound
from xrouter.core.ports import AttemptLog, KeyAdmin
from xrouter.core.records import AttemptFilter, KeySpec

_DAY_S = 86_400.0

_KeyId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


def build(*, keys: KeyAdmin, attempts: AttemptLog, authenticate: Authenticate, clock: Clock) -> FastAPI:
    """The control plane as an ASGI application with whole paths (`/admin/...`, `/api/v1/generation`, `/api/v1/key`).

    `authenticate` finds the caller from the request's headers or raises `Unauthenticated`.
    """
    app = FastAPI(
        title="XRouter control plane",
        docs_url=None,  # its pages load scripts from another site
        redoc_url=None,
        openapi_url=None,  # served below, behind a guard like everything else
        redirect_slashes=False,
        responses={"4XX": {"model": ErrorBody, "description": "The caller must change something."}},
    )
    app.router.route_class = GuardedRoute
    handle_errors(app)
    admin = Depends(Guard(Scope.ADMIN, authenticate))
    models = Depends(Guard(Scope.MODELS, authenticate))

    @app.post("/admin/keys", status_code=201, response_model=FreshKey, operation_id="create_key")
    async def create_key(wanted: NewKeyInput, caller: Annotated[Caller, admin]) -> Response:
        """Make a key. Its text is in this answer and nowhere else: only a digest is kept."""
        spec = KeySpec(name=wanted.name, scopes=_granted(wanted, caller), expires_at=_expiry(wanted, clock.now()))
        made = await keys.make(spec, caller.key_id)
        return answer(FreshKey(**key_fields(made.record), key=made.text.reveal()), 201)

    @app.get("/admin/keys", response_model=Listing[Key], dependencies=[admin], operation_id="list_keys")
    async def list_keys(query: Annotated[PageQuery, Query()]) -> Response:
        """Keys without their secrets, disabled ones included, newest first."""
        try:
            page = await keys.page(query.cursor, query.limit)
        except ValueError:
            raise _bad_cursor() from None
        return answer(
            Listing[Key](
                data=[Key(**key_fields(record)) for record in page.items],
                has_more=page.next_cursor is not None,
                next_cursor=page.next_cursor,
            )
        )

    @app.get("/admin/keys/{key_id}", response_model=Key, dependencies=[admin], operation_id="get_key")
    async def get_key(key_id: _KeyId) -> Response:
        """One key without its secret."""
        record = await keys.get(key_id)
        if record is None:
            raise _no_key(key_id)
        return answer(Key(**key_fields(record)))

    @app.delete("/admin/keys/{key_id}", response_model=Key, dependencies=[admin], operation_id="disable_key")
    async def disable_key(key_id: _KeyId) -> Response:
        """Disable a key for good. Its row stays, because the books refer to it. May be repeated."""
        record = await keys.change(key_id, lambda record: replace(record.spec, disabled=True))
        if record is None:
            raise _no_key(key_id)
        return answer(Key(**key_fields(record)))

    @app.get("/admin/attempts", response_model=Listing[AttemptRow], dependencies=[admin], operation_id="list_attempts")
    async def list_attempts(query: Annotated[AttemptQuery, Query()]) -> Response:
        """The books: every upstream call with its tokens and cost, newest first."""
        wanted = AttemptFilter(**query.model_dump(exclude={"limit", "cursor"}))
        try:
            page = await attempts.page(wanted, query.cursor, query.limit)
        except ValueError:
            raise _bad_cursor() from None
        return answer(
            Listing[AttemptRow](
                data=[attempt_row(record) for record in page.items],
                has_more=page.next_cursor is not None,
                next_cursor=page.next_cursor,
            )
        )

    @app.get("/api/v1/generation", response_model=Generation, operation_id="get_generation")
    async def get_generation(
        id: Annotated[str, Query(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")],  # noqa: A002 - its name
        caller: Annotated[Caller, models],
    ) -> Response:
        """What became of one call. A key sees its own calls, an admin's key all."""
        found = await attempts.of_call(id)
        if not found or not (caller.may(Scope.ADMIN) or found[0].key_id == caller.key_id):
            raise NotFound(f"No generation has the id '{id}'.", param="id")
        if any(attempt.state is State.OPEN for attempt in found):
            raise NotFound(
                f"The generation '{id}' still runs, or its outcome is on its way: ask again in a second.",
                param="id",
                code="generation_pending",
                retry_after_s=1.0,
            )
        return answer(generation(found))

    @app.get("/api/v1/key", response_model=CurrentKey, operation_id="get_current_key")
    async def get_current_key(caller: Annotated[Caller, models]) -> Response:
        """The key that asks, and what it has spent."""
        spent = await attempts.spent_micro(caller.key_id, periods(clock.now()))
        return answer(current_key(caller, await keys.get(caller.key_id), spent))

    @app.get("/admin/openapi.json", dependencies=[admin], include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    return app


def _granted(wanted: NewKeyInput, caller: Caller) -> frozenset[Scope]:
    """A key never gets rights that its maker does not have."""
    for scope in wanted.scopes:
        if not caller.may(scope):
            raise Forbidden(f"The API key '{caller.name}' cannot give the scope '{scope}', which it lacks.")
    return frozenset(wanted.scopes)


def _expiry(wanted: NewKeyInput, now: float) -> float | None:
    if wanted.expires_in_days is not None:
        if wanted.expires_at is not None:
            raise Invalid("Give 'expires_at' or 'expires_in_days', not both.", param="expires_in_days")
        return now + wanted.expires_in_days * _DAY_S
    if wanted.expires_at is not None and not now < wanted.expires_at <= LAST_EXPIRY:
        raise Invalid("'expires_at' must be in the future.", param="expires_at")
    return wanted.expires_at


def _bad_cursor() -> Invalid:
    return Invalid("The cursor is not one that this API gave out.", param="cursor", code="invalid_cursor")


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"No key has the id '{key_id}'.", param="key_id")
