"""Every parameter at every vendor: what the adapters do is what was decided, and what the page says."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.providers import parameters

from xrouter.providers import kinds

HERE = Path(__file__).parent
TABLE: dict[str, Any] = tomllib.loads((HERE / "parameters.toml").read_text(encoding="utf-8"))
COLUMN = {kind: column for column, alike in TABLE["columns"].items() for kind in alike if kind in kinds()}


def test_the_table_is_whole() -> None:
    assert {"gigachat", "vllm", "tbank"} <= set(COLUMN)
    for column in TABLE["columns"]:
        assert list(TABLE["expected"][column]) == list(parameters.CASES)
    assert set(TABLE["open"]) <= {kind for alike in TABLE["columns"].values() for kind in alike}


@pytest.mark.parametrize("kind", COLUMN)
def test_an_adapter_does_with_each_parameter_what_was_decided(kind: str) -> None:
    expected = TABLE["expected"][COLUMN[kind]]
    deviates = {
        name: found for name, found in parameters.outcomes(kind).items() if found not in expected[name].split(" | ")
    }
    assert deviates == TABLE["open"].get(kind, {})


def test_an_outcome_more_would_be_noticed() -> None:
    """The driver itself: it tells apart what it is there to tell apart."""
    found = parameters.outcomes("gigachat")
    assert {found[name].split(" ")[0] for name in found} == {"=", "→", "dropped", "refused", "gateway"}
