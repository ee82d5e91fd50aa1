"""Tables that fit: with less around their cells where room is scarce, else a record of each row.

A table that is too wide would be cut: of an id, a name or a figure a part is worth nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Column, Table

PROSE: Final = 24
"""Characters of a line to which longer texts may be wrapped, if none of their words is longer."""

AROUND_A_CELL: Final = 3
"""Characters: a space on both sides and a border."""

APART: Final = 2
"""Characters between columns without borders."""


def least(table: Table) -> int:
    """Return the characters of a line that a table of columns side by side needs."""
    return sum(_needed(column) + AROUND_A_CELL for column in table.columns) + 1


def fitted(table: Table, width: int) -> Table:
    """Return a table for lines of `width` characters in which nothing is cut.

    That is the table itself, its texts wrapped where it must be; without borders and without its
    empty columns, if it is too wide for that; or, if it is still, its rows below one another, each
    a line for each cell that is not empty.
    """
    if least(table) <= width:
        return _wrapped(table, width - least(table))
    bare = _bare(table)
    room = width - sum(_needed(column) + APART for column in bare.columns) + APART
    return _records(table) if room < 0 else _wrapped(bare, room)


def _wrapped(table: Table, room: int) -> Table:
    """Give what room there is beyond the least to the columns that wrap their texts."""
    wrapped = [column for column in table.columns if _needed(column) < _longest(column)]
    wrapped.sort(key=lambda column: _longest(column) - _needed(column))
    for place, column in enumerate(wrapped):
        more = min(_longest(column) - _needed(column), room // (len(wrapped) - place))
        column.width = _needed(column) + more
        room -= more
    return table


def _bare(table: Table) -> Table:
    bare = Table(box=None, padding=(0, APART, 0, 0), pad_edge=False, header_style="dim")
    kept = [column for column in table.columns if any(str(cell) for cell in column.cells)]
    for column in kept:
        bare.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    for row in _rows(kept):
        bare.add_row(*row)
    return bare


def _records(table: Table) -> Table:
    records = Table.grid(padding=(0, 2, 0, 0))
    records.add_column(style="dim", no_wrap=True)
    records.add_column(overflow="fold")
    for number, row in enumerate(_rows(table.columns)):
        if number:
            records.add_row()
        for column, cell in zip(table.columns, row, strict=True):
            if str(cell):
                records.add_row(str(column.header), cell)
    return records


def _rows(columns: Sequence[Column]) -> Iterator[tuple[RenderableType, ...]]:
    return zip(*(column.cells for column in columns), strict=True)


def _needed(column: Column) -> int:
    longest = _longest(column)
    if column.no_wrap or column.justify == "right":
        return longest
    words = max((cell_len(word) for line in _lines(column) for word in line.split()), default=0)
    return max(words, min(longest, PROSE))


def _longest(column: Column) -> int:
    return max(map(cell_len, _lines(column)), default=0)


def _lines(column: Column) -> Iterator[str]:
    for cell in (column.header, *column.cells, column.footer):
        yield from str(cell).splitlines()
