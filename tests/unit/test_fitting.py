"""Tables in terminals of every width: nothing that they hold is ever cut."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from worker.cli import fitting

ID = "01a200c3-676c-794f-a9bd-b863b51fe162"
REASON = "amount: must be 0 or more: the metric's meter allows no corrections"


def test_a_table_with_room_is_a_table() -> None:
    drawn = _drawn(_table(), 160)

    assert drawn[0].startswith("┏")
    assert any(ID in line and REASON in line for line in drawn)


def test_texts_are_wrapped_before_anything_else_gives_way() -> None:
    drawn = _drawn(_table(), 100)

    assert drawn[0].startswith("┏")
    assert any(ID in line and "1,250,000" in line for line in drawn)
    assert not any(REASON in line for line in drawn)
    assert all(word in "\n".join(drawn) for word in REASON.split())


def test_borders_and_empty_columns_go_where_room_is_scarce() -> None:
    table = _table()

    drawn = _drawn(table, fitting.least(table) - 1)

    assert drawn[0].split() == ["endpoint", "reason", "amount"]
    assert ID in drawn[1]


def test_a_row_is_a_record_where_it_fits_in_no_other_way() -> None:
    drawn = _drawn(_table(), 60)

    assert drawn[0] == f"endpoint  {ID}"
    assert drawn[1].startswith("reason    amount: must be 0 or more")
    assert "amount    1,250,000" in drawn
    assert not any(line.startswith("never") for line in drawn), "an empty cell has no line"
    assert drawn.count("") == 1, "between two records"


def test_a_table_without_rows_is_no_fault() -> None:
    assert _drawn(Table("one", "two"), 5) == [""]


def test_wide_letters_take_the_room_they_need() -> None:
    table = Table("name", "id")
    table.add_row("日本支社", ID)

    assert fitting.least(table) == 8 + 3 + len(ID) + 3 + 1


@pytest.mark.parametrize("width", [46, 60, 80, 120, 200])
@settings(max_examples=20)
@given(cells=st.lists(st.from_regex(r"[a-z]{1,40}( [a-z]{1,9}){0,9}", fullmatch=True), min_size=1))
def test_no_word_is_cut_at_any_width(width: int, cells: list[str]) -> None:
    table = Table("a", "b")
    for cell in cells:
        table.add_row(cell, ID)

    words = "\n".join(_drawn(table, width)).split()

    assert words.count(ID) == len(cells)
    assert set(" ".join(cells).split()) <= set(words)


def _table() -> Table:
    table = Table("endpoint", "reason", "never")
    table.add_column("amount", justify="right")
    table.add_row(ID, REASON, "", "1,250,000")
    table.add_row(ID[::-1], "", "", "2")
    return table


def _drawn(table: Table, width: int) -> list[str]:
    paper = io.StringIO()
    Console(file=paper, width=width).print(fitting.fitted(table, width))
    return [line.rstrip() for line in paper.getvalue().splitlines()]
