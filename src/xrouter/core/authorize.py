"""May this caller do that? The one place that says no."""

from xrouter.core.call import Caller, Scope
from xrouter.core.errors import Forbidden


def authorize(caller: Caller, scope: Scope) -> None:
    """Raises `Forbidden` when the caller's key does not hold `scope` (`admin` holds every scope)."""
    if not caller.may(scope):
        raise Forbidden(f"The API key '{caller.name}' lacks the scope '{scope}'.")
