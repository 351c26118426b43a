"""Globs over model ids: `*` stands for any run of characters, `/` included; everything else for itself."""

from collections.abc import Iterable

_ANY = "*"
_NOBODYS = "\ufffe"
"""A character that no model id has: Unicode keeps it out of text for ever."""


def matches(glob: str, text: str) -> bool:
    """Does `glob` stand for `text`? Linear in both, whatever the stars."""
    head, *middle = glob.split(_ANY)
    if not middle:
        return glob == text
    tail = middle.pop()
    at, end = len(head), len(text) - len(tail)
    if at > end or not text.startswith(head) or not text.endswith(tail):
        return False
    for piece in middle:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def match_any(globs: Iterable[str], text: str) -> bool:
    return any(matches(glob, text) for glob in globs)


def contains(wide: str, narrow: str) -> bool:
    """Does `wide` stand for every text that `narrow` stands for?

    Exactly so when it stands for `narrow` itself with each star read as a letter that `wide` does not have: only a star
    of `wide` can take that letter, and then takes whatever else stood there.
    """
    return matches(wide, narrow.replace(_ANY, _NOBODYS))


def contains_all(wide: Iterable[str], narrow: Iterable[str]) -> bool:
    """Is each of `narrow` within one of `wide`? A union that only several of `wide` cover together is refused."""
    wide = tuple(wide)
    return all(any(contains(one, glob) for one in wide) for glob in narrow)
