"""A page as PDF, out of the same texts as the HTML."""

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fpdf import FPDF, XPos, YPos
from fpdf.enums import TableBordersLayout, TableCellFillMode, VAlign
from fpdf.fonts import FontFace

from tasks.papers import fonts
from tasks.papers.fonts import MAIN, Face
from tasks.papers.paper import Paper, Party, Row, Sum

MARGIN: Final = 16.0
"""Millimetres on each side of an A4 page."""

BOTTOM: Final = 20.0
"""Millimetres below, where the number of the page stands."""

WIDTHS: Final = (84, 32, 32, 30)
"""Of the table's columns, in millimetres: a page without its margins."""

MOST_NOTES: Final = 12
"""Notes in one row of the table, which is never broken: it must fit a page."""

BLACK: Final = (27, 35, 48)
GREY: Final = (91, 102, 117)
AMBER: Final = (138, 90, 0)
RULE: Final = (200, 205, 212)


def render(paper: Paper, *, made_at: dt.datetime, font: Path | None = None) -> bytes:
    """Return the page as PDF; the same page and instant give the same bytes.

    Args:
        made_at: what the file says of its making.
        font: a TrueType font with letters that ours lack.

    Raises:
        NoLetter: a letter is in no font.
    """
    with fonts.faces(_texts(paper), own=font) as faces:
        pdf = _Page(paper, faces)
        pdf.set_creation_date(made_at)
        pdf.add_page()
        _head(pdf, paper)
        _parties(pdf, paper)
        _table(pdf, paper)
        _sums(pdf, paper.sums)
        _tail(pdf, paper)
        return bytes(pdf.output())


class _Page(FPDF):
    """An A4 page whose foot says what it is part of."""

    def __init__(self, paper: Paper, faces: Sequence[Face]) -> None:
        super().__init__(format="A4", unit="mm")
        self._said = f"{paper.title} {paper.number}".strip()
        for face in faces:
            self.add_font(face.family, style=face.style, fname=face.path)
        others = sorted({face.family for face in faces} - {MAIN}, reverse=True)
        self.set_fallback_fonts(others, exact_match=False)
        self.set_margins(MARGIN, MARGIN)
        self.set_auto_page_break(True, margin=BOTTOM)
        self.set_title(self._said)
        self.set_author(paper.sender.name)
        self.set_lang("en")

    def footer(self) -> None:
        """Write the foot of a page; called by the library."""
        self.set_y(-BOTTOM + 6)
        self.use(8, colour=GREY)
        self.cell(0, 5, self._said)
        self.set_x(MARGIN)
        self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="R")

    def use(self, size: float, *, bold: bool = False, colour: tuple[int, int, int] = BLACK) -> None:
        """Go on in this size, in points, weight and colour."""
        self.set_font(MAIN, style="B" if bold else "", size=size)
        self.set_text_color(*colour)

    def line_of(
        self, text: str, *, at: float = MARGIN, width: float = 0, align: str = "L", high: float = 5
    ) -> None:
        """Write a text, broken where it is too long, and go on below it."""
        self.set_x(at)
        self.multi_cell(width, high, text, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _texts(paper: Paper) -> Iterator[str]:
    yield from (
        paper.title,
        paper.number,
        paper.stamp.upper(),
        "0123456789/ Amount ()ToQuantityUnit",
    )
    for party in (paper.sender, paper.receiver):
        yield from (party.name, *party.lines)
    for fact in paper.facts:
        yield from fact
    for row in paper.rows:
        yield from (row.description, row.quantity, row.unit_price, row.amount, *row.notes)
    for one in paper.sums:
        yield from (one.label, one.amount)
    yield from (*paper.remarks, *paper.footer)


def _head(pdf: _Page, paper: Paper) -> None:
    """What it is on the left, who sends it on the right."""
    top = pdf.get_y()
    pdf.use(20, bold=True)
    pdf.line_of(paper.title, width=80, high=9)
    pdf.use(11, colour=GREY)
    pdf.line_of(paper.number, width=80, high=6)
    if paper.stamp:
        pdf.use(9, bold=True, colour=AMBER)
        pdf.set_draw_color(*AMBER)
        pdf.ln(1)
        pdf.cell(
            pdf.get_string_width(paper.stamp.upper()) + 6,
            6,
            paper.stamp.upper(),
            border=1,
            align="C",
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )
    left = pdf.get_y()
    pdf.set_y(top)
    _party(pdf, paper.sender, at=MARGIN + 85, align="R")
    pdf.set_y(max(left, pdf.get_y()) + 10)


def _parties(pdf: _Page, paper: Paper) -> None:
    """Who gets it on the left, what is to be known of it on the right."""
    top = pdf.get_y()
    pdf.use(8, colour=GREY)
    pdf.line_of("To", width=80)
    _party(pdf, paper.receiver, at=MARGIN, align="L")
    left = pdf.get_y()
    pdf.set_y(top + 5)
    for label, value in paper.facts:
        at = pdf.get_y()
        pdf.use(9, colour=GREY)
        pdf.line_of(label, at=MARGIN + 88, width=30)
        pdf.set_y(at)
        pdf.use(9)
        pdf.line_of(value, at=MARGIN + 116, width=62, align="R")
    pdf.set_y(max(left, pdf.get_y()) + 8)


def _party(pdf: _Page, party: Party, *, at: float, align: str) -> None:
    width = 93.0 if align == "R" else 80.0
    pdf.use(10, bold=True)
    pdf.line_of(party.name, at=at, width=width, align=align)
    pdf.use(9, colour=GREY if align == "R" else BLACK)
    for line in party.lines:
        pdf.line_of(line, at=at, width=width, align=align, high=4.5)


def _table(pdf: _Page, paper: Paper) -> None:
    pdf.use(9)
    pdf.set_draw_color(*RULE)
    heading = FontFace(emphasis="BOLD", size_pt=8.5)
    with pdf.table(
        col_widths=WIDTHS,
        text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT"),
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        cell_fill_mode=TableCellFillMode.NONE,
        headings_style=heading,
        line_height=5,
        padding=(1, 0.5),
        v_align=VAlign.T,
    ) as table:
        titles = table.row()
        for text in ("Description", "Quantity", "Unit price", f"Amount ({paper.currency})"):
            titles.cell(text)
        for row in paper.rows:
            _row(table, row)


def _row(table: Any, row: Row) -> None:
    """One line of the table; many notes go on in rows of their own, which may be on other pages."""
    notes = [f"    {note}" for note in row.notes]
    cells = table.row()
    cells.cell("\n".join((row.description, *notes[:MOST_NOTES])))
    for text in (row.quantity, row.unit_price, row.amount):
        cells.cell(text)
    for start in range(MOST_NOTES, len(notes), MOST_NOTES):
        cells = table.row()
        cells.cell("\n".join(notes[start : start + MOST_NOTES]))
        for _ in WIDTHS[1:]:
            cells.cell("")


def _sums(pdf: _Page, sums: Sequence[Sum]) -> None:
    """The figures below the table: all on one page."""
    pdf.ln(3)
    if pdf.will_page_break(6 * len(sums)):
        pdf.add_page()
    for one in sums:
        pdf.use(10 if one.strong else 9, bold=one.strong)
        if one.strong:
            pdf.set_draw_color(*BLACK)
            pdf.line(MARGIN + 78, pdf.get_y(), MARGIN + sum(WIDTHS), pdf.get_y())
        pdf.set_x(MARGIN + 78)
        pdf.cell(64, 6, one.label)
        pdf.cell(36, 6, one.amount, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _tail(pdf: _Page, paper: Paper) -> None:
    pdf.ln(6)
    pdf.use(9)
    for remark in paper.remarks:
        pdf.line_of(remark)
    pdf.ln(4)
    pdf.use(8, colour=GREY)
    for line in paper.footer:
        pdf.line_of(line, high=4)
