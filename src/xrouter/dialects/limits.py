"""The numbers that bound one request at the door."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds; the meaning of each is in `settings.py` under the same name."""

    max_body_bytes: int = 20 * 1024 * 1024
    status_wait_s: float = 10.0
    max_in_flight: int = 10_000
