"""`python -m xrouter.supervisor.worker`: the program that the supervisor starts several times."""

import sys
from collections.abc import Awaitable

import uvloop

from xrouter.app import App, open_app
from xrouter.configuration.effective import load
from xrouter.core.ports import Topics
from xrouter.settings import ConfigError, load_settings
from xrouter.supervisor.serve_as_worker import Arguments, serve_as_worker
from xrouter.telemetry.logs import configure
from xrouter.telemetry.redaction import secrets_in


def main() -> int:
    """Settings come through the environment, the configuration from its file; the exit code, 2 for a
    configuration that cannot be used."""
    try:
        return _run()
    except ConfigError as error:
        sys.stderr.write(f"xrouter: {error}\n")
        return 2


def _run() -> int:
    settings = load_settings()
    effective = load(settings, vendors=True)
    logs = configure(settings.log_level, sys.stderr, secrets=(*secrets_in(settings), *secrets_in(effective.config)))
    arguments = Arguments.read(sys.argv[1:])

    def opened(siblings: Topics) -> Awaitable[App]:
        return open_app(settings, effective.config, logs, owner=False, reload_from=effective, siblings=siblings)

    return uvloop.run(serve_as_worker(settings, opened, arguments))


if __name__ == "__main__":
    sys.exit(main())
