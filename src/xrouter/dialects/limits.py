"""The numbers that bound one request at the door."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds; the meaning and the default of each is in `settings/environment.py` under the same name."""

    max_body_bytes: int
    status_wait_s: float
    ping_s: float
    max_in_flight: int
    trusted_proxies: int
    overload_queue: int = 1_000
    overload_wait_s: float = 2.0
    max_lag_s: float = 0.5
