"""When is anybody known at all? That is what readiness asks."""

from xrouter.core.call import Scope
from xrouter.core.clock import ManualClock
from xrouter.core.secret import Secret
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.keys import SqlKeys


async def test_keys_are_current_from_the_first_poll_until_10_minutes_after_the_last(
    database: Database, clock: ManualClock
) -> None:
    keys = SqlKeys(database, Secret("pepper" * 8), clock, 1.0)
    assert not keys.current
    await keys.refresh()
    assert keys.current
    made = await keys.create(name="app", scopes=frozenset({Scope.MODELS}), created_by="me")
    text = made.text.reveal()
    assert await keys.look_up(text) is not None
    clock.advance(599)
    assert keys.current
    assert keys.known(text) is not None
    clock.advance(2)
    assert not keys.current
    assert keys.known(text) is None
    await keys.refresh()
    assert keys.current
    assert keys.known(text) is not None
