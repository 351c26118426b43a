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
from xrouter.upstreams.accounts import Account, accounts


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """One account, open. Compared by identity: the same object serves on after a change elsewhere."""

    account: Account
    deployments: tuple[Deployment, ...]
    speaker: ChatProvider
    transport: Transport


OpenAccounts = Mapping[str, Opened]
"""By `Account.name`, in the order of the file."""


def open_accounts(
    config: Config, max_connections: int, before: OpenAccounts | None = None, changed: frozenset[Path] = frozenset()
) -> OpenAccounts:
    """Every account of `config`, those of `before` that are the same as they are. `changed` are files with another
    content now: an account whose settings name one of them is made again.

    Raises `ConfigError`, and then nothing was opened that would have to be closed: a transport dials at its first
    call.
    """
    before = before or {}
    found: dict[str, Opened] = {}
    for name, settings in config.providers.items():
        for account in accounts(name, settings):
            old = before.get(account.name)
            if old is not None and old.account == account and not files_of(account.settings) & changed:
                found[account.name] = old
            else:
                found[account.name] = _open(account, max_connections, old, changed)
    return found


def _open(account: Account, max_connections: int, old: Opened | None, changed: frozenset[Path]) -> Opened:
    settings = account.settings
    try:
        providers.load(settings.kind)
        if (
            old is not None
            and _line(old.account.settings) == _line(settings)
            and not certificates_of(settings) & changed
        ):
            transport = old.transport
        else:
            transport = transport_for(account.provider, settings, max_connections)
    except ValueError as error:
        raise ConfigError(f"{account.place}: {error}") from error
    return Opened(account, account.deployments(), account.connect(transport, SystemClock()), transport)


def differing(before: OpenAccounts, after: OpenAccounts) -> list[str]:
    """The names of what is new, gone or another, sorted."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) is not after.get(name))


async def let_go(gone: Iterable[Opened], kept: Iterable[Opened] = ()) -> None:
    """Close what serves no call any more, except the connections that `kept` use, too."""
    gone = tuple(gone)
    for one in gone:
        if isinstance(one.speaker, Closing):
            await one.speaker.close()
    used = {id(one.transport) for one in kept}
    for transport in {id(one.transport): one.transport for one in gone}.values():
        if id(transport) not in used:
            await transport.close()


def transport_for(name: str, settings: ProviderSettings, max_connections: int) -> Transport:
    """The client of one account. Raises ValueError for a bundle or a proxy that cannot be used."""
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
