"""What every mapping in the operator's file is: its keys are known, and its secrets may stand in files."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from xrouter.settings.secret_text import FILE_ENDING, read_secret_file, secret_fields


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: Any) -> Any:
        """`api_key_file: PATH` becomes `api_key` with what stands in the file."""
        if not isinstance(data, dict):
            return data
        found = dict(data)
        for name in secret_fields(cls):
            path = found.pop(name + FILE_ENDING, None)
            if path is None:
                continue
            if name in found:
                raise ValueError(f"{name} and {name}{FILE_ENDING} are given; keep one of them")
            if not isinstance(path, str | Path):
                raise ValueError(f"{name}{FILE_ENDING} must be a path")  # noqa: TRY004 - pydantic collects ValueError
            try:
                found[name] = read_secret_file(Path(path))
            except ValueError as error:
                raise ValueError(f"{name}{FILE_ENDING}: {error}") from None
        return found
