"""The accounts of one provider, one for each of its credentials: with deployments, a transport, a login and slots of
their own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.ports import ChatProvider
from xrouter.providers import load
from xrouter.settings import ConfigError, CredentialSettings, ProviderSettings
from xrouter.transport import Transport

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Account:
    """`name` is what `Deployment.account` and `Gateway.providers` call it: the provider's name, and behind `#` the
    credential's where there are several. `settings` are the provider's with this credential alone; `place` is where
    the credential stands in the file."""

    name: str
    provider: str
    settings: ProviderSettings
    place: str
    credential: CredentialSettings | None = None

    def deployments(self) -> tuple[Deployment, ...]:
        """Raises `ConfigError`."""
        found = self._in_place(lambda: load(self.settings.kind).deployments(self.provider, self.settings))
        if self.credential is None:
            return found
        weight, own_slots = self.credential.weight, not self.settings.api_key
        return tuple(
            replace(one, account=self.name, weight=weight, credential=self.name if own_slots else one.credential)
            for one in found
        )

    def connect(self, http: Transport, clock: Clock) -> ChatProvider:
        """Raises `ConfigError`."""
        return self._in_place(lambda: load(self.settings.kind).connect(self.provider, self.settings, http, clock))

    def _in_place(self, make: Callable[[], _Made]) -> _Made:
        """What goes wrong with a setting that the credential has for itself stands there in the file."""
        try:
            return make()
        except ConfigError as error:
            raise ConfigError("\n".join(map(self._relocated, str(error).splitlines()))) from error
        except ValueError as error:
            raise ConfigError(f"{self.place}: {error}") from error

    def _relocated(self, problem: str) -> str:
        if self.credential is None:
            return problem
        before, _, rest = problem.partition(f"providers.{self.provider}.")
        field = rest.partition(":")[0].partition(".")[0]
        if before or field not in type(self.credential).model_fields:
            return problem
        return f"{self.place}.{rest}"


def accounts(provider: str, settings: ProviderSettings) -> tuple[Account, ...]:
    """One for each credential, in their order."""
    place = f"providers.{provider}"
    if not settings.credentials:
        return (Account(provider, provider, settings, place),)
    return tuple(
        Account(f"{provider}#{label}", provider, own, f"{place}.credentials.{number}", settings.credentials[number])
        for number, (label, own) in enumerate(settings.each())
    )
