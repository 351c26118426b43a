"""Names of end users as the books keep them: who they are is personal data (docs/accounts.md)."""

import hmac

from xrouter.core.call import Caller
from xrouter.core.secret import Secret


class Pseudonyms:
    """Turns what a client calls its user into a word that stays the same within one organisation, and says nothing to
    whoever lacks the pepper. Two organisations with one user have two words."""

    def __init__(self, pepper: Secret) -> None:
        own = hmac.new(pepper.reveal().encode(), b"xrouter end users", "sha256").digest()
        self._keyed = hmac.new(own, digestmod="sha256")  # copied for each: OpenSSL 3 looks its HMAC up anew otherwise

    def of(self, caller: Caller, end_user: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(f"{caller.organisation_id or ''}\0{end_user}".encode("utf-8", "surrogatepass"))
        return "eu_" + keyed.hexdigest()[:32]
