"""Names at providers: one spelling of each, and what can be none."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.rules import identity

BLANKS = st.text(" \t\n\u00a0", max_size=3)
PROVIDERS = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}", fullmatch=True)
EXTERNAL_IDS = st.text(
    st.characters(categories=["L", "N", "P", "S"]),
    min_size=1,
    max_size=identity.LONGEST_EXTERNAL_ID,
)


@given(name=PROVIDERS, before=BLANKS, after=BLANKS)
def test_a_provider_has_one_spelling_whatever_its_case_and_blanks(
    name: str, before: str, after: str
) -> None:
    stored = identity.provider(before + name + after)

    assert stored == identity.provider(name.upper()) == identity.provider(stored)
    assert set(stored) <= set(string.ascii_lowercase + string.digits + "._-")


@given(name=EXTERNAL_IDS, before=BLANKS, after=BLANKS)
def test_an_external_id_is_stripped_and_else_stays_as_it_is(
    name: str, before: str, after: str
) -> None:
    assert identity.external_id(before + name + after) == name


@given(one=EXTERNAL_IDS, other=EXTERNAL_IDS)
def test_two_external_ids_stay_two(one: str, other: str) -> None:
    assume(one != other)

    assert identity.external_id(one) != identity.external_id(other)


@pytest.mark.parametrize("text", ["", "  ", "-x", "a b", "é", "a:b", "x" * 65, "a\x00"])
def test_what_is_no_provider_is_refused(text: str) -> None:
    with pytest.raises(identity.InvalidIdentity):
        identity.provider(text)


@pytest.mark.parametrize("text", ["", " \n", "x" * 256, "a\x00b", "a\nb"])
def test_what_is_no_external_id_is_refused(text: str) -> None:
    with pytest.raises(identity.InvalidIdentity):
        identity.external_id(text)
