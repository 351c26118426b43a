"""Networks: which addresses they hold, and what two lists have in common."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.networks import allows, contains_all, intersection, plain

ADDRESSES = st.integers(0, 255).map(lambda last: f"10.0.0.{last}")
NETWORKS = st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
    lambda part: str(ip_network(f"10.0.0.{part[0]}/{part[1]}", strict=False))
)
LISTS = st.none() | st.lists(NETWORKS, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ],
)
def test_a_network_has_one_form(text: str, form: str) -> None:
    assert plain(text) == form


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/33", "localhost", "10.0.0", "::1%lo"])
def test_what_is_no_network_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is no network"):
        plain(text)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.9.9.9", True),
        ("::ffff:10.9.9.9", True),
        ("2001:db8::7", True),
        ("fe80::1%eth0", False),
        ("11.0.0.0", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_an_address_is_allowed_or_not(address: str, allowed: bool) -> None:
    assert allows(("10.0.0.0/8", "2001:db8::/32"), address) is allowed
    assert not allows((), address)


@given(LISTS, LISTS, ADDRESSES)
def test_an_intersection_holds_what_both_hold(
    one: tuple[str, ...] | None, other: tuple[str, ...] | None, address: str
) -> None:
    both = intersection(one, other)
    separately = all(each is None or allows(each, address) for each in (one, other))
    assert (both is None or allows(both, address)) == separately


@given(LISTS, LISTS, ADDRESSES)
def test_what_is_contained_allows_no_more(
    wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None, address: str
) -> None:
    if wide is not None and narrow is not None and contains_all(wide, narrow) and allows(narrow, address):
        assert allows(wide, address)
