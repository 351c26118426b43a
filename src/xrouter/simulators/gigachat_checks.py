"""GigaChat's small services: functions out of OpenAPI, was it a machine, is it profane."""

from typing import Any, Final

import yaml

from xrouter.simulators import speech
from xrouter.simulators.desk import Refusal
from xrouter.simulators.gigachat_request import invalid

_METHODS: Final = ("get", "post", "put", "patch", "delete")


def convert(text: str) -> dict[str, Any]:
    """POST /functions/convert: an OpenAPI document (JSON or YAML) -> a function for each of its operations."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        raise Refusal(400, "Invalid OpenAPI document") from None
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict):
        raise invalid("the document has no paths")
    return {
        "functions": [
            _function(path, method, operation)
            for path, operations in paths.items()
            for method, operation in (operations or {}).items()
            if method in _METHODS and isinstance(operation, dict)
        ]
    }


def _function(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    name = operation.get("operationId") or f"{method}{path}".translate(str.maketrans("/-{}", "____")).strip("_")
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in operation.get("parameters") or ():
        schema = {"type": "string", **(parameter.get("schema") or {})}
        properties[parameter["name"]] = {**schema, "description": parameter.get("description", "")}
        required += [parameter["name"]] if parameter.get("required") else []
    content = ((operation.get("requestBody") or {}).get("content") or {}).get("application/json") or {}
    body = content.get("schema") or {}
    properties |= body.get("properties") or {}
    required += body.get("required") or []
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    described = operation.get("description") or operation.get("summary") or ""
    return {"name": name, "description": described, "parameters": parameters}


def ai_check(data: dict[str, Any], model: str) -> dict[str, Any]:
    """POST /ai/check: the simulated models' own sentences are a machine's, all others a human's."""
    text = data.get("input")
    if not isinstance(text, str) or not text:
        raise invalid("input must be a non-empty string")
    intervals = speech.own(text)
    ours = sum(end - begin for begin, end in intervals)
    humans = len("".join(text.split())) - len("".join("".join(text[begin:end] for begin, end in intervals).split()))
    category = "human" if not ours else "mixed" if humans > 0 else "ai"
    answer: dict[str, Any] = {"category": category, "characters": len(text), "tokens": speech.tokens(text)}
    if model == "GigaCheckDetection":
        answer["ai_intervals"] = [list(interval) for interval in intervals]
    return answer


def filter_check(data: dict[str, Any], forbidden: tuple[str, ...]) -> dict[str, Any]:
    """POST /filter/check."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise invalid("messages must be a non-empty array")
    settings = data.get("settings") or {}
    text = "\n".join(str(message.get("content") or "") for message in messages)
    watches = any(settings.get(name, True) for name in ("neuro", "blacklist")) if isinstance(settings, dict) else True
    profane = watches and any(phrase in text.casefold() for phrase in forbidden)
    return {"is_profane": profane, "usage": {"filter_tokens": speech.tokens(text)}}
