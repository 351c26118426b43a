"""Closing a stream whichever way its reader leaves: `async with closing(events := f()):`.

`contextlib.aclosing` for streams that every call opens several of: that one runs two coroutines around each.
"""

from collections.abc import AsyncGenerator, Awaitable, Generator
from types import TracebackType
from typing import Any, Final, cast


class Nothing:
    """An awaitable that never waits."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _ENDED


_ENDED: Final = cast(Generator[Any, Any, None], iter(()))  # all that is asked of it is to be at its end
NOTHING: Final = Nothing()


class Unbound:
    """A context that binds nothing: for what needs no slot."""

    __slots__ = ()

    def __aenter__(self) -> Nothing:
        return NOTHING

    def __aexit__(self, *_: object) -> Nothing:
        return NOTHING


UNBOUND: Final = Unbound()


class closing:  # noqa: N801 - as the one that it stands for
    """Closes `stream` at the end of an `async with`, which gives nothing by itself."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncGenerator[Any, None]) -> None:
        self._stream = stream

    def __aenter__(self) -> Nothing:
        return NOTHING

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        return self._stream.aclose()
