"""`xrouter serve` whose every key has the limits in the variable LIMITS: a JSON list of [unit, amount, window_s] or
[unit, amount, window_s, true] for an exact one, of the team."""

import json
import os
import sys
from dataclasses import replace

import uvloop

from xrouter import app
from xrouter.configuration.effective import load
from xrouter.core.call import Caller
from xrouter.core.limits import Level, Limit, Unit
from xrouter.settings import load_settings
from xrouter.stores import books
from xrouter.stores.sql.keys import SqlKeys
from xrouter.supervisor import worker
from xrouter.supervisor.books import keep_books
from xrouter.supervisor.serve_many import serve_many
from xrouter.supervisor.serve_one import serve_one
from xrouter.telemetry.logs import configure

LIMITS = tuple(
    Limit(Level.TEAM if exact else Level.KEY, "k1", "API key 'ci'", Unit(unit), amount, window_s, exact=bool(exact))
    for unit, amount, window_s, *exact in json.loads(os.environ["LIMITS"])  # noqa: TID251 - of this program
)


class LimitedKeys(SqlKeys):
    def known(self, credential: str) -> Caller | None:
        return _limited(super().known(credential))

    async def look_up(self, credential: str) -> Caller | None:
        return _limited(await super().look_up(credential))


def _limited(caller: Caller | None) -> Caller | None:
    return None if caller is None else replace(caller, limits=LIMITS)


def main() -> int:
    books.SqlKeys = LimitedKeys  # type: ignore[misc]
    if sys.argv[1:2] == ["worker"]:
        del sys.argv[1]
        return worker.main()
    settings = load_settings()
    effective = load(settings, vendors=True)
    logs = configure(settings.log_level, sys.stderr, secrets=())
    if settings.workers > 1:
        command = (sys.executable, __file__, "worker")
        return uvloop.run(serve_many(settings, keep_books, lambda url: None, command=command))
    opened = lambda: app.open_app(settings, effective.config, logs, owner=True)  # noqa: E731
    return uvloop.run(serve_one(settings, opened, lambda url: None))


if __name__ == "__main__":
    sys.exit(main())
