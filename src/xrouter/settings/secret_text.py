"""Secrets in the configuration: text that cannot be printed, given in place or in a file of its own."""

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from xrouter.core.secret import Secret


class SecretText(Secret):
    """`Secret` as pydantic reads it from text; it serialises as `***`."""

    __slots__ = ()

    @classmethod
    def _read(cls, value: object) -> "SecretText":
        if isinstance(value, SecretText):
            return value
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueError only
        return cls(value.strip())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string"}


FILE_ENDING = "_file"
"""`api_key_file` names the file that holds `api_key`."""

_MOST_SECRET_BYTES = 64 * 1024


def secret_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields that hold a secret: each of them may stand in a file of its own."""
    return tuple(
        name
        for name, known in model.model_fields.items()
        if SecretText in (known.annotation, *get_args(known.annotation))
    )


def read_secret_file(path: Path) -> str:
    """The secret in a file, without the line end that editors add. Raises ValueError in words."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_SECRET_BYTES + 1).decode().strip()
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"the file {path} is empty")
    if len(text) > _MOST_SECRET_BYTES:
        raise ValueError(f"the file {path} is too large for a secret")
    return text
