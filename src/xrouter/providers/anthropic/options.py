"""What only an account of this wire format can be told."""

from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

OLD_VERSION: Final = "2023-06-01"


class Options(msgspec.Struct, frozen=True):
    """What the operator may write under `options`.

    - `version`: the version of the API, a date. After 2023-06-01 the sampling parameters are gone, the key travels
      as Bearer, and models say for themselves how long they think;
    - `auth`: `x-api-key` or `bearer`, where the version does not say it right;
    - `max_tokens`: the cap on an answer where the client gives none; the API demands one;
    - `prefill`: models, as patterns, that go on with the beginning of an answer; newer ones refuse it;
    - `betas`: features to be switched on for every call (`anthropic-beta`).
    """

    version: str = OLD_VERSION
    auth: Literal["", "x-api-key", "bearer"] = ""
    max_tokens: int = 8192
    prefill: tuple[str, ...] = (
        "claude-2*",
        "claude-instant*",
        "claude-3*",
        "claude-*-4",
        "claude-*-4-[0-5]*",
        "claude-*-4-20*",
    )
    betas: tuple[str, ...] = ()

    @property
    def is_old(self) -> bool:
        return self.version <= OLD_VERSION

    def prefills(self, model: str) -> bool:
        """Does this model go on with the beginning of an answer?"""
        return any(fnmatchcase(model, pattern) for pattern in self.prefill)

    def headers(self, key: str) -> dict[str, str]:
        """What goes with every call."""
        auth = self.auth or ("x-api-key" if self.is_old else "bearer")
        found = {"Content-Type": "application/json", "anthropic-version": self.version}
        found |= {"x-api-key": key} if auth == "x-api-key" else {"Authorization": f"Bearer {key}"}
        return found | ({"anthropic-beta": ",".join(self.betas)} if self.betas else {})
