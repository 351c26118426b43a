"""What is served, for admins of the installation."""

import pytest
from tests.admin.books import STANDING, Plane

from xrouter.admin.times import written

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_is_served_and_what_is_wrong_with_the_newest_file(plane: Plane) -> None:
    status, found, _ = await plane.ask("GET", "/admin/config")
    assert status == 200
    assert (found["revision"], found["since"]) == (STANDING.revision, written(STANDING.since))
    assert (found["problems"], found["problems_since"]) == (["x.yaml:3: a: is wrong"], written(STANDING.since + 60))
    assert found["serving"] == STANDING.picture


async def test_an_organisation_does_not_see_the_installation(plane: Plane) -> None:
    _, made, _ = await plane.ask("POST", "/admin/organisations", data=b'{"name": "tenant"}')
    body = b'{"name": "admin", "scopes": ["admin"], "organisation_id": "%b"}' % made["id"].encode()
    _, key, _ = await plane.ask("POST", "/admin/keys", data=body)
    status, found, _ = await plane.ask("GET", "/admin/config", key=key["key"])
    assert status == 403
    assert STANDING.revision not in str(found)
