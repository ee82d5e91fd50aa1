"""Texts whose letters take shapes and places from one another, and where they may be broken."""

import pytest

from tasks.papers import scripts


@pytest.mark.parametrize(
    "text", ["", "Acme (1) GmbH", "Ελλάς", "Ćwikła", "საქართველო", "₹ 1", "株式会社"]
)
def test_what_is_one_letter_behind_the_other_is_left_alone(text: str) -> None:
    assert not scripts.is_shaped(text)


@pytest.mark.parametrize(
    "text",
    ["חברה", "Acme بيت", "हिन्दी", "தமிழ்", "ខ្មែរ", "မြန်မာ", "ที่นี่", "Cafe\u0301", "ߒߞߏ", "ܐܒ"],
)
def test_letters_that_join_stack_or_are_read_from_the_right_are_shaped(text: str) -> None:
    assert scripts.is_shaped(f"Ltd {text}")


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("abc", ["a", "b", "c"]),
        ("हिन्दी", ["हि", "न्दी"]),
        ("क्षत्रिय", ["क्ष", "त्रि", "य"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("น้ำเที่", ["น้ำ", "เที่"]),
        ("क्\u200dष", ["क्\u200dष"]),
        ("بَيت", ["بَ", "ي", "ت"]),
        ("", []),
    ],
)
def test_no_line_breaks_inside_what_stands_together(word: str, pieces: list[str]) -> None:
    assert list(scripts.clusters(word)) == pieces
