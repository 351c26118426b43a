"""How long the whole call may take, with all its attempts. Pure."""

from xrouter.core.call import Call
from xrouter.gateway.route import Candidate


def begin(call: Call, plan: tuple[Candidate, ...]) -> None:
    """Sets the call's deadline: the most patient candidate's total, or the client's own wish when shorter."""
    stream = call.request.stream
    total_s = 0.0
    for candidate in plan:
        limits = candidate.deployment.timeouts
        total_s = max(total_s, limits.total_stream_s if stream else limits.total_s)
    if call.timeout_s is not None:
        total_s = min(total_s, call.timeout_s)
    call.deadline = call.started + total_s
