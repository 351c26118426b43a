"""How well a document answers a query: the share of the query's words that stand in it."""

import re

_WORDS = re.compile(r"\w+")


def score(query: str, document: str) -> float:
    """Between 0 and 1; of two documents with the same words the shorter one is a little better."""
    wanted, held = _words(query), _words(document)
    share = len(wanted & held) / len(wanted) if wanted else 0.0
    return round(0.98 * share + 0.02 / (1 + len(held)), 6)


def _words(text: str) -> set[str]:
    return set(_WORDS.findall(text.casefold()))
