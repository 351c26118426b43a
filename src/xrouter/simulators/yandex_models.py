"""The models of the simulated Yandex AI Studio, and their URIs."""

import re
from dataclasses import dataclass
from typing import Final

from xrouter.simulators import faults
from xrouter.simulators.desk import Refusal
from xrouter.simulators.faults import NONE, Fault

EMBEDDING_TOKENS: Final = 2_000
DIMENSIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Model:
    """A model. `own`: the vendor's, which the native API serves, too. `thinks`: it reasons aloud by itself."""

    own: bool = False
    context_tokens: int = 131_072
    sees: bool = False
    thinks: bool = False


_OWN: Final = Model(own=True, context_tokens=32_768)
MODELS: Final = {
    "gpt": {
        "aliceai-llm": _OWN,
        "yandexgpt/latest": _OWN,
        "yandexgpt/rc": _OWN,
        "yandexgpt-lite/latest": _OWN,
        "yandexgpt-lite/rc": _OWN,
        "qwen3-235b-a22b-fp8/latest": Model(context_tokens=262_144),
        "gpt-oss-120b/latest": Model(thinks=True),
        "gpt-oss-20b/latest": Model(thinks=True),
        "gemma-3-27b-it/latest": Model(sees=True),
        "deepseek-v32/": Model(),
    },
    "emb": {
        "text-search-doc/latest": _OWN,
        "text-search-query/latest": _OWN,
        "text-embeddings/latest": _OWN,
    },
    "art": {"yandex-art/latest": _OWN},
}
_URI = re.compile(r"([a-z]+)://([^/]+)/(.+)")
_FAULT = re.compile(r"\+([a-z0-9-]+)(?=[/@]|\Z)")
_TUNED = re.compile(r"(yandexgpt-lite/latest)@[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A model by its URI. `tail` is the part behind the folder, without the fault that was asked for."""

    folder: str
    tail: str
    model: Model
    fault: Fault


def find(uri: object, scheme: str) -> Found:
    """The model at `uri`. Raises `Refusal` 400 in the vendor's words."""
    parts = _URI.fullmatch(uri) if isinstance(uri, str) else None
    if parts is None or parts[1] not in MODELS:
        raise Refusal(400, f"Failed to parse model URI: invalid model_uri '{uri}'")
    tail, fault = parts[3], NONE
    asked = _FAULT.search(tail)
    if asked is not None and (parsed := faults.parse(asked[1])) is not None:
        tail, fault = tail.replace(asked[0], ""), parsed
    tuned = _TUNED.fullmatch(tail)
    served = MODELS[parts[1]]
    model = served.get(tuned[1] if tuned else tail) or served.get(f"{tail}/latest")
    if model is None or parts[1] != scheme:
        raise Refusal(400, f"Failed to get model '{uri}'")
    return Found(parts[2], tail, model, fault)


def check_folder(found: Found, folder: str) -> None:
    """Raises `Refusal` 400 unless the model lies in the caller's own folder."""
    if found.folder != folder:
        raise Refusal(
            400,
            f"Specified folder ID '{found.folder}' does not match with service account folder ID '{folder}'",
        )
