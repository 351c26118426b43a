"""The control plane's routes. Each declares whom it lets in; see `guard.py`."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Response

from xrouter.admin.account_routes import add_accounts, add_plans, listing
from xrouter.admin.config_route import add_config
from xrouter.admin.current_key import CurrentKey, current_key, periods
from xrouter.admin.deployment_routes import Stations, add_deployments
from xrouter.admin.desk import Desk, bad_cursor, generation_of, installation_only, place_of
from xrouter.admin.generation import Generation, generation
from xrouter.admin.guard import Authenticate, Guard, GuardedRoute
from xrouter.admin.key_routes import add_keys, there
from xrouter.admin.openrouter_keys import add_openrouter_keys
from xrouter.admin.pressure import Pressure
from xrouter.admin.problems import ErrorBody, handle_errors
from xrouter.admin.route_route import Explain, add_route
from xrouter.admin.schemas import AttemptQuery, AttemptRow, Listing, answer, attempt_row
from xrouter.configuration.standing import Standing
from xrouter.core.beside import SHADOW_PREFIX
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import Clock
from xrouter.core.ports import AccountAdmin, AttemptLog, IdempotentWrites, KeyAdmin, PlanAdmin
from xrouter.core.records import AttemptFilter


def build(
    *,
    keys: KeyAdmin,
    accounts: AccountAdmin,
    plans: PlanAdmin,
    attempts: AttemptLog,
    writes: IdempotentWrites,
    explain: Explain,
    standing: Callable[[], Standing],
    deployments: Stations,
    authenticate: Authenticate,
    clock: Clock,
    pressure: Callable[[], Pressure],
) -> FastAPI:
    """The control plane as an ASGI application with whole paths (`/admin/...`, and `/api/v1/...` but the data plane's).

    `authenticate` finds the caller of a request or raises `Unauthenticated`; `explain` says how a
    decision in the books was made, `standing` what is served, `pressure` how busy this worker is.
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
    desk = Desk(
        keys=keys,
        accounts=accounts,
        plans=plans,
        attempts=attempts,
        clock=clock,
        admin=Depends(Guard(Scope.ADMIN, authenticate, writes)),
        models=Depends(Guard(Scope.MODELS, authenticate)),
    )
    add_keys(app, desk)
    add_accounts(app, desk)
    add_plans(app, desk)
    add_openrouter_keys(app, desk)
    _add_books(app, desk)
    add_route(app, desk, explain)
    add_config(app, desk, standing)
    add_deployments(app, desk, deployments)

    @app.get("/admin/pressure", response_model=Pressure, operation_id="get_pressure")
    async def get_pressure(caller: Annotated[Caller, desk.admin]) -> Response:
        """How busy the worker that answers is. For the installation's admins: credentials are shared by all."""
        installation_only(caller, "Credentials and workers")
        return answer(pressure())

    @app.get("/admin/openapi.json", dependencies=[desk.admin], include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    return app


def _add_books(app: FastAPI, desk: Desk) -> None:
    """What was called, and what it cost."""

    @app.get("/admin/attempts", response_model=Listing[AttemptRow], operation_id="list_attempts")
    async def list_attempts(query: Annotated[AttemptQuery, Query()], caller: Annotated[Caller, desk.admin]) -> Response:
        """The books: every upstream call with its tokens and cost, newest first; of your own keys and those below."""
        place = place_of(caller)
        if query.key_id is not None and not (place.is_anywhere and query.key_id.startswith(SHADOW_PREFIX)):
            there(query.key_id, await desk.keys.get(query.key_id, place))
        wanted = AttemptFilter(**query.model_dump(exclude={"limit", "cursor"}), within=place)
        try:
            page = await desk.attempts.page(wanted, query.cursor, query.limit)
        except ValueError:
            raise bad_cursor() from None
        return answer(listing(page, attempt_row))

    @app.get("/api/v1/generation", response_model=Generation, operation_id="get_generation")
    async def get_generation(
        id: Annotated[str, Query(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")],  # noqa: A002 - its name
        caller: Annotated[Caller, desk.models],
    ) -> Response:
        """What became of one call. A key sees its own calls, an admin's key those of the keys that it sees."""
        found = await generation_of(desk, caller, id, "id")
        return answer(generation(found))

    @app.get("/api/v1/key", response_model=CurrentKey, operation_id="get_current_key")
    async def get_current_key(caller: Annotated[Caller, desk.models]) -> Response:
        """The key that asks, what it may do, and what it has spent."""
        spent = await desk.attempts.spent_micro(caller.key_id, periods(desk.clock.now()))
        return answer(current_key(caller, await desk.keys.get(caller.key_id), spent))
