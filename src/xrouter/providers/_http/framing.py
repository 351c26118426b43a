"""How a stream of bytes is cut into events: what every parser of one offers."""

from typing import ClassVar, NamedTuple, Protocol


class ServerEvent(NamedTuple):
    """One event: its name (empty where the framing has none) and its payload."""

    name: bytes
    data: bytes


class LineTooLong(Exception):
    """One event holds more bytes than the limit."""


class Framing(Protocol):
    """Feed it chunks in any cut, get events. Holds at most one event, and of that at most `limit` bytes.

    `FOREIGN_TYPES` are the content types that are never such a stream.
    """

    FOREIGN_TYPES: ClassVar[frozenset[str]]

    def __init__(self, limit: int) -> None: ...

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are complete now. Raises `LineTooLong`."""
        ...

    def end(self) -> list[ServerEvent]:
        """The connection ended: the last event, where what ends it is missing."""
        ...
