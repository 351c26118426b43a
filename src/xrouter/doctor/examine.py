"""All checks in their order."""

from collections.abc import AsyncIterator
from importlib import import_module

from xrouter.configuration.effective import load
from xrouter.core.clock import SystemClock
from xrouter.doctor import account, storage
from xrouter.doctor.finding import Finding, failed, good, warning
from xrouter.settings import ConfigError, Settings


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Every provider, then the database, Redis and the data directory. Sends no prompt and nothing that is billed."""
    try:
        effective = load(settings, vendors=True)
    except ConfigError as error:
        for line in str(error).splitlines():
            yield failed("configuration", "config", line, "mend the file; `xrouter config check` looks at it alone")
    else:
        yield good("configuration", "config", str(settings.config or "from the environment"))
        for hint in effective.hints:
            yield warning("configuration", "environment", hint, "set it, or take the other one away")
        for name, provider in effective.config.providers.items():
            async for finding in account.examine(name, provider, SystemClock()):
                yield finding
    async for finding in storage.database(settings):
        yield finding
    if settings.redis_url is not None:
        # the client costs memory, which most need not pay
        found: AsyncIterator[Finding] = import_module("xrouter.doctor.redis").examine(settings, SystemClock())
        async for finding in found:
            yield finding
    for finding in storage.directory(settings):
        yield finding
