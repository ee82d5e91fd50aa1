"""What the page is made of, before it is laid out: sections with plots and tables. No markup."""

from dataclasses import dataclass

from worker.demo.page.plot import Plot


@dataclass(frozen=True, slots=True)
class Cell:
    """A text of a table; `key` names the figure it is, for programs that read the page."""

    text: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under heads; the first column is words, the others are figures.

    A `folded` one is opened by whoever wants it: it stands below a plot that says the same.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; `words` say what there is to see."""

    title: str
    words: str
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]


def number(value: object, key: str = "") -> Cell:
    """A count or a quantity, in groups of thousands."""
    return Cell(f"{value:,}", key)
