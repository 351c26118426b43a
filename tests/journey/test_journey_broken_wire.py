"""The part of `campaigns/faults.py` that is below HTTP, streamed and with a healthy fallback."""

from pathlib import Path

from campaigns import faults


def test_whatever_breaks_below_http_the_fallback_answers(tmp_path: Path) -> None:
    wanted = [cell for cell in faults.cells() if cell.vendor == faults.WIRE and cell.stream and cell.fallback]
    assert len(wanted) > 20
    results = faults.run(tmp_path, wanted)
    assert [f"{cell}: {wrong}" for cell, _, wrong in results if wrong] == []
