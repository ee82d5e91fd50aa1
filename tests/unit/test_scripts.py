"""Scripts that are not written from left to right, or whose letters join."""

import pytest

from tasks.papers import scripts
from tasks.papers.scripts import ScriptNotLaidOut


def test_what_is_written_from_left_to_right_stays_as_it_is() -> None:
    for text in ("Acme (1) GmbH", "Ελλάς", "บริษัท", ""):
        assert scripts.visual(scripts.joined(text)) == text


def test_hebrew_is_turned_round_and_numbers_in_it_are_not() -> None:
    assert scripts.visual("חברה 12") == "12 הרבח"
    assert scripts.visual("סכום (כולל) 1") == "1 (ללוכ) םוכס"
    assert scripts.visual("Acme חברה Ltd") == "Acme הרבח Ltd"


@pytest.mark.parametrize(
    ("word", "shapes"),
    [
        # initial, medial, final; then a letter that joins none after it
        ("بيت", "\ufe91\ufef4\ufe96"),
        ("دار", "دار"),
        ("كتاب", "\ufedb\ufe98\ufe8eب"),
        # lam and alef are one shape, by themselves and behind a letter
        ("لا", "\ufefb"),
        ("سلام", "\ufeb3\ufefcم"),
        # a mark above a letter parts no letters
        ("بَيت", "\ufe91\u064e\ufef4\ufe96"),
        ("بـ", "\ufe91\u0640"),
        ("پارس", "\ufb58\ufe8eرس"),
    ],
)
def test_arabic_letters_take_the_shape_of_their_place(word: str, shapes: str) -> None:
    assert scripts.joined(word) == shapes


@pytest.mark.parametrize("text", ["हिन्दी", "தமிழ்", "ខ្មែរ", "မြန်မာ"])
def test_scripts_that_would_come_out_wrong_are_refused_and_the_way_out_is_named(text: str) -> None:
    with pytest.raises(ScriptNotLaidOut, match="HTML"):
        scripts.check(text)
