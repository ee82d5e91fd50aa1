"""Rows of a file: the same however it comes in pieces, and whatever stands beside them."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.imports import rows, text

HEADER = "a,b\n"


class Slow(io.RawIOBase):
    """Bytes that come a few at a time, as through a pipe."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._data.read(min(self._most, len(buffer)))
        buffer[: len(read)] = read
        return len(read)


def lines(data: bytes, *, piece: int = text.BLOCK, encoding: str = text.UTF8) -> text.Lines:
    raw = io.BufferedReader(Slow(data, piece), buffer_size=max(piece, 1))
    return text.Lines("usage.csv", raw, raw, encoding)


def read(data: bytes, *, piece: int = text.BLOCK, most: int = rows.MOST_ROWS) -> list[rows.Row]:
    return list(rows.read(lines(data, piece=piece), most=most).rows())


LINE = st.sampled_from(
    [
        b"1,2\n",
        b"3,4\r\n",
        b"5,6\r",
        b'"x, y",7\n',
        b'"two\nlines",8\n',
        b'"never closed,9\n',
        b'"1"x,2\n',
        b"\n",
        b"  \n",
        b"only one\n",
        b"one,two,three\n",
        "é,ü\n".encode(),
        b"\xff,1\n",
        b"\x0b,\x1c\n",
        "\u2028,\x85\n".encode(),
        b",\n",
        b"last,line",
    ]
)


@settings(max_examples=150)
@given(table=st.lists(LINE, max_size=12), piece=st.integers(1, 9), most=st.integers(1, 5))
@example(table=[b"5,6\r", b"\n", b"1,2\n"], piece=4, most=500)
def test_rows_are_the_same_in_pieces_of_any_size(table: list[bytes], piece: int, most: int) -> None:
    data = HEADER.encode() + b"".join(table)

    whole = read(data)

    assert read(data, piece=piece) == whole
    assert read(data, most=most) == whole
    assert [row.line for row in whole] == sorted({row.line for row in whole})


@settings(max_examples=100)
@given(
    table=st.lists(
        st.lists(st.text(st.sampled_from('ab ,"\n\ré'), max_size=4), min_size=2, max_size=2),
        max_size=9,
    ),
    piece=st.integers(1, 9),
)
def test_what_a_csv_writer_wrote_is_read_with_the_line_each_row_begins_on(
    table: list[list[str]], piece: int
) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["a", "b"], *table])
    plain = csv.reader(io.StringIO(written.getvalue(), newline=""))
    next(plain)
    expected, begin = [], plain.line_num + 1
    for cells in plain:
        expected.append(rows.Row(begin, cells))
        begin = plain.line_num + 1

    assert read(written.getvalue().encode(), piece=piece) == expected


def test_an_unusual_row_among_thousands_changes_no_other() -> None:
    table = [f"{number},x\n".encode() for number in range(3 * rows.MOST_ROWS)]
    odd = {rows.MOST_ROWS - 1: b'"1\n', 700: b"\xff,x\n", 1_200: b"1\n"}
    for place, line in odd.items():
        table[place] = line
    table[rows.MOST_ROWS] = b'2",x\n'  # the end of the cell that began on the line before

    found = read(HEADER.encode() + b"".join(table))

    assert [row.line for row in found if row.fault] == [702, 1_202]
    assert [row for row in found if row.fault is None] == [
        rows.Row(place + 2, ["1\n2" if place in odd else str(place), "x"])
        for place in range(len(table))
        if place not in (700, 1_200, rows.MOST_ROWS)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
@pytest.mark.parametrize("piece", [text.BLOCK, 100_000])
def test_a_line_may_have_so_many_characters_and_no_more(end: str, piece: int) -> None:
    most = text.LONGEST_LINE - 1
    for length, is_too_long in ((most, False), (most + 1, True), (3 * most, True)):
        line = "x" * length + end
        found = lines(f"a\n{line}".encode(), piece=piece)

        assert next(found) == "a\n"
        assert (next(found) == line) or is_too_long
        assert (found.fault is not None) == is_too_long
        assert found.are_over()
        assert found.number == 2


@settings(max_examples=50)
@given(
    table=st.lists(
        st.sampled_from(
            ['{"n": 1}', '{"n": 0.1}', "", " ", "[1]", "{", '{"n": 1}, {"n": 2}', '"x"', "null"]
        ),
        max_size=9,
    ),
    piece=st.integers(1, 9),
)
def test_each_line_of_json_is_a_row_for_itself(table: list[str], piece: int) -> None:
    content = ['{"n": 0}', *table]
    found = read("\n".join(content).encode(), piece=piece)

    good = {line: one for line, one in enumerate(content, 1) if one.startswith('{"n"')}
    good = {line: one for line, one in good.items() if "}, {" not in one}
    assert {row.line: row.values for row in found if row.fault is None} == {
        line: json.loads(one) for line, one in good.items()
    }
    assert [row.line for row in found] == [
        line for line, one in enumerate(content, 1) if one.strip()
    ]


def test_what_was_read_before_the_damage_is_counted() -> None:
    whole = "a,b\n1,2\n3,4\n".encode("utf-16")
    found = lines(whole + b"x", encoding="utf-16")

    table = rows.read(found)
    with pytest.raises(text.UnusableFile, match="after line 3: is not UTF-16"):
        assert list(table.rows())[1:] == []
