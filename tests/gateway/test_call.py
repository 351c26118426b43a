"""What a call knows of its attempts."""

import pytest
from tests.gateway.script import Script, call, world

from xrouter.core.call import Call, Phase
from xrouter.gateway import record, route


def with_attempts(*times: tuple[float, float | None]) -> Call:
    place, one = world(a=Script([])), call("a/m")
    for began, ended in times:
        attempt = record.begin(one, route.plan(one.request, place.gateway.catalog)[0], place.gateway)
        attempt.began, attempt.ended = began, ended
    return one


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([], 0),
        ([(1, 3)], 2),
        ([(1, None)], 9),
        ([(1, 3), (4, 5)], 3),
        ([(1, 3), (2, 5)], 4),
        ([(1, 9), (2, 5)], 8),
        ([(4, 5), (1, 2)], 2),
        ([(1, 2), (2, None), (3, 4)], 9),
    ],
)
def test_time_upstream_counts_once_however_many_attempts_run(
    times: list[tuple[float, float | None]], seconds: float
) -> None:
    assert with_attempts(*times).upstream_s(10) == seconds


def test_who_serves_is_who_showed_something_last() -> None:
    one = with_attempts((1, 2), (2, 3), (3, None))
    assert with_attempts().served is None
    assert one.served is one.attempts[2]
    one.attempts[1].phase = Phase.SHOWN
    assert one.served is one.attempts[1]
