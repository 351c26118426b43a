"""Default deny: a route of the control plane that does not say whom it lets in cannot be made."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping
from typing import Annotated, Any, get_args

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from xrouter.admin.idempotency import once
from xrouter.admin.problems import request_id_of, unknown_name
from xrouter.core.authorize import authorize
from xrouter.core.call import Caller, Scope
from xrouter.core.errors import Invalid, TooLarge
from xrouter.core.ports import IdempotentWrites

MAX_BODY_BYTES = 64 * 1024

Authenticate = Callable[[Mapping[str, str], MutableMapping[str, Any]], Awaitable[Caller]]
"""Who calls, by the headers and the whole ASGI scope (for the client's address)."""

_bearer = HTTPBearer(auto_error=False, description="An API key.")


class Guard:
    """The dependency that each route declares exactly once: who may pass, and then who it was.

    The check itself is made by `GuardedRoute` before the body is read; as a dependency it hands over the caller.
    """

    def __init__(self, scope: Scope, authenticate: Authenticate, writes: IdempotentWrites | None = None) -> None:
        self.scope = scope
        self.writes = writes
        self._authenticate = authenticate

    async def check(self, request: Request) -> None:
        caller = await self._authenticate(request.headers, request.scope)
        authorize(caller, self.scope)
        request.state.caller = caller

    async def __call__(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        caller: Caller = request.state.caller
        return caller


class GuardedRoute(APIRoute):
    """A route with one `Guard`. `known_names` are its query parameters and body fields, `nested_names` the fields of
    objects inside the body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(path, endpoint, **kwargs)
        guards = [dependency.call for dependency in self.dependant.dependencies if isinstance(dependency.call, Guard)]
        if len(guards) != 1:
            raise TypeError(f"the route {path} must depend on exactly one Guard, and does on {len(guards)}")
        self.guard = guards[0]
        self.query_names = _names(self.dependant.query_params)
        self.known_names = self.query_names | _names(self.dependant.body_params)
        self.nested_names = _nested_names(self.dependant.body_params)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request = Request(request.scope, _limited(request.receive))
            request_id = request_id_of(request)
            await self.guard.check(request)
            self._check_query(request)
            try:
                await request.body()  # here, so that errors of size and time stay what they are
            except ClientDisconnect:
                return Response(status_code=499)  # nobody reads it
            if self.guard.writes is None:
                response = await handle(request)
            else:
                response = await once(request, request.state.caller, self.guard.writes, handle)
            response.headers["x-request-id"] = request_id
            return response

        return guarded

    def _check_query(self, request: Request) -> None:
        seen: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in self.query_names:
                raise unknown_name(name, self.query_names, "query parameter")
            if name in seen:
                raise Invalid(f"The query parameter '{name}' came more than once.", param=name)
            seen.add(name)


def _limited(receive: Receive) -> Receive:
    """`receive` that raises `TooLarge` beyond `MAX_BODY_BYTES`."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            raise TooLarge(f"The request body is larger than {MAX_BODY_BYTES} bytes.")
        return message

    return limited


def _names(params: list[Any]) -> frozenset[str]:
    """The names that a client uses: of each parameter, or of the fields where a model stands for several."""
    names: set[str] = set()
    for param in params:
        models = list(_models(param.field_info.annotation))
        names |= {name for model in models for name in model.model_fields} if models else {param.alias}
    return frozenset(names)


def _nested_names(params: list[Any]) -> frozenset[str]:
    outer = [model for param in params for model in _models(param.field_info.annotation)]
    inner = [found for model in outer for field in model.model_fields.values() for found in _models(field.annotation)]
    return frozenset(name for model in inner for name in model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model in a type, also where it is optional or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
