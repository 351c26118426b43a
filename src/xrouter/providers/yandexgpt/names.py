"""Names of models: short ones of the operator's file -> the vendor's URIs, and what is known by a name.

A URI is `gpt://<folder>/<model>/<branch>`. Short forms: `yandexgpt`, `yandexgpt/rc`, `yandexgpt:latest`,
`yandexgpt-lite/latest@<suffix of a tuned model>`. Branches move on every month (`rc` becomes `latest`, that
`deprecated`), so a name with a branch is no fixed model.

Source: https://yandex.cloud/docs/ai-studio/concepts/generation/models (early 2026).
"""

import re
from typing import Final, NamedTuple

from xrouter.core.operation import Operation
from xrouter.settings import ConfigError

_SCHEMES: Final = {"gpt": Operation.CHAT, "emb": Operation.EMBEDDINGS, "art": Operation.IMAGES}
_SCHEME_OF: Final = {operation: scheme for scheme, operation in _SCHEMES.items()}
_URI = re.compile(r"(?P<scheme>[a-z]+)://(?P<folder>[^/]+)/(?P<tail>.+)")
_SHORT = re.compile(r"(?P<model>[^/:@]+)(?P<branch>[/:][^/:@]*)?(?P<suffix>@[^/:@]+)?")
# Documented without a branch, the second with an empty one.
_BRANCHES: Final = {"aliceai-llm": "", "deepseek-v32": "/"}
_EMBEDDERS: Final = ("text-search-", "text-embeddings")
_PAINTERS: Final = ("yandex-art",)
_OWN: Final = ("yandexgpt", "aliceai")
_SEEING: Final = ("gemma-3-", "qwen2.5-vl", "qwen-2.5-vl", "qwen3-vl")


class ModelName(NamedTuple):
    """A name taken apart. `tail` is everything behind the folder: `yandexgpt-lite/latest@suffix`."""

    operation: Operation
    folder: str
    tail: str

    @property
    def is_own(self) -> bool:
        """The vendor's own model; the others are open ones that it hosts, behind another server."""
        return self.tail.startswith(_OWN)

    @property
    def sees(self) -> bool:
        """Takes pictures in messages."""
        return self.tail.lower().startswith(_SEEING)

    def uri(self, operation: Operation) -> str:
        """The URI. `operation` is what is to be done: it picks the scheme of a short name."""
        return f"{_SCHEME_OF[operation]}://{self.folder}/{self.tail}"


def read_name(name: str, folder: str) -> ModelName:
    """The model that `name` means. Raises ValueError, in words."""
    found = _URI.fullmatch(name)
    if found is not None:
        if found["scheme"] not in _SCHEMES:
            raise ValueError(f"{name!r}: only {', '.join(f'{scheme}://' for scheme in _SCHEMES)} are served")
        return ModelName(_SCHEMES[found["scheme"]], found["folder"], found["tail"])
    short = _SHORT.fullmatch(name)
    if short is None:
        raise ValueError(f"{name!r} is no model: write yandexgpt, yandexgpt/rc or gpt://<folder>/yandexgpt/rc")
    if not folder:
        raise ValueError(f"{name!r} needs the folder: set options.folder, or write gpt://<folder>/{name}")
    model = short["model"]
    branch = short["branch"] or _BRANCHES.get(model, "/latest")
    tail = f"{model}{branch.replace(':', '/')}{short['suffix'] or ''}"
    if model.startswith(_EMBEDDERS):
        return ModelName(Operation.EMBEDDINGS, folder, tail)
    return ModelName(Operation.IMAGES if model.startswith(_PAINTERS) else Operation.CHAT, folder, tail)


def check_names(account: str, names: list[str], folder: str) -> dict[str, ModelName]:
    """All models of an account by their configured names. Raises `ConfigError`."""
    found, problems = {}, []
    for name in names:
        try:
            found[name] = read_name(name, folder)
        except ValueError as error:
            problems.append(f"providers.{account}.models.{name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return found
