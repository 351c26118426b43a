"""The published JSON Schema is that of the code, and describes the file as people write it."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from xrouter.cli.commands import app
from xrouter.configuration import schema
from xrouter.settings import Config, ModelSettings, PriceSettings, ProviderSettings, TimeoutSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "xrouter.schema.json"


def test_the_published_schema_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == schema.text(), "run `make docs`"


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(app, ["config", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema.document()


def test_every_key_is_in_it_and_no_other_passes() -> None:
    document: dict[str, Any] = schema.document()
    parts = document["$defs"]
    for model in (ProviderSettings, ModelSettings, PriceSettings, TimeoutSettings):
        part = parts[model.__name__]
        assert set(model.model_fields) <= set(part["properties"]), model
        assert part["additionalProperties"] is False
    assert set(document["properties"]) == set(Config.model_fields)
    assert document["additionalProperties"] is False


def test_short_forms_and_files_of_secrets_are_in_it() -> None:
    parts = schema.document()["$defs"]
    assert parts["ProviderSettings"]["properties"]["models"]["items"]["anyOf"][0]["type"] == "string"
    assert parts["ProviderSettings"]["properties"]["api_key_file"]["type"] == "string"
    assert {"const": "unpriced"} in parts["ModelSettings"]["properties"]["price"]["anyOf"]
