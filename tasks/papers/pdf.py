"""A page as PDF, out of the same texts as the HTML."""

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tasks.papers import fonts
from tasks.papers.paper import Paper, Party, Row, Sum
from tasks.papers.sheet import BLACK, GREY, LEFT, RIGHT, RULE, Colour, Sheet, Style

AMBER: Final = (138, 90, 0)

TEXT: Final = Style(9)
SMALL: Final = Style(8, colour=GREY, high=4)
STRONG: Final = Style(10, bold=True, high=5.5)

FIGURES: Final = ((132.0, 28.0), (162.0, 28.0), (RIGHT, 30.0))
"""Of quantity, unit price and amount: where each ends, from the left, and how wide it is."""

DESCRIPTION: Final = 86.0
"""Millimetres of the table's first column."""

SUMS: Final = 96.0
"""Where the figures below the table begin."""

LABEL: Final = 60.0
"""How wide the words before such a figure are at most."""

PADDING: Final = 1.6
"""Millimetres above and below the texts of a row."""


def render(paper: Paper, *, made_at: dt.datetime, font: Path | None = None) -> bytes:
    """Return the page as PDF; the same page and instant give the same bytes.

    Args:
        made_at: what the file says of its making.
        font: a TrueType font with letters that ours lack.

    Raises:
        NoLetter: a letter is in no font.
    """
    said = f"{paper.title} {paper.number}".strip()
    with fonts.faces(_texts(paper), own=font) as faces:
        sheet = Sheet(faces)
        sheet.set_creation_date(made_at)
        sheet.set_title(said)
        sheet.set_author(paper.sender.name)
        sheet.add_page()
        _head(sheet, paper)
        _parties(sheet, paper)
        _table(sheet, paper)
        _sums(sheet, paper.sums)
        _tail(sheet, paper)
        sheet.number_pages(said)
        return bytes(sheet.output())


def _texts(paper: Paper) -> Iterator[str]:
    yield from (
        paper.title,
        paper.number,
        paper.stamp.upper(),
        "0123456789/",
        *_titles(paper),
        "To",
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


def _titles(paper: Paper) -> tuple[str, ...]:
    return ("Description", "Quantity", "Unit price", f"Amount ({paper.currency})")


def _head(sheet: Sheet, paper: Paper) -> None:
    """What it is on the left, who sends it on the right."""
    top = sheet.y
    sheet.put(paper.title, Style(20, bold=True, high=9), width=80)
    sheet.put(paper.number, Style(11, colour=GREY, high=6), width=80)
    if paper.stamp:
        sheet.ln(1)
        sheet.stamp(paper.stamp.upper(), Style(9, bold=True, colour=AMBER, high=6))
    left, sheet.y = sheet.y, top
    _party(sheet, paper.sender, at=LEFT + 85, width=93, align="R", colour=GREY)
    sheet.y = max(left, sheet.y) + 10


def _parties(sheet: Sheet, paper: Paper) -> None:
    """Who gets it on the left, what is to be known of it on the right."""
    top = sheet.y
    sheet.put("To", SMALL, width=80)
    _party(sheet, paper.receiver, at=LEFT, width=82, align="L", colour=BLACK)
    left, sheet.y = sheet.y, top + SMALL.high
    for label, value in paper.facts:
        at = sheet.y
        sheet.put(label, Style(9, colour=GREY), at=LEFT + 90, width=30)
        under, sheet.y = sheet.y, at
        sheet.put(value, TEXT, at=LEFT + 120, width=58, align="R")
        sheet.y = max(under, sheet.y)
    sheet.y = max(left, sheet.y) + 8


def _party(
    sheet: Sheet, party: Party, *, at: float, width: float, align: str, colour: Colour
) -> None:
    sheet.put(party.name, Style(10, bold=True), at=at, width=width, align=align)
    for line in party.lines:
        sheet.put(line, Style(9, colour=colour, high=4.5), at=at, width=width, align=align)


def _table(sheet: Sheet, paper: Paper) -> None:
    _titles_row(sheet, paper)
    for row in paper.rows:
        _row(sheet, row, paper)


def _titles_row(sheet: Sheet, paper: Paper) -> None:
    style, at = Style(8.5, bold=True), sheet.y
    description, *figures = _titles(paper)
    sheet.put(description, style, width=DESCRIPTION)
    _figures(sheet, figures, style, at=at)
    sheet.y = at + style.high + 0.5
    sheet.rule(LEFT, BLACK)


def _row(sheet: Sheet, row: Row, paper: Paper) -> None:
    """A line with its notes: on one page if one can hold it, else the notes go on on the next."""
    described = sheet.lines(row.description, TEXT, DESCRIPTION)
    notes = [line for note in row.notes for line in sheet.lines(note, SMALL, DESCRIPTION - 3)]
    high = 2 * PADDING + len(described) * TEXT.high + len(notes) * SMALL.high
    if sheet.room < min(high, sheet.most_room - 20):
        sheet.add_page()
        _titles_row(sheet, paper)
    sheet.ln(PADDING)
    top = sheet.y
    sheet.put(row.description, TEXT, width=DESCRIPTION)
    under = max(sheet.y, _figures(sheet, (row.quantity, row.unit_price, row.amount), TEXT, at=top))
    sheet.y = under
    for note in row.notes:
        if sheet.room < SMALL.high + PADDING:
            sheet.add_page()
            _titles_row(sheet, paper)
        sheet.put(note, SMALL, at=LEFT + 3, width=DESCRIPTION - 3)
    sheet.ln(PADDING)
    sheet.rule(LEFT, RULE)


def _figures(sheet: Sheet, texts: Sequence[str], style: Style, *, at: float) -> float:
    """Write figures into their columns, and return how far down they reach."""
    under = at
    for text, (end, width) in zip(texts, FIGURES, strict=True):
        sheet.y = at
        sheet.put(text, style, at=end - width, width=width, align="R")
        under = max(under, sheet.y)
    return under


def _sums(sheet: Sheet, sums: Sequence[Sum]) -> None:
    """The figures below the table: all on one page, if one can hold them."""
    sheet.ln(3)
    high = sum(_high(sheet, one) for one in sums)
    if sheet.room < high <= sheet.most_room:
        sheet.add_page()
    for one in sums:
        if sheet.room < min(_high(sheet, one), sheet.most_room):
            sheet.add_page()
        if one.strong:
            sheet.rule(SUMS, BLACK)
        sheet.ln(0.5)
        at = sheet.y
        sheet.put(one.label, _sum_style(one), at=SUMS, width=LABEL)
        under, sheet.y = sheet.y, at
        sheet.put(one.amount, _sum_style(one), at=RIGHT - 36, width=36, align="R")
        sheet.y = max(under, sheet.y) + 0.5


def _high(sheet: Sheet, one: Sum) -> float:
    style = _sum_style(one)
    return style.high * len(sheet.lines(one.label, style, LABEL)) + 1


def _sum_style(one: Sum) -> Style:
    return STRONG if one.strong else TEXT


def _tail(sheet: Sheet, paper: Paper) -> None:
    sheet.ln(6)
    for remark in paper.remarks:
        sheet.put(remark, TEXT)
    sheet.ln(4)
    for line in paper.footer:
        sheet.put(line, SMALL)
