"""What is wrong with the configuration, in words for whoever wrote it."""

from collections.abc import Mapping
from typing import Any


class ConfigError(Exception):
    """The configuration cannot be used. The message names the file, the place and the mend."""


_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "path_type": "must be a path",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "decimal_max_places": "must have {decimal_places} decimal places at most",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "too_short": "needs {min_length} or more",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "date_type": "must be a date, such as 2026-01-31",
    "date_parsing": "must be a date, such as 2026-01-31",
    "date_from_datetime_parsing": "must be a date, such as 2026-01-31",
}
"""pydantic's word for a mistake -> ours; what is not here has words of ours already."""


def in_words(item: Mapping[str, Any]) -> str:
    """One of pydantic's errors in words for whoever wrote the file."""
    words = _WORDS.get(item["type"])
    if words is not None:
        return words.format(**item.get("ctx", {}))
    message: str = item["msg"]
    return message.removeprefix("Value error, ")
