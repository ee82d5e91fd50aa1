"""An A4 sheet on which texts are written by place, width and style, in whatever script."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fpdf import FPDF
from fpdf.enums import MethodReturnValue

from tasks.papers import scripts
from tasks.papers.fonts import MAIN, OTHER, OWN, Face

LEFT: Final = 16.0
RIGHT: Final = 194.0
"""Where texts begin and end, in millimetres from the left of 210."""

TOP: Final = 16.0
BOTTOM: Final = 20.0
"""Millimetres above and below; in those below stands the number of the page."""

Colour = tuple[int, int, int]

BLACK: Final = (27, 35, 48)
GREY: Final = (91, 102, 117)
RULE: Final = (200, 205, 212)


@dataclass(frozen=True, slots=True)
class Style:
    """How a text is written: points, weight, colour, millimetres from line to line."""

    size: float
    bold: bool = False
    colour: Colour = BLACK
    high: float = 5.0


class Sheet(FPDF):
    """Pages of A4, written from top to bottom."""

    def __init__(self, faces: Sequence[Face]) -> None:
        super().__init__(format="A4", unit="mm")
        self._letters = {face.family: face.letters for face in faces}
        for face in faces:
            self.add_font(face.family, style=face.style, fname=face.path)
        self.set_fallback_fonts(
            [family for family in (OTHER, OWN) if family in self._letters], exact_match=False
        )
        self.set_margins(LEFT, TOP)
        self.set_auto_page_break(True, margin=BOTTOM)
        self.c_margin = 0
        # No text is taken for a place to put the number of pages.
        self.alias_nb_pages("")
        self.set_lang("en")

    @property
    def room(self) -> float:
        """Millimetres that are left on the page."""
        return float(self.page_break_trigger - self.y)

    @property
    def most_room(self) -> float:
        """Millimetres of an empty page."""
        return float(self.page_break_trigger) - TOP

    def put(
        self,
        text: str,
        style: Style,
        *,
        at: float = LEFT,
        width: float = RIGHT - LEFT,
        align: str = "L",
    ) -> None:
        """Write a text, broken where it is too long, and go on below it."""
        for line in self.lines(text, style, width):
            self.set_x(at)
            self._use(line, style)
            self.cell(width, style.high, line, align=align)
            self.ln(style.high)

    def lines(self, text: str, style: Style, width: float) -> list[str]:
        """Return a text in lines of at most `width`, in the order in which they are thought."""
        if not text:
            return [""]
        self._use(text, style)
        if scripts.is_shaped(text):
            return self._shaped_lines(text, width)
        found: Any = self.multi_cell(
            width, style.high, text, dry_run=True, output=MethodReturnValue.LINES
        )
        return list(found)

    def stamp(self, text: str, style: Style) -> None:
        """Write a text in a frame of its colour."""
        self._use(text, style)
        self.set_draw_color(*style.colour)
        self.cell(self.get_string_width(text) + 6, style.high, text, border=1, align="C")
        self.ln(style.high)

    def rule(self, start: float, colour: Colour) -> None:
        """Draw a line to the right end of the texts."""
        self.set_draw_color(*colour)
        self.line(start, self.y, RIGHT, self.y)

    def number_pages(self, said: str) -> None:
        """Write at the foot of each page what it is part of, and which of how many it is."""
        self.set_auto_page_break(False)
        style = Style(8, colour=GREY)
        for number in range(1, self.pages_count + 1):
            self.page = number
            for text, align in ((said, "L"), (f"{number} / {self.pages_count}", "R")):
                self.set_xy(LEFT, self.h - BOTTOM + 6)
                self._use(text, style)
                self.cell(RIGHT - LEFT, style.high, text, align=align)

    def _shaped_lines(self, text: str, width: float) -> list[str]:
        """Break between words, and inside one that is too long between its clusters: the library
        measures letter by letter, which is wrong of letters that take their shapes from others."""
        lines = [""]
        for word in text.split():
            spaced = f"{lines[-1]} {word}".lstrip()
            if self.get_string_width(spaced) <= width:
                lines[-1] = spaced
                continue
            pieces = [word] if self.get_string_width(word) <= width else scripts.clusters(word)
            if lines[-1]:
                lines.append("")
            for piece in pieces:
                if lines[-1] and self.get_string_width(lines[-1] + piece) > width:
                    lines.append("")
                lines[-1] += piece
        return lines

    def _use(self, text: str, style: Style) -> None:
        """Go on in a font that has all of a text, or else in ours with others' letters in it; by
        the rules of that font, if the text needs them."""
        self.set_text_shaping(scripts.is_shaped(text))
        letters = {letter for letter in text if letter.isprintable()}
        family = next((one for one, has in self._letters.items() if letters <= has), MAIN)
        self.set_font(family, style="B" if style.bold else "", size=style.size)
        self.set_text_color(*style.colour)
        # What was written last may have been in another font than the library remembers.
        self.current_font_is_set_on_page = False
