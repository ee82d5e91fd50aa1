"""Catalogues as files: what is written is read again, and no number becomes a float."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import catalog_csv, catalog_file

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | TEXT
    | st.sampled_from(["no", "1.10", "1e3", "~", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.dictionaries(TEXT, VALUES, max_size=4), format_=st.sampled_from(["yaml", "json"])
)
def test_what_is_written_is_read_again(document: dict[str, Any], format_: Any) -> None:
    assert catalog_file.read(catalog_file.write(document, format_), format_) == document


def test_numbers_stay_as_they_are_written_and_words_words() -> None:
    text = "a: 0.10\nb: 1e3\nc: no\nd: 2026-01-01\ne: 012\nf: .nan\ng: 1_000\nh: 10:30\n"

    assert catalog_file.read(text, "yaml") == {
        "a": "0.10",
        "b": "1e3",
        "c": "no",
        "d": "2026-01-01",
        "e": "012",
        "f": ".nan",
        "g": "1_000",
        "h": "10:30",
    }
    assert catalog_file.read('{"a": 0.10}', "json") == {"a": "0.10"}


def test_json_without_numbers_worth_the_name_is_refused() -> None:
    with pytest.raises(catalog_file.UnreadableCatalog, match="NaN"):
        catalog_file.read('{"a": NaN}', "json")


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9
)


@given(
    offers=st.lists(
        st.fixed_dictionaries(
            {
                "sku": st.text("ABC-1", min_size=1, max_size=5),
                "name": WORDS,
                "price": st.decimals(0, 99, places=2).map(str),
                "currency": st.just("USD"),
                "items": st.lists(
                    st.fixed_dictionaries(
                        {"product_key": WORDS, "quantity": st.integers(1, 9).map(str)},
                        optional={"period": st.just("days"), "value": st.integers(1, 9)},
                    ),
                    min_size=1,
                    max_size=3,
                ),
            },
            optional={"active": st.booleans(), "metadata": st.just({"a": [1, "ü,\n"]})},
        ),
        max_size=4,
        unique_by=lambda offer: offer["sku"],
    )
)
def test_offers_are_the_same_after_a_table(offers: list[dict[str, Any]]) -> None:
    file = io.StringIO(newline="")
    catalog_csv.write(file, "offers", offers)
    file.seek(0)

    assert catalog_csv.read(file, "offers").entries == offers


def test_lines_of_one_offer_must_agree() -> None:
    text = (
        "sku,name,price,currency,active,metadata,product_key,quantity,period,value\r\n"
        "A,One,1,USD,,,X,1,,\r\n"
        "a,Other,1,USD,,,X,1,,\r\n"
    )
    with pytest.raises(catalog_csv.UnreadableTable, match=r"line 3: says something else .* line 2"):
        catalog_csv.read(io.StringIO(text, newline=""), "offers")
