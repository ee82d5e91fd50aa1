"""What differs is found by name, not by place."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.rules import difference
from models.rules.difference import Changed

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(value=st.dictionaries(st.text("ab"), VALUES, max_size=3))
def test_a_value_does_not_differ_from_itself(value: dict[str, Any]) -> None:
    assert difference.between(value, value) == []


@given(
    old=st.dictionaries(st.text("ab"), VALUES, max_size=3),
    new=st.dictionaries(st.text("ab"), VALUES, max_size=3),
)
def test_the_way_back_is_the_same_way(old: dict[str, Any], new: dict[str, Any]) -> None:
    back = [Changed(one.path, one.after, one.before) for one in difference.between(new, old)]

    assert difference.between(old, new) == back


def test_items_are_known_by_what_names_them_wherever_they_stand() -> None:
    base = {"price_key": "base", "currency": "USD", "unit_amount": "5"}
    other = {"price_key": "base", "currency": "EUR", "unit_amount": "4"}

    assert difference.between({"prices": [base, other]}, {"prices": [other, base]}) == []
    assert difference.between(
        {"prices": [base, other]}, {"prices": [other, {**base, "unit_amount": "6"}]}
    ) == [Changed("prices.base USD.unit_amount", "5", "6")]
    assert difference.between(
        {"tiers": [{"up_to": 1}]}, {"tiers": [{"up_to": 2}, {"up_to": 3}]}
    ) == [
        Changed("tiers.0.up_to", 1, 2),
        Changed("tiers.1.up_to", None, 3),
    ]


def test_a_list_of_plain_values_is_one_value() -> None:
    assert difference.between({"keys": ["a", "b"]}, {"keys": ["b"]}) == [
        Changed("keys", ["a", "b"], ["b"])
    ]
