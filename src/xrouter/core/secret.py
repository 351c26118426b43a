"""A string that cannot be printed by accident."""

from typing import Final, NoReturn

_MASK: Final = "***"


class Secret:
    """Holds a credential. `reveal()` is the only way to its text.

    `str`, `repr`, `format`, f-strings and `%s` give `***`; copying into JSON or pickling raises.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Call it where the bytes leave for their owner, and nowhere else."""
        return self._text

    def __str__(self) -> str:
        return _MASK

    def __repr__(self) -> str:
        return _MASK

    def __format__(self, spec: str) -> str:
        return _MASK

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: reveal() it where it is used")
