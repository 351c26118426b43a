"""Who calls? Decided from the headers alone, before a byte of the body is read."""

from collections.abc import Callable

from xrouter.core.api_key import is_mistyped
from xrouter.core.authorize import authorize
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import Clock
from xrouter.core.errors import Forbidden, Unauthenticated
from xrouter.core.networks import allows
from xrouter.core.ports import KeyStore


async def check(
    credential: str | None, scope: Scope, keys: KeyStore, clock: Clock, address: Callable[[], str | None]
) -> Caller:
    """The caller behind `credential`, who may do `scope`. `address` gives the client's; it is asked only for a key that
    is bound to networks.

    Waits only for a key that memory does not hold. Raises `Unauthenticated` (one text for unknown, disabled
    and expired keys: nothing to learn by guessing), `Forbidden`, or `Overloaded` when nobody can be asked.
    """
    if not credential:
        raise Unauthenticated(
            "No API key was sent. Put it into the header: `Authorization: Bearer <key>`.", code="missing_api_key"
        )
    caller = keys.known(credential)
    if caller is None and not is_mistyped(credential):
        caller = await keys.look_up(credential)
    if caller is None or caller.disabled or (caller.expires_at is not None and caller.expires_at <= clock.now()):
        raise Unauthenticated(
            "The API key is not valid: unknown, expired, or disabled: itself, its user, team or organisation. "
            "`xrouter keys create` makes a new one."
        )
    if caller.networks is not None:
        _check_address(caller, caller.networks, address())
    if scope not in caller.scopes:  # nearly always it is
        authorize(caller, scope)
    return caller


def _check_address(caller: Caller, networks: tuple[str, ...], address: str | None) -> None:
    if address is None or not allows(networks, address):
        raise Forbidden(
            f"The API key '{caller.name}' may not be used from {address or 'an unknown address'}, only from: "
            f"{', '.join(networks) or 'nowhere'}.",
            code="address_not_allowed",
        )
