"""One of several workers around the fake application."""

import os
import sys
from pathlib import Path

import uvloop
from fake_app import FakeApp

from xrouter.core.ports import Topics
from xrouter.settings import load_settings
from xrouter.supervisor.serve_as_worker import Arguments, serve_as_worker
from xrouter.telemetry.logs import configure

settings = load_settings()
configure("info", sys.stderr)
if (settings.data_dir / "workers-are-broken").exists():
    sys.exit(7)
Path(settings.data_dir / f"settings-{os.getpid()}").write_text(settings.model_dump_json())


async def open_app(siblings: Topics) -> FakeApp:
    return FakeApp(settings.data_dir)


sys.exit(uvloop.run(serve_as_worker(settings, open_app, Arguments.read(sys.argv[1:]))))
