"""Which files a provider is made from, beside the operator's own: where one of them changes, it is made again. Pure.

Everything in the operator's file changes without a restart. The variables `XROUTER_*` do not: they are how a process
runs, and a process reads its environment once.
"""

from pathlib import Path

from xrouter.settings import FILE_ENDING, Config, ProviderSettings


def files_of(provider: ProviderSettings) -> frozenset[Path]:
    """What its kind reads when it connects: the files that its options name, and its certificates."""
    named = {
        Path(value)
        for _, own in provider.each()
        for name, value in own.options.items()
        if name.endswith(FILE_ENDING) and isinstance(value, str)
    }
    return certificates_of(provider) | named


def certificates_of(provider: ProviderSettings) -> frozenset[Path]:
    """Those of them that its connections are made with."""
    each = [path for _, own in provider.each() for path in (own.ca_bundle, own.client_cert, own.client_key)]
    return frozenset(path for path in each if path)


def certificates(config: Config) -> tuple[Path, ...]:
    """Those of all providers, sorted."""
    return tuple(sorted(frozenset[Path]().union(*map(certificates_of, config.providers.values()))))
