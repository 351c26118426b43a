"""`python -m xrouter.supervisor.worker`: the program that the supervisor starts several times."""

import sys

import uvloop

from xrouter.app import open_app
from xrouter.settings import ConfigError, load_config, load_settings
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
    if settings.config is None:
        raise ConfigError("a worker reads its configuration from XROUTER_CONFIG")
    config = load_config(settings.config)
    logs = configure(settings.log_level, sys.stderr, secrets=(*secrets_in(settings), *secrets_in(config)))
    arguments = Arguments.read(sys.argv[1:])
    return uvloop.run(serve_as_worker(settings, lambda: open_app(settings, config, logs, owner=False), arguments))


if __name__ == "__main__":
    sys.exit(main())
