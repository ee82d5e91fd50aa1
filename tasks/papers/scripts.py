"""Texts as they stand on a line, left to right: Arabic letters joined, right-to-left turned round.

A PDF is told where each glyph stands. Scripts whose letters also change places or shapes by rules
of a font's own, as those of India do, are refused: on an HTML page they are right.
"""

import functools
import unicodedata
from typing import ClassVar, Final

from fpdf.bidi import BidiParagraph

from models.rules.refusal import Refusal

SHAPED: Final = (
    (0x0700, 0x08FF),  # Syriac, Thaana, N'Ko, Samaritan, Mandaic, more of Arabic
    (0x0900, 0x0DFF),  # Devanagari, Bengali, Gurmukhi, Gujarati, Oriya, Tamil, Telugu, ... Sinhala
    (0x0F00, 0x109F),  # Tibetan, Burmese
    (0x1780, 0x18AF),  # Khmer, Mongolian
    (0x1A20, 0x1CFF),  # Tai Tham, Balinese, Sundanese, Lepcha and others
    (0xA840, 0xA8FF),  # Phags-pa, Saurashtra, more of Devanagari
    (0xA930, 0xAAFF),  # Javanese, Cham and others
    (0x11000, 0x11FFF),  # Brahmi, Chakma and others
)
"""Letters that are not written one after the other."""

LAM: Final = "\u0644"
TATWEEL: Final = "\u0640"
"""A stroke that joins on both sides."""


class ScriptNotLaidOut(Refusal):
    """A text is in a script that a PDF page can not be laid out in."""

    code: ClassVar[str] = "paper.script_not_laid_out"


def check(text: str) -> None:
    """Raise ScriptNotLaidOut if letters of the text are not written one after the other."""
    for letter in text:
        if any(first <= ord(letter) <= last for first, last in SHAPED):
            raise ScriptNotLaidOut(
                f"{letter!r} is of a script whose letters take shapes and places by their "
                "neighbours, which a PDF here does not do; write the page as HTML, and print that"
            )


def joined(text: str) -> str:
    """Return a text with each Arabic letter in the shape it has beside its neighbours."""
    if not any("\u0600" <= letter <= "\u06ff" for letter in text):
        return text
    letters = _with_ligatures(text)
    bases = [place for place, letter in enumerate(letters) if not _is_mark(letter)]
    shaped = list(letters)
    for before, place, after in zip([None, *bases], bases, [*bases[1:], None], strict=False):
        letter = letters[place]
        joins_before = before is not None and _leads_on(letters[before]) and _follows(letter)
        joins_after = after is not None and _leads_on(letter) and _follows(letters[after])
        shaped[place] = _shape(letter, before=joins_before, after=joins_after)
    return "".join(shaped)


def visual(line: str) -> str:
    """Return a line in the order in which it is read off the page from left to right."""
    if all(unicodedata.bidirectional(letter) not in {"R", "AL", "RLE", "RLO"} for letter in line):
        return line
    order = BidiParagraph(line).get_reordered_characters()
    return "".join(
        _mirrored(one.character) if one.embedding_level % 2 else one.character for one in order
    )


def _with_ligatures(text: str) -> list[str]:
    """The letters of a text; a lam and the alef that follows it are one."""
    letters: list[str] = []
    for letter in text:
        if letters and letters[-1] + letter in _forms() and letters[-1] == LAM:
            letters[-1] += letter
        else:
            letters.append(letter)
    return letters


@functools.cache
def _forms() -> dict[str, dict[str, str]]:
    """The shapes of each letter, and of a lam with an alef, by where it stands in a word."""
    found: dict[str, dict[str, str]] = {}
    for code in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFEFD)):
        where, *bases = unicodedata.decomposition(chr(code)).split() or [""]
        base = "".join(chr(int(one, 16)) for one in bases)
        if where in {"<initial>", "<medial>", "<final>", "<isolated>"} and (
            len(base) == 1 or (len(base) == 2 and base[0] == LAM and code >= 0xFEF5)
        ):
            found.setdefault(base, {}).setdefault(where[1:-1], chr(code))
    return found


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter[-1]) in {"Mn", "Cf"}


def _leads_on(letter: str) -> bool:
    """Whether it joins the letter after it."""
    return letter == TATWEEL or "initial" in _forms().get(letter, {})


def _follows(letter: str) -> bool:
    """Whether it joins the letter before it."""
    return letter == TATWEEL or "final" in _forms().get(letter, {})


def _shape(letter: str, *, before: bool, after: bool) -> str:
    forms = _forms().get(letter, {})
    if before and after:
        return forms.get("medial", letter)
    if before:
        return forms.get("final", letter)
    if after:
        return forms.get("initial", letter)
    # A letter by itself looks as it is written; fonts seldom have it twice.
    return letter if len(letter) == 1 else forms.get("isolated", letter)


def _mirrored(letter: str) -> str:
    return _BRACKETS.get(letter, letter) if unicodedata.mirrored(letter) else letter


_BRACKETS: Final = dict(zip("()[]{}<>«»", ")(][}{><»«", strict=True))
