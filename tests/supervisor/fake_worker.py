"""One of several workers around the fake application."""

import os
import sys
from pathlib import Path

import uvloop
from fake_app import FakeApp

from xrouter.settings import load_settings
from xrouter.supervisor.work import work
from xrouter.telemetry.logs import configure

settings = load_settings()
configure("info", sys.stderr)
if (settings.data_dir / "workers-are-broken").exists():
    sys.exit(7)
Path(settings.data_dir / f"settings-{os.getpid()}").write_text(settings.model_dump_json())


async def open_app() -> FakeApp:
    return FakeApp(settings.data_dir)


sys.exit(uvloop.run(work(settings, open_app, sys.argv[1:])))
