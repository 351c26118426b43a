"""The versions whose internals we have read (docs/decisions/0013-leaning-on-internals.md)."""

from importlib.metadata import version

import pytest


@pytest.mark.parametrize(("library", "read"), [("uvicorn", "0.54.")])
def test_the_internals_we_lean_on_are_those_that_were_read(library: str, read: str) -> None:
    assert version(library).startswith(read), (
        f"{library} {version(library)} is not {read}*: read what changed in the internals that decision 0013 names, "
        "run tests/edge and tests/supervisor, then raise the number here"
    )
