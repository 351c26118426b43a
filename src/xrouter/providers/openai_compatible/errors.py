"""Error bodies of servers that speak OpenAI's format: in a list, or with codes of the server's own."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from .rows import Meaning, fits


def unlisted(body: Any) -> Any:
    """The error of a body that is a list with one error (Gemini: `[{"error": {...}}]`); anything else as it is."""
    if isinstance(body, list) and len(body) == 1 and isinstance(body[0], dict) and "error" in body[0]:
        return body[0]
    return body


class ErrorCodes:
    """A server's own codes, and what they mean. The methods are those that an `Exchange` asks; `usual` knows the
    errors of everybody else."""

    def __init__(self, errors: Mapping[str, Meaning], usual: Callable[[Any], Any]) -> None:
        self._errors = errors
        self._usual = usual

    def error_of(self, body: Any) -> Any:
        """The error in a body, with the status and the code that its own code stands for."""
        found = unlisted(body)
        meaning = self._meaning(found)
        if meaning is None:
            return self._usual(found)
        said = _inside(found)
        message = said.get("message") or said.get("detail") or said.get("code")
        return {"message": message, "param": said.get("param"), "code": meaning.code, "status": meaning.status}

    def status_of(self, body: Any) -> int | None:
        """The status that the code in a body stands for."""
        meaning = self._meaning(unlisted(body))
        return None if meaning is None else meaning.status

    def _meaning(self, found: Any) -> Meaning | None:
        if not self._errors or not isinstance(found, dict) or "choices" in found:
            return None
        said = _inside(found)
        for word in (said.get("code"), said.get("type")):
            if isinstance(word, str):
                begun = (found for name, found in self._errors.items() if fnmatchcase(word, name))
                meaning = self._errors.get(word) or next(begun, None)
                if meaning is not None:
                    return meaning if _is_said(said, meaning) else None
        return None


def _is_said(said: dict[str, Any], meaning: Meaning) -> bool:
    message = str(said.get("message") or said.get("detail") or "")
    return not meaning.says or fits(message, meaning.says)


def _inside(error: dict[str, Any]) -> dict[str, Any]:
    inner = error.get("error")
    return {**error, **inner} if isinstance(inner, dict) else error
