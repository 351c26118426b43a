"""Where a request may hold its key: one answer for all routes."""

import pytest

from xrouter.dialects.exchange import credential


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        (("Bearer k", None, None), "k"),
        (("bearer  k ", "other", "third"), "k"),
        (("Basic dTpw", "k", None), "k"),
        (("Basic dTpw", None, "k"), "k"),
        (("Basic dTpw", None, None), None),
        ((None, "k", "other"), "k"),
        ((None, None, "k"), "k"),
        ((None, None, None), None),
    ],
)
def test_a_bearer_wins_and_what_is_not_for_us_is_passed_over(
    headers: tuple[str | None, str | None, str | None], key: str | None
) -> None:
    assert credential(*headers) == key
