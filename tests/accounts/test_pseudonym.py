"""Pseudonyms: the same for one person in one organisation, and nowhere else."""

from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.call import Caller
from xrouter.core.pseudonym import Pseudonyms
from xrouter.core.secret import Secret

NAMES = st.text(max_size=20)


def caller(organisation_id: str | None, key_id: str = "k") -> Caller:
    return Caller(key_id, "app", frozenset(), organisation_id=organisation_id)


@given(NAMES, NAMES, st.sampled_from([None, "o1", "o2"]), st.sampled_from([None, "o1", "o2"]))
def test_a_pseudonym_stands_for_one_name_in_one_organisation(
    one: str, other: str, here: str | None, there: str | None
) -> None:
    names = Pseudonyms(Secret("p" * 40))
    found = names.of(caller(here), one)
    assert found == names.of(caller(here, "another key"), one)
    assert (found == names.of(caller(there), other)) == ((here, one) == (there, other))
    assert found != Pseudonyms(Secret("q" * 40)).of(caller(here), one)
