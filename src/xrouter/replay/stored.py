"""Explains decisions that are in the books, by the configuration of their time."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from xrouter.core.decision import Decision, Explanation, unpack
from xrouter.core.errors import NotFound
from xrouter.gateway.catalog import Catalog
from xrouter.replay import catalogue, repeat
from xrouter.settings import ConfigError

_MOST: Final = 8
"""So many catalogues of other revisions are kept; one takes some milliseconds to make."""


class Explainer:
    """`serving` gives the catalogue in force, `picture` a configuration that was served, as JSON by its revision."""

    def __init__(self, serving: Callable[[], Catalog], picture: Callable[[str], Awaitable[str | None]]) -> None:
        self._serving = serving
        self._picture = picture
        self._known: dict[str, Catalog] = {}

    async def __call__(self, packed: bytes) -> Explanation:
        """Raises `NotFound` for a decision of a configuration that nobody kept, or that this release cannot read."""
        try:
            decision = unpack(packed)
        except ValueError:
            raise NotFound("The decision of this call was written by another release.", code="no_route") from None
        return repeat.explanation(decision, await self._catalog(decision))

    async def _catalog(self, decision: Decision) -> Catalog:
        serving, revision = self._serving(), decision.revision
        if serving.revision == revision:
            return serving
        known = self._known.get(revision)
        if known is not None:
            return known
        text = await self._picture(revision)
        if text is None:
            raise NotFound(f"The configuration {revision}, by which this was decided, is not kept.", code="no_route")
        try:
            found = catalogue.of_picture(msgspec.json.decode(text))
        except ConfigError as error:
            raise NotFound(f"The configuration {revision}: {error}", code="no_route") from None
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[revision] = found
        return found
