"""One deployment that may serve a call, and what led to it."""

from msgspec import Struct

from xrouter.core.deployment import Deployment
from xrouter.core.policy import USUAL, Policy


class Candidate(Struct, frozen=True, eq=False):
    """A deployment, and the client's own name (`model`) that led to it. Compared by identity: one plan, one object.

    Made once for each name of the catalogue and shared by its calls. `policy` is the name's route, `weight` what it
    says of the model, `place` the model's number in the order of the file, `mark` 64 bits that stand for it wherever a
    choice must fall on the same one again: the deployments of one model, each with another credential, share all three,
    so that chance falls on a model, however many credentials it has. `names` are what a request may call it by, in
    lower case; `rub` are its first price's roubles for a million tokens of prompt and of answer, as floats: for
    comparing, not for billing.
    """

    model: str
    deployment: Deployment
    policy: Policy = USUAL
    weight: float = 1.0
    place: int = 0
    mark: int = 0
    names: frozenset[str] = frozenset()
    rub: tuple[float, float] = (0.0, 0.0)
