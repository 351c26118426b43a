"""How long the whole call may take, with all its attempts. Pure."""

from xrouter.core.call import Call
from xrouter.gateway.route import Candidate


def begin(call: Call, plan: tuple[Candidate, ...]) -> None:
    """Sets the call's deadline: the most patient candidate's total, or the client's own wish when shorter."""
    stream = call.request.stream
    limits = [candidate.deployment.timeouts for candidate in plan]
    total_s = max(limit.total_stream_s if stream else limit.total_s for limit in limits)
    if call.timeout_s is not None:
        total_s = min(total_s, call.timeout_s)
    call.deadline = call.started + total_s
