"""A fault that simulators know and the campaign never asks for is a promise nobody checks."""

import re

import pytest
from campaigns import broken_wire
from campaigns.faults import WIRE, cells

from xrouter.simulators import faults

KNOWN = sorted(faults.PLAIN | faults.NUMBERED)


def test_the_campaign_asks_for_every_fault_and_for_nothing_else() -> None:
    simulated = [cell.fault for cell in cells() if cell.vendor != WIRE]
    assert {fault.name for one in simulated if (fault := faults.parse(one))} == set(KNOWN)
    assert [one for one in simulated if faults.parse(one) is None] == []
    assert {cell.fault for cell in cells() if cell.vendor == WIRE} == set(broken_wire.NAMES)


def test_there_are_as_many_faults_as_were_promised_streamed_and_whole_with_a_fallback() -> None:
    for stream in (True, False):
        told = {(cell.vendor, cell.fault) for cell in cells() if cell.stream is stream and cell.fallback}
        assert len({fault for _, fault in told}) >= 32


@pytest.mark.parametrize("name", KNOWN)
def test_every_fault_is_explained(name: str) -> None:
    number = "" if name in faults.PLAIN else "-NNN" if name == "status" else "-K"
    assert re.search(rf"^    {name}{number} +\S", faults.__doc__ or "", re.MULTILINE)


def test_nothing_is_explained_that_does_not_exist() -> None:
    told = re.findall(r"^    ([a-z0-9-]+?)(?:-NNN|-K)? +\S", faults.__doc__ or "", re.MULTILINE)
    assert sorted(told) == KNOWN
