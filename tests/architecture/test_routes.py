"""Every route is on docs/api.md, and nothing else is."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi.routing import APIRoute

from xrouter.admin import health, routes
from xrouter.core.clock import SystemClock
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.limits import Limits
from xrouter.dialects.openrouter.endpoints import SUFFIX
from xrouter.dialects.openrouter.models import PATH

API = Path(__file__).resolve().parents[2] / "docs" / "api.md"
ANY: Any = SimpleNamespace()
LIMITS = Limits(max_body_bytes=1, status_wait_s=1, ping_s=1, max_in_flight=1, trusted_proxies=0)


def data_plane() -> Iterator[str]:
    gateway: Any = SimpleNamespace(catalog=SimpleNamespace(served={}), clock=SystemClock())
    plane = DataPlane(gateway, LIMITS)
    for path, methods in plane._exact.items():
        yield from (f"{method} {path}" for method in methods)
    for prefix, methods in plane._below.items():
        yield from (f"{method} {prefix}{{}}" for method in methods)
    yield from (f"{method} {PATH}/{{}}{SUFFIX}" for method in plane._endpoints)


def control_plane() -> Iterator[str]:
    app = routes.build(
        keys=ANY,
        accounts=ANY,
        plans=ANY,
        attempts=ANY,
        writes=ANY,
        explain=ANY,
        standing=ANY,
        deployments=ANY,
        authenticate=ANY,
        clock=SystemClock(),
        pressure=ANY,
    )
    for route in app.routes:
        if isinstance(route, APIRoute):
            path = re.sub(r"\{\w+(:\w+)?\}", "{}", route.path)
            yield from (f"{method} {path}" for method in route.methods)


def test_the_page_lists_the_routes_and_no_others() -> None:
    page = API.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z]+ /[^`?]*)[^`]*` \|", page, re.MULTILINE)
    served = [*data_plane(), *control_plane(), *(f"GET {path}" for path in health.PATHS)]
    assert sorted(re.sub(r"\{\w+\}", "{}", route) for route in listed) == sorted(served)
