"""The letters of a PDF: fonts out of a wheel, and the operator's own for what they lack."""

import functools
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import pymupdf_fonts
from fontTools.ttLib import TTFont

from models.rules.refusal import Refusal

MAIN: Final = "main"
"""Noto Sans: Latin, Greek, Cyrillic, signs of currencies."""

OTHER: Final = "other"
"""FiraGO: Arabic, Devanagari, Georgian, Hebrew, Thai, with the rules for their shapes."""

OWN: Final = "own"
"""The operator's, for all that both lack, such as Chinese, Tamil or Khmer."""

NAMES: Final = {
    (MAIN, ""): "notos",
    (MAIN, "B"): "notosbo",
    (OTHER, ""): "figo",
    (OTHER, "B"): "figbo",
}


class NoLetter(Refusal):
    """A text has a letter that no font has."""

    code: ClassVar[str] = "paper.no_letter"


@dataclass(frozen=True, slots=True)
class Face:
    """One cut of a family, in a file, and the letters it has. `style` is "" or "B"."""

    family: str
    style: str
    path: Path
    letters: frozenset[str]


@contextmanager
def faces(texts: Iterator[str], *, own: Path | None) -> Iterator[list[Face]]:
    """Give the fonts that have all letters of the texts, in files while the block runs.

    Args:
        own: the operator's TrueType font.

    Raises:
        NoLetter: a letter is in none of them.
    """
    letters = {letter for text in texts for letter in text if letter.isprintable()}
    needed = _families(letters, own)
    with tempfile.TemporaryDirectory() as folder:
        yield [_face(family, style, Path(folder), own) for family in needed for style in ("", "B")]


def _families(letters: set[str], own: Path | None) -> list[str]:
    families = [MAIN]
    missing = letters - _letters(MAIN)
    if missing & _letters(OTHER):
        families.append(OTHER)
        missing -= _letters(OTHER)
    if missing and own is not None:
        families.append(OWN)
        missing -= _letters_of(own)
    if missing:
        raise NoLetter(
            f"no font has the letter {min(missing)!r}; name a TrueType font that has it with "
            "BILLING_PAPER_FONT"
        )
    return families


def _face(family: str, style: str, folder: Path, own: Path | None) -> Face:
    if family == OWN and own is not None:
        return Face(family, style, own, _letters_of(own))
    path = folder / f"{NAMES[family, style]}.ttf"
    path.write_bytes(_content(NAMES[family, style]))
    return Face(family, style, path, _letters(family))


@functools.cache
def _content(name: str) -> bytes:
    content: bytes = pymupdf_fonts.myfont(name)
    return content


@functools.cache
def _letters(family: str) -> frozenset[str]:
    return _letters_of(io.BytesIO(_content(NAMES[family, ""])))


def _letters_of(font: Path | io.BytesIO) -> frozenset[str]:
    with TTFont(font, lazy=True) as read:
        return frozenset(chr(code) for code in read.getBestCmap())
