"""What Python keeps an eye on beside the work: garbage in cycles, and generators that nobody closed."""

import gc
import sys
from typing import Final

THRESHOLDS: Final = (100_000, 20, 10)
"""Objects more than at the last look, young looks per middle one, middle ones per full one. A request that succeeds
leaves no ring behind (`Exchange.release`, `Answer.release`; a test counts), so there is next to nothing to look for;
Python looks all the same, because its count rises by some hundred a request: free lists count on one side only."""


def settle() -> None:
    """Call inside the event loop, once everything is imported and opened: what lives now lives as long as the
    process (modules, tables, routes) and is not looked through again.

    The loop's list of every asynchronous generator is for closing them when it ends; each of ours is closed by
    whoever iterates it, and the loop's other hook, which closes the forgotten ones, stays.
    """
    sys.set_asyncgen_hooks(firstiter=None)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
