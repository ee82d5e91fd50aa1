"""Which texts need their letters shaped and put in order, and where such a text may be broken.

Most texts are a letter behind the other, from left to right. In others letters join, change places
or stand on one another by rules that are the font's own (OpenType); some are read from the right.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

SHAPED: Final = (
    (0x0600, 0x08FF),  # Arabic, Syriac, Thaana, N'Ko, Samaritan, Mandaic
    (0x0900, 0x0DFF),  # Devanagari, Bengali, Gurmukhi, Gujarati, Oriya, Tamil, Telugu, ... Sinhala
    (0x0F00, 0x109F),  # Tibetan, Burmese
    (0x1780, 0x18AF),  # Khmer, Mongolian
    (0x1A20, 0x1CFF),  # Tai Tham, Balinese, Sundanese, Lepcha and others
    (0xA840, 0xA8FF),  # Phags-pa, Saurashtra, more of Devanagari
    (0xA930, 0xAAFF),  # Javanese, Cham and others
    (0x11000, 0x11FFF),  # Brahmi, Chakma and others
)
"""Letters that are not written one after the other."""

FROM_THE_RIGHT: Final = frozenset({"R", "AL", "AN", "RLE", "RLO", "RLI"})
"""Bidirectional classes of what is read from the right."""

STACKS: Final = 9
"""The combining class of a virama: what comes after it stands below or beside what came before."""

SILENCES: Final = frozenset("\u0e3a\u103a")
"""Viramas of Thai and Burmese that stand above or below a letter and stack nothing."""

JOINER: Final = "\u200d"

LEADS: Final = frozenset("\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4")
"""Vowels of Thai and Lao that are written before the letter they belong to."""

FOLLOWS: Final = frozenset("\u0e33\u0eb3")
"""Vowels of Thai and Lao that are letters by themselves, and begin no line."""


def is_shaped(text: str) -> bool:
    """Tell whether a text needs the font's rules, or is read from the right."""
    return any(
        unicodedata.category(letter) in {"Mn", "Mc"}
        or unicodedata.bidirectional(letter) in FROM_THE_RIGHT
        or any(first <= ord(letter) <= last for first, last in SHAPED)
        for letter in text
        if letter > "\u02ff"
    )


def clusters(text: str) -> Iterator[str]:
    """Give a text in pieces that no line may break: letters with all that stands on them."""
    piece = ""
    for letter in text:
        if piece and not _belongs(piece[-1], letter):
            yield piece
            piece = ""
        piece += letter
    if piece:
        yield piece


def _belongs(before: str, letter: str) -> bool:
    return (
        unicodedata.category(letter) in {"Mn", "Mc", "Cf"}
        or letter in FOLLOWS
        or before in LEADS
        or before == JOINER
        or (unicodedata.combining(before) == STACKS and before not in SILENCES)
    )
