"""One control plane for each test module; its stores are emptied before each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.admin.books import Plane, control_plane


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_plane() -> AsyncIterator[Plane]:
    async with control_plane() as plane:
        yield plane


@pytest.fixture
def plane(running_plane: Plane) -> Plane:
    running_plane.keys.records.clear()
    running_plane.attempts.records.clear()
    return running_plane
