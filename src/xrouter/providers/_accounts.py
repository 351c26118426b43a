"""The accounts of one configuration, open: what speaks with each provider, and over which connections.

A changed configuration becomes another set of them. What has not changed is taken over as it is, with its tokens and
its warm connections; the rest is new, and the old one goes on for the calls that began with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xrouter import providers
from xrouter.configuration.changes import certificates_of, files_of
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.ports import ChatProvider, Closing
from xrouter.settings import Config, ConfigError, ProviderSettings
from xrouter.transport import Transport
from xrouter.transport.client import open_transport


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """One provider of the file, open. Compared by identity: the same object serves on after a change elsewhere."""

    settings: ProviderSettings
    deployments: tuple[Deployment, ...]
    speaker: ChatProvider
    transport: Transport


Accounts = Mapping[str, Account]


def open_accounts(
    config: Config, max_connections: int, before: Accounts | None = None, changed: frozenset[Path] = frozenset()
) -> Accounts:
    """Every provider of `config`, those of `before` that are the same as they are. `changed` are files with another
    content now: a provider whose settings name one of them is made again.

    Raises `ConfigError`, and then nothing was opened that would have to be closed: a transport dials at its first
    call.
    """
    before = before or {}
    found: dict[str, Account] = {}
    for name, settings in config.providers.items():
        old = before.get(name)
        if old is not None and old.settings == settings and not files_of(settings) & changed:
            found[name] = old
            continue
        try:
            kind = providers.load(settings.kind)
            if old is not None and _line(old.settings) == _line(settings) and not certificates_of(settings) & changed:
                transport = old.transport
            else:
                transport = transport_for(name, settings, max_connections)
            deployments = kind.deployments(name, settings)
            speaker = kind.connect(name, settings, transport, SystemClock())
        except ValueError as error:
            raise ConfigError(f"providers.{name}: {error}") from error
        found[name] = Account(settings, deployments, speaker, transport)
    return found


def differing(before: Accounts, after: Accounts) -> list[str]:
    """The names of what is new, gone or another, sorted."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) is not after.get(name))


async def let_go(gone: Iterable[Account], kept: Iterable[Account] = ()) -> None:
    """Close what serves no call any more, except the connections that `kept` use, too."""
    gone = tuple(gone)
    for account in gone:
        if isinstance(account.speaker, Closing):
            await account.speaker.close()
    used = {id(account.transport) for account in kept}
    for transport in {id(account.transport): account.transport for account in gone}.values():
        if id(transport) not in used:
            await transport.close()


def transport_for(name: str, settings: ProviderSettings, max_connections: int) -> Transport:
    """The client of one provider. Raises ValueError for a bundle or a proxy that cannot be used."""
    return open_transport(
        provider=name,
        connect_timeout_s=settings.timeouts.connect_s,
        ca_bundle=settings.ca_bundle,
        client_cert=settings.client_identity,
        proxy=settings.proxy,
        allow_private=settings.allow_private,
        max_connections=max_connections,  # every call we serve may be with this one provider
        trusted_hosts=_trusted(settings),
    )


def _trusted(settings: ProviderSettings) -> frozenset[str]:
    return frozenset(
        host for url in (settings.base_url, settings.auth_url) if url and (host := providers.own_host(url))
    )


def _line(settings: ProviderSettings) -> tuple[object, ...]:
    """What `transport_for` makes the connections from."""
    return (
        settings.timeouts.connect_s,
        settings.ca_bundle,
        settings.client_identity,
        settings.proxy,
        settings.allow_private,
        _trusted(settings),
    )
