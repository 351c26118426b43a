"""What a call is for, in the client's own words: `x-xrouter-tags: checkout, team-a`. Limits may hold for each tag."""

import re
from typing import Final

from xrouter.core.errors import Invalid
from xrouter.dialects.exchange import Exchange

HEADER: Final = b"x-xrouter-tags"
MOST: Final = 10
LONGEST: Final = 64

_TAG: Final = re.compile(rb"[!-+\--~]{1,%d}" % LONGEST)  # visible ASCII but the comma


def named(exchange: Exchange) -> tuple[str, ...]:
    """The tags in their order, each once; none where the client gives none. Raises `Invalid`."""
    if HEADER not in exchange.headers:
        return ()
    lines = [value for name, value in exchange.scope["headers"] if name == HEADER]  # one header may come in several
    found = dict.fromkeys(tag for line in lines for one in line.split(b",") if (tag := one.strip(b" \t")))
    for tag in found:
        if not _TAG.fullmatch(tag):
            raise _refused(f"has '{tag[:LONGEST].decode('ascii', 'replace')}', which is no tag")
    if len(found) > MOST:
        raise _refused(f"has {len(found)} tags")
    return tuple(tag.decode() for tag in found)


def _refused(what: str) -> Invalid:
    return Invalid(
        f"The header 'x-xrouter-tags' {what}. It takes at most {MOST} tags with commas between them, each of 1 to "
        f"{LONGEST} visible ASCII characters.",
        param="x-xrouter-tags",
    )
