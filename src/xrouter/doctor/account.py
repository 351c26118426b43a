"""One provider: what its file says, the way to its hosts, the login, its models, its clock."""

import asyncio
from collections.abc import AsyncIterator
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from typing import Any, Final

from xrouter import providers
from xrouter.core.clock import Clock
from xrouter.core.errors import ProviderAuthFailed, UpstreamError
from xrouter.doctor import network
from xrouter.doctor.finding import Finding, State, failed, good, skipped, warning
from xrouter.settings import ConfigError, ProviderSettings
from xrouter.transport import Transport, TransportError
from xrouter.upstreams.opened import transport_for

LOGIN_S: Final = 20.0
_LOGIN: Final = "check api_key and base_url: is the key whole, of this account or project, and not revoked?"
SKEW_S: Final = 30.0
"""A clock that is further off makes tokens look expired and signatures wrong."""


async def examine(name: str, provider: ProviderSettings, clock: Clock) -> AsyncIterator[Finding]:
    """The checks of each credential in order. After one that failed, those that need it are passed over."""
    for label, own in provider.each():
        subject = f"providers.{name}#{label}" if label else f"providers.{name}"
        try:
            transport = transport_for(name, own, max_connections=2)
        except ValueError as error:
            yield failed(subject, "config", str(error), "mend the file")
            continue
        try:
            async for finding in _examine(name, subject, own, transport, clock):
                yield finding
        finally:
            await transport.close()


async def _examine(
    name: str, subject: str, provider: ProviderSettings, transport: Transport, clock: Clock
) -> AsyncIterator[Finding]:
    try:
        providers.load(provider.kind).deployments(name, provider)
        vendor, urls = providers.connect_and_note(name, provider, transport, clock)
    except (ConfigError, ValueError) as error:
        yield failed(subject, "config", str(error), "mend the file; `xrouter config check` lists every mistake")
        return
    yield good(subject, "config", f"{provider.kind}, {len(provider.models)} models")
    if provider.ca_bundle is not None:
        for finding in network.bundle(subject, provider.ca_bundle, clock):
            yield finding
    reached = True
    if provider.proxy:
        yield skipped(subject, "dns, tcp, tls", "the egress proxy looks names up and connects")
    else:
        for url in {_origin(url): url for url in urls}.values():
            for finding in await network.reach(subject, url, provider, clock):
                reached = reached and finding.state is not State.FAILED
                yield finding
    if not reached:
        yield skipped(subject, "login", "there is no way to the vendor")
        return
    for finding in await _login(subject, provider, vendor):
        yield finding
    for url in urls[:1]:
        yield await _clock(subject, url, transport, clock)


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


async def _login(subject: str, provider: ProviderSettings, vendor: Any) -> list[Finding]:
    """Log in by asking for the list of models, which nobody bills; a vendor without one is left alone."""
    list_models = getattr(vendor, "list_models", None)
    if list_models is None:
        return [skipped(subject, "login", f"{provider.kind} has no free request to try it with; nothing was sent")]
    try:
        async with asyncio.timeout(LOGIN_S):
            listed: list[str] = await list_models()
    except TimeoutError:
        return [failed(subject, "login", f"no answer within {LOGIN_S:g} s", "try again; then ask the vendor")]
    except ProviderAuthFailed as error:
        mend = getattr(providers.load(provider.kind), "LOGIN", _LOGIN)
        return [failed(subject, "login", error.message, mend)]
    except UpstreamError as error:
        if error.upstream_status in (404, 405, 501, 506):  # it let us in, and has no such list
            return [
                skipped(subject, "login", f"{error.message}: this server lists no models, and nothing else was sent")
            ]
        return [failed(subject, "login", error.message, "what the vendor says stands before; try again later")]
    findings = [good(subject, "login", f"the vendor lists {len(listed)} models")]
    for model in provider.models:
        names = (model.name, model.name.replace(":", "/"))  # a branch may be written either way
        if listed and not any(name in one for one in listed for name in names):
            near = get_close_matches(model.name, listed, 3, 0.6)
            mend = f"did you mean {', '.join(near)}?" if near else f"it has: {', '.join(sorted(listed)[:10])}"
            findings.append(warning(subject, "models", f"{model.name} is not on the vendor's list", mend))
    return findings


async def _clock(subject: str, url: str, transport: Transport, clock: Clock) -> Finding:
    """The Date of any answer against our clock. Asks without a credential: whatever the answer is will do."""
    try:
        async with asyncio.timeout(network.LIMIT_S), transport.request("GET", url, headers={}) as response:
            date = response.headers.get("date") or response.headers.get("Date")
    except TimeoutError:
        return skipped(subject, "clock", "no answer to compare with")
    except TransportError as error:
        return failed(subject, "http", str(error), "allow_private and proxy are settings of a provider")
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return skipped(subject, "clock", "the vendor sends no Date")
    skew_s = clock.now() - theirs
    words = f"this machine's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the vendor's"
    if abs(skew_s) > SKEW_S:
        return warning(subject, "clock", words, "let NTP keep the clock; tokens and signatures depend on it")
    return good(subject, "clock", words)
