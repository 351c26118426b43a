"""One control plane for each test module; its stores are emptied before each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.admin.books import Plane, control_plane


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    path: Path = tmp_path_factory.mktemp("admin") / "xrouter.db"
    async with control_plane(f"sqlite:///{path}") as plane:
        yield plane


@pytest_asyncio.fixture(loop_scope="module")
async def plane(running_plane: Plane) -> Plane:
    await running_plane.stores.reset()
    return running_plane
