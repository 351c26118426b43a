"""Every parameter at every vendor: what the adapters do is what was decided, and what the page says."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.providers import parameters

from xrouter.providers import kinds

HERE = Path(__file__).parent
TABLE: dict[str, Any] = tomllib.loads((HERE / "parameters.toml").read_text(encoding="utf-8"))
ACCOUNTS = parameters.accounts(kinds())
COLUMN = {name: column for column, alike in TABLE["columns"].items() for name in alike if name in ACCOUNTS}


# Values that a vendor may lack the word for, of parameters that it has.
VALUES = {
    "`tools` (custom)",
    "`tools` (hosted)",
    "`tool_choice` required",
    "`tool_choice` required, one tool",
    "`tool_choice` named",
}


def expected(column: str) -> dict[str, str]:
    own = dict(TABLE["expected"][column])
    like = own.pop("like", None)
    return own if like is None else expected(like) | own


def test_the_table_is_whole() -> None:
    assert {"gigachat", "gigachat {contract: v2}", "yandexgpt {surface: native}", "vllm", "tbank"} <= set(COLUMN)
    assert set(TABLE["columns"]) == set(TABLE["expected"])
    for column in TABLE["columns"]:
        assert list(expected(column)) == list(parameters.CASES)


@pytest.mark.parametrize("name", COLUMN)
def test_an_adapter_does_with_each_parameter_what_was_decided(name: str) -> None:
    assert parameters.outcomes(ACCOUNTS[name]) == expected(COLUMN[name])


@pytest.mark.parametrize("name", [name for name in ACCOUNTS if name != "lark"])  # the guide's example tells nothing
def test_a_deployment_names_the_parameters_that_its_adapter_follows(name: str) -> None:
    followed = parameters.deployment(ACCOUNTS[name]).parameters
    wrong = []
    for case, outcome in parameters.outcomes(ACCOUNTS[name]).items():
        said = parameters.CASES[case].sent
        named = set(said) - {"messages", "modalities", "audio", "functions", "function_call"}
        if case not in VALUES and named and (outcome not in ("dropped", "refused")) is not (named <= followed):
            wrong.append(case)
    assert wrong == []


def test_an_outcome_more_would_be_noticed() -> None:
    """The driver itself: it tells apart what it is there to tell apart."""
    found = parameters.outcomes(ACCOUNTS["gigachat"])
    assert {found[name].split(" ")[0] for name in found} == {"=", "→", "dropped", "refused", "gateway"}
    assert parameters.outcomes(ACCOUNTS["yandexgpt"])["`temperature` 2"] == "clamped"
