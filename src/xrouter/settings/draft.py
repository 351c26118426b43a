"""Reads the operator's file, fills in `${NAME}`, and says everything that is wrong with it, each with its line."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from xrouter.core.operation import Operation
from xrouter.settings.environment import environment, secret_path
from xrouter.settings.operator_file import Config, CredentialSettings, ModelSettings, ProviderSettings, TimeoutSettings
from xrouter.settings.prices import PriceSettings
from xrouter.settings.routes import CanarySettings, FallbackSettings, RouteSettings, RoutingSettings, RuleSettings
from xrouter.settings.secret_text import FILE_ENDING, secret_fields
from xrouter.settings.words import ConfigError, in_words


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, instead of the last one winning silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


Place = tuple[int | str, ...]
"""Where something stands in the file: `("providers", "<name>", "models", 0)`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Configuration that is read and filled in, but not yet checked.

    `source` stands in messages, with the line where `lines` knows it; `files` are those whose change may change it;
    `problems` were found while it was filled in, each in one line.
    """

    data: object
    source: str
    files: tuple[Path, ...] = ()
    lines: Mapping[Place, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def at(self, place: Place) -> str:
        """`xrouter.yaml:12: providers.gigachat`, or as much of it as is known."""
        words = ".".join(str(part) for part in place)
        for end in range(len(place), 0, -1):
            line = self.lines.get(place[:end])
            if line is not None:
                return f"{self.source}:{line}: {words}"
        return f"{self.source}: {words}" if words else self.source

    def located(self, message: str) -> str:
        """`providers.a.scope: words` with the source and, where it is known, the line before it. A model stands in the
        message under its number or its name."""
        line = self.lines.get(self._place(message.partition(": ")[0]))
        return f"{self.source}: {message}" if line is None else f"{self.source}:{line}: {message}"

    def _place(self, words: str) -> Place:
        """The deepest place that `providers.a.models.GigaChat-2.5.options` means; names may hold dots."""
        place: Place = ()
        found = self.data
        while words:
            steps = {label: (step, inner) for step, label, inner in _steps(found)}
            fitting = [label for label in steps if words == label or words.startswith(f"{label}.")]
            if not fitting:
                break
            label = max(fitting, key=len)
            step, found = steps[label]
            place, words = (*place, step), words[len(label) + 1 :]
        return place


def _steps(data: object) -> Iterator[tuple[int | str, str, object]]:
    """What lies inside: its step in a `Place`, the word that a message has for it, and itself."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield key, str(key), value
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield number, str(number), item
            if (name := _model_name(item)) is not None:
                yield number, name, item


def _model_name(model: object) -> str | None:
    """A model's name, given bare or as a mapping."""
    name = model.get("name") if isinstance(model, dict) else model
    return name if isinstance(name, str) else None


def load_config(path: Path) -> Config:
    """The operator's file. Raises `ConfigError` in plain words, with everything that is wrong with it."""
    return check_draft(read_draft(path))


def read_draft(path: Path) -> Draft:
    """The operator's file with `${NAME}` filled in. Raises `ConfigError` where it cannot be read at all."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        data = yaml.load(text, _UniqueKeys)  # _UniqueKeys is a SafeLoader  # noqa: S506  # nosec B506
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping with the key 'providers'; docs/settings.md shows one")
    filling = _Filling(str(path), dict(_lines(root, ())))
    filled = filling.fill(data, ())
    assert isinstance(filled, dict)
    return Draft(filled, str(path), (path, *filling.files), filling.lines, tuple(filling.problems))


def parse_config(data: object, source: str) -> Config:
    """Checked configuration from plain data. `source` stands in error messages."""
    return check_draft(Draft(data, source))


def check_draft(draft: Draft) -> Config:
    """The configuration. Raises `ConfigError` with everything that is wrong, one problem in each line."""
    problems = draft_problems(draft)
    if problems:
        raise ConfigError("\n".join(problems))
    return Config.model_validate(draft.data)


def draft_problems(draft: Draft) -> list[str]:
    """Everything that is wrong with a draft by itself, each in one line."""
    problems = list(draft.problems)
    try:
        Config.model_validate(draft.data)
    except ValidationError as error:
        problems += _problems(draft, error)
    problems += [f"{draft.at(place)}: {words}" for place, words in _wrong_names(draft.data)]
    return list(dict.fromkeys(problems))


def sound_routes(draft: Draft) -> tuple[dict[str, RouteSettings], RoutingSettings]:
    """The routes that read well, whatever is wrong with the rest, and what holds for all."""
    routes: dict[str, RouteSettings] = {}
    for name, route in _mapping(draft.data, "routes").items():
        with suppress(ValidationError):
            routes[str(name)] = RouteSettings.model_validate(route)
    try:
        return routes, RoutingSettings.model_validate(_mapping(draft.data, "routing"))
    except ValidationError:
        return routes, RoutingSettings()


def sound_parts(draft: Draft) -> tuple[dict[str, ProviderSettings], dict[str, list[str]], dict[Operation, str]]:
    """The providers, aliases and default models of a draft that read well, whatever is wrong with the rest."""
    accounts: dict[str, ProviderSettings] = {}
    for name, provider in _mapping(draft.data, "providers").items():
        with suppress(ValidationError):
            accounts[str(name)] = ProviderSettings.model_validate(provider)
    aliases = {
        str(name): targets
        for name, targets in _mapping(draft.data, "aliases").items()
        if isinstance(targets, list) and all(isinstance(one, str) for one in targets)
    }
    operations = {operation.value for operation in Operation}
    defaults = {
        Operation(operation): name
        for operation, name in _mapping(draft.data, "default_models").items()
        if operation in operations and isinstance(name, str)
    }
    return accounts, aliases, defaults


def _mapping(data: object, key: str) -> dict[Any, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _wrong_names(data: object) -> Iterator[tuple[Place, str]]:
    """Models that stand twice, and names that lead to no model. What is no name at all the types have told."""
    ids: list[str] = []
    unread: set[str] = set()  # providers whose models cannot be known
    for name, provider in _mapping(data, "providers").items():
        models = provider.get("models") if isinstance(provider, dict) else None
        names = [_model_name(one) for one in models] if isinstance(models, list) else [None]
        if None in names:
            unread.add(str(name))
        for number, model in enumerate(names):
            if model is not None and model in names[:number]:
                yield ("providers", name, "models", number), f"{model} stands twice"
        ids += [f"{name}/{model}" for model in names if model is not None]
    aliases = _mapping(data, "aliases")
    for alias, targets in aliases.items():
        if alias in ids:
            yield ("aliases", alias), "is a model's own id; an alias needs a name of its own"
        if not str(alias).strip():
            yield ("aliases", alias), "needs a name"
        if targets == []:
            yield ("aliases", alias), "needs at least one model id"
        for number, target in enumerate(targets if isinstance(targets, list) else ()):
            if _leads_nowhere(target, ids, unread):
                yield ("aliases", alias, number), _unknown_model(target, ids)
    routes = _mapping(data, "routes")
    yield from _wrong_routes(routes, aliases, ids, unread)
    served = [*ids, *map(str, aliases), *map(str, routes)]
    defaults: dict[Place, Any] = {("default_model",): data.get("default_model")} if isinstance(data, dict) else {}
    defaults |= {("default_models", work): name for work, name in _mapping(data, "default_models").items()}
    for place, name in defaults.items():
        if _leads_nowhere(name, served, unread):
            yield place, _unknown_model(name, served)


def _wrong_routes(
    routes: dict[Any, Any], aliases: dict[Any, Any], ids: list[str], unread: set[str]
) -> Iterator[tuple[Place, str]]:
    """Names of routes that cannot be, and models that they name and nobody serves."""
    for name, route in routes.items():
        place: Place = ("routes", name)
        if name in aliases:
            yield place, "is an alias, too; keep one of them"
        if not str(name).strip():
            yield place, "needs a name"
        if not isinstance(route, dict):
            continue
        if not route.get("models") and _leads_nowhere(str(name), ids, unread):
            yield place, "needs models: its name is not that of a model"
        for where, model in _named_models(route):
            if _leads_nowhere(model, ids, unread):
                yield (*place, *where), _unknown_model(model, ids)


def _named_models(route: dict[Any, Any]) -> Iterator[tuple[Place, Any]]:
    yield from _listed(route.get("models"), ("models",))
    for number, rule in enumerate(rules if isinstance(rules := route.get("rules"), list) else ()):
        yield from _listed(rule.get("models") if isinstance(rule, dict) else None, ("rules", number, "models"))
    for kind, models in _mapping(route, "fallbacks").items():
        yield from _listed(models, ("fallbacks", kind))
    for model in _mapping(route, "weights"):
        yield ("weights", model), model
    yield ("canary", "model"), _mapping(route, "canary").get("model")


def _listed(models: object, place: Place) -> Iterator[tuple[Place, Any]]:
    for number, model in enumerate(models if isinstance(models, list) else ()):
        yield (*place, number), model


def _leads_nowhere(name: object, known: list[str], unread: set[str]) -> bool:
    return isinstance(name, str) and name not in known and name.partition("/")[0] not in unread


def _unknown_model(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"names the unknown model {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _lines(node: yaml.Node | None, place: Place) -> Iterator[tuple[Place, int]]:
    """place -> line, from 1."""
    if node is None or len(place) > _DEEPEST:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield (*place, key.value), key.start_mark.line + 1
                yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*place, number), item.start_mark.line + 1
            yield from _lines(item, (*place, number))


_DEEPEST = 12
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ALMOST = re.compile(r"\$\{|^\$[A-Za-z_][A-Za-z0-9_]*$")  # unclosed, or the shell's form: never a credential


class _Filling:
    """Fills in `${NAME}`; collects what goes wrong, and the files that secrets come from."""

    def __init__(self, source: str, lines: Mapping[Place, int]) -> None:
        self.lines = lines
        self.files: list[Path] = []
        self.problems: list[str] = []
        self._draft = Draft({}, source, lines=lines)

    def fill(self, data: object, place: Place) -> object:
        if isinstance(data, dict):
            return {key: self.fill(value, (*place, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.fill(value, (*place, number)) for number, value in enumerate(data)]
        if isinstance(data, str):
            return self._text(data, place)
        return data

    def _text(self, text: str, place: Place) -> str:
        if _ALMOST.search(_VARIABLE.sub("", text)):
            self._say(place, f"write ${{NAME}} for the environment variable NAME, not {text[:40]!r}")
            return text
        filled = _VARIABLE.sub(lambda found: self._variable(found[1], place), text)
        if place and str(place[-1]).endswith(FILE_ENDING):
            self.files.append(Path(filled))
        return filled

    def _variable(self, name: str, place: Place) -> str:
        try:
            value = environment(name)
        except ValueError as error:
            self._say(place, str(error))
            return name
        if path := secret_path(name):
            self.files.append(path)
        if value is None:
            self._say(place, f"names ${{{name}}}, but the environment has no {name}")
            return name
        return value

    def _say(self, place: Place, words: str) -> None:
        self.problems.append(f"{self._draft.at(place)}: {words}")


def _problems(draft: Draft, error: ValidationError) -> Iterator[str]:
    """What is wrong with the file, each in one line."""
    for item in error.errors(include_url=False, include_input=False):
        place = tuple(part for part in item["loc"] if part != "[key]")
        message = in_words(item)
        if item["type"] == "extra_forbidden":
            message = _unknown_key(place)
        yield f"{draft.at(place)}: {message}"


def _unknown_key(place: Place) -> str:
    near = get_close_matches(str(place[-1]), sorted(_known_keys(place)), 1)
    return "is not a known key" + (f"; did you mean {near[0]!r}?" if near else "")


def _known_keys(place: Place) -> set[str]:
    """The keys that may stand where `place` does."""
    words = [part for part in place if isinstance(part, str)]
    model: type[BaseModel] = Config
    if place[:1] in (("routes",), ("routing",)):
        model = _route_part(words)
    elif "timeouts" in words[:-1]:
        model = TimeoutSettings
    elif "price" in words[3:-1]:
        model = PriceSettings
    elif "models" in words[2:-1]:
        model = ModelSettings
    elif "credentials" in words[2:-1]:
        model = CredentialSettings
    elif len(words) > 2:
        model = ProviderSettings
    return {*model.model_fields, *(name + FILE_ENDING for name in secret_fields(model))}


def _route_part(words: list[str]) -> type[BaseModel]:
    if words[0] == "routing":
        return RoutingSettings if len(words) > 1 else Config
    parts: dict[str, type[BaseModel]] = {"rules": RuleSettings, "canary": CanarySettings, "fallbacks": FallbackSettings}
    return parts.get(words[2], RouteSettings) if len(words) > 3 else RouteSettings
