"""One process around the fake application. Prints its URL."""

import sys

import uvloop
from fake_app import FakeApp, say

from xrouter.settings import load_settings
from xrouter.supervisor.serve_one import serve_one
from xrouter.telemetry.logs import configure


async def main() -> int:
    settings = load_settings()

    async def open_app() -> FakeApp:
        return FakeApp(settings.data_dir)

    return await serve_one(settings, open_app, say)


configure("info", sys.stderr)
sys.exit(uvloop.run(main()))
