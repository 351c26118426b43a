"""How often Python looks for garbage that reference counts do not find."""

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 10)
"""Objects more than at the last look, young looks per middle one, middle ones per full one. Python's own 700 is
passed by a few dozen calls in flight, none of whose objects is garbage: a tenth of all work, and pauses of many
calls at once."""


def settle() -> None:
    """Call once everything is imported and opened: what lives now lives as long as the process (modules, tables,
    routes: 300,000 objects) and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
