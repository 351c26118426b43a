"""A supervisor over fake workers. Prints its URL; notes when its books are opened and closed."""

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from fake_app import say

from xrouter.settings import load_settings
from xrouter.supervisor.serve_many import serve_many
from xrouter.telemetry.logs import configure


@asynccontextmanager
async def keep_books(settings, metrics):
    note = settings.data_dir / "books"
    note.write_text("open")
    yield
    left = [pid for pid in settings.data_dir.glob("life-*") if _lives(int(pid.name.removeprefix("life-")))]
    note.write_text(f"closed, {len(left)} workers alive")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


settings = load_settings()
configure("info", sys.stderr)
sys.exit(
    uvloop.run(
        serve_many(
            settings,
            keep_books,
            say,
            command=[sys.executable, str(Path(__file__).with_name("fake_worker.py"))],
            hang_s=1.5 if (settings.data_dir / "short-patience").exists() else 30.0,
            margin_s=3.0,
        )
    )
)
