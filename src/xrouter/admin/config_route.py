"""`GET /admin/config`: what this gateway serves by, and what keeps it from the newest file."""

import os
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel

from xrouter.admin.desk import Desk, place_of
from xrouter.admin.schemas import Timestamp, answer
from xrouter.admin.times import written
from xrouter.configuration.standing import Standing
from xrouter.core.call import Caller
from xrouter.core.errors import Forbidden


class ConfigStanding(BaseModel):
    """`revision` names what is served, secrets apart; `problems` are what is wrong with the newest file, each with its
    line: while there are any, the old one stays in use. `serving` is all of it, without secrets. With several workers
    the one that answers speaks for itself: `pid`."""

    object: Literal["config"] = "config"
    revision: str
    since: Timestamp
    problems: list[str]
    problems_since: Timestamp | None
    pid: int
    serving: dict[str, Any]


def add_config(app: FastAPI, desk: Desk, standing: Callable[[], Standing]) -> None:
    """Put the route up."""

    @app.get("/admin/config", response_model=ConfigStanding, operation_id="get_config")
    async def get_config(caller: Annotated[Caller, desk.admin]) -> Response:
        """What is served and since when, and whether the newest file is no good. For admins of the installation."""
        if not place_of(caller).is_anywhere:
            raise Forbidden("The configuration belongs to the installation: admins of an organisation do not see it.")
        now = standing()
        since = now.problems_since
        return answer(
            ConfigStanding(
                revision=now.revision,
                since=written(now.since),
                problems=[*now.problems],
                problems_since=None if since is None else written(since),
                pid=os.getpid(),
                serving=now.picture,
            )
        )
