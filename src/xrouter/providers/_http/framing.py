"""How a stream of bytes is cut into events: what every parser of one offers."""

from typing import ClassVar, Protocol


class LineTooLong(Exception):
    """One event holds more bytes than the limit."""


class Framing(Protocol):
    """Feed it chunks in any cut, get the payloads of events. Holds at most one event, and of that at most `limit`
    bytes.

    `FOREIGN_TYPES` are the content types that are never such a stream.
    """

    FOREIGN_TYPES: ClassVar[frozenset[str]]

    def __init__(self, limit: int) -> None: ...

    def feed(self, chunk: bytes) -> list[bytes]:
        """Of the events that are complete now. Raises `LineTooLong`."""
        ...

    def end(self) -> list[bytes]:
        """The connection ended: of the last event, where what ends it is missing."""
        ...
