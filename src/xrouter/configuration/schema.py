"""The JSON Schema of `xrouter.yaml`, for editors and for whoever writes the file by a program."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from xrouter.settings import FILE_ENDING, UNPRICED, Config, CredentialSettings, ProviderSettings, secret_fields

_PRICE = {"$ref": "#/$defs/PriceSettings"}


def text() -> str:
    """The document, ready to be written into a file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def document() -> dict[str, Any]:
    """The schema of the file as an operator writes it: with bare model names, single prices and files of secrets,
    which our own models turn into one form while they read."""
    schema = Config.model_json_schema()
    parts = schema["$defs"]
    provider = parts["ProviderSettings"]["properties"]
    provider["models"]["items"] = {"anyOf": [{"type": "string", "minLength": 1}, provider["models"]["items"]]}
    price = parts["ModelSettings"]["properties"]["price"]
    price["anyOf"] = [
        {"const": UNPRICED},
        _PRICE,
        {"type": "array", "minItems": 1, "items": _PRICE},
        {"type": "null"},
    ]
    _add_files(parts["ProviderSettings"], ProviderSettings)
    _add_files(parts["CredentialSettings"], CredentialSettings)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "xrouter.yaml"}


def _add_files(schema: dict[str, Any], model: type[BaseModel]) -> None:
    for name in secret_fields(model):
        words = f"A file that holds {name}, read again when it changes."
        schema["properties"][name + FILE_ENDING] = {"type": "string", "format": "path", "description": words}
