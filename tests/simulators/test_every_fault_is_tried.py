"""A fault that simulators know and the campaign never asks for is a promise nobody checks."""

import re

import pytest
from campaigns.faults import cells

from xrouter.simulators import faults

KNOWN = sorted(faults.PLAIN | faults.NUMBERED)


def test_the_campaign_asks_for_every_fault_and_for_nothing_else() -> None:
    asked = {fault.name for cell in cells() if (fault := faults.parse(cell.fault))}
    assert asked == set(KNOWN)
    assert [cell for cell in cells() if faults.parse(cell.fault) is None] == []


@pytest.mark.parametrize("name", KNOWN)
def test_every_fault_is_explained(name: str) -> None:
    number = "" if name in faults.PLAIN else "-NNN" if name == "status" else "-K"
    assert re.search(rf"^    {name}{number} +\S", faults.__doc__ or "", re.MULTILINE)


def test_nothing_is_explained_that_does_not_exist() -> None:
    told = re.findall(r"^    ([a-z0-9-]+?)(?:-NNN|-K)? +\S", faults.__doc__ or "", re.MULTILINE)
    assert sorted(told) == KNOWN
