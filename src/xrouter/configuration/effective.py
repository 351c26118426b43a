"""What is really served: the operator's file, what the environment adds, what is built in; and who owns what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from xrouter.configuration import aliases, vendor_environment
from xrouter.configuration.changes import certificates
from xrouter.settings import Config, ConfigError, Draft, Settings, check_draft, read_draft

BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Effective:
    """`sources` says for a provider (`providers.gigachat`) or an alias (`aliases.smart`) where it comes from, `files`
    are those whose change may change what is served, `hints` are words for the operator. `located` puts its line in
    front of a problem that shows only later."""

    config: Config
    sources: Mapping[str, str]
    files: tuple[Path, ...]
    hints: tuple[str, ...]
    located: Callable[[str], str] = field(default=str, compare=False)


@dataclass(frozen=True, slots=True)
class Drafted:
    """The same before it is checked."""

    draft: Draft
    sources: Mapping[str, str]
    hints: tuple[str, ...]

    def located(self, problem: str) -> str:
        """A problem with its line, or with the variables that its provider comes from."""
        if problem.startswith("XROUTER_"):
            return f"environment: {problem}"
        source = self.sources.get(".".join(problem.partition(":")[0].split(".")[:2]), "")
        return f"{source}: {problem}" if source.startswith("environment") else self.draft.located(problem)


def load(settings: Settings, *, vendors: bool) -> Effective:
    """The configuration. `vendors` as in `read`. Raises `ConfigError` with everything that is wrong, and where there
    is nothing to serve."""
    found = read(settings, vendors=vendors)
    config = check_draft(found.draft)
    files = dict.fromkeys((*found.draft.files, *certificates(config)))
    return Effective(config, found.sources, tuple(files), found.hints, found.located)


def read(settings: Settings, *, vendors: bool) -> Drafted:
    """The configuration as it stands there. With `vendors` the environment may add providers (`xrouter serve`), unless
    the setting `vendor_environment` is off or the file says `simulated`.

    Raises `ConfigError` for what cannot be read, and where there is nothing to serve.
    """
    draft = Draft({}, "environment") if settings.config is None else read_draft(settings.config)
    data = draft.data if isinstance(draft.data, dict) else {}
    own = data.get("providers")
    own = own if isinstance(own, dict) else {}
    sources = {f"providers.{name}": f"file {draft.source}" for name in own}
    written = data.get("aliases")
    taken = written if isinstance(written, dict) else {}
    sources |= {f"aliases.{name}": f"file {draft.source}" for name in taken}
    routed = data.get("routes")
    routed = routed if isinstance(routed, dict) else {}
    sources |= {f"routes.{name}": f"file {draft.source}" for name in routed}
    hints: tuple[str, ...] = ()
    if vendors and settings.vendor_environment and not data.get("simulated"):
        kinds = {str(one.get("kind", "")) for one in own.values() if isinstance(one, dict)}
        try:
            found = vendor_environment.look(own, kinds)
        except ValueError as error:
            raise ConfigError(f"environment: {error}") from None
        hints = found.hints
        own = {**own, **found.providers}
        sources |= {f"providers.{name}": f"environment ({', '.join(names)})" for name, names in found.sources.items()}
        draft = replace(draft, files=(*draft.files, *found.files))
    if settings.config is None and not own:
        raise ConfigError("\n".join([nothing_to_serve(), *hints]))
    added = aliases.built_in(own, {*taken, *routed}) if written is None or isinstance(written, dict) else {}
    sources |= {f"aliases.{name}": BUILT_IN for name in added}
    if own:
        data = {**data, "providers": own}
    if added:
        data = {**data, "aliases": {**added, **taken}}
    return Drafted(replace(draft, data=data), sources, hints)


def nothing_to_serve() -> str:
    """What to do when neither a file nor the environment names a provider."""
    return (
        "no providers: set XROUTER_CONFIG to your xrouter.yaml (README, 'Real providers'), or set a vendor's own "
        f"variable, such as {', '.join(vendor_environment.credentials())}; `xrouter demo` needs neither"
    )
