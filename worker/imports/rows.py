"""The rows of a file of usage: CSV with a header line, or one JSON object a line."""

import csv
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from worker.imports.text import LONGEST_LINE, Lines, UnusableFile

DELIMITERS: Final = ",;\t|"
"""What the header line may be parted by, unless it is named; the first of the most frequent."""

MOST_ROWS: Final = 500
"""Rows that are looked at together: where one is unusual, these are read one by one."""

QUOTED: Final = re.compile(r'"[^"]*"')

Parse = Callable[[Iterable[str]], Any]
"""Makes a `csv.reader` of lines."""

# A quote that is never closed would otherwise swallow the file.
csv.field_size_limit(LONGEST_LINE)


class Row(NamedTuple):
    """One row.

    Args:
        line: where it begins, from 1.
        values: a CSV row's cells in the order of the header, or a JSON object; None if the row
            can not be read.
        fault: why it can not be read.
    """

    line: int
    values: Any
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow one another: what is done to many at once is done by a loop in C.

    Args:
        lines: where each of them begins, from 1.
        values: of each what it is of a `Row`.
        texts: of JSON rows, as they stand in the file; of others nothing.
        size: characters of them, roughly.
        faults: rows that can not be read: where each begins, and why.
    """

    lines: Sequence[int] = ()
    values: Sequence[Any] = ()
    texts: Sequence[str] = ()
    size: int = 0
    faults: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file. `header` is None when each row is an object that names its fields."""

    header: Sequence[str] | None
    blocks: Iterator[Block]

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one."""
        for block in self.blocks:
            yield from map(Row, block.lines, block.values)
            for line, fault in block.faults:
                yield Row(line, None, fault)


def read(lines: Lines, *, delimiter: str | None = None, most: int = MOST_ROWS) -> Table:
    """Tell by the first line what the file holds, and return its rows, read as they are taken.

    Args:
        delimiter: between cells; None finds out by the header line.
        most: rows in one block, at least 1.

    Raises:
        UnusableFile: the header can not be used.
    """
    first = next((line for line in lines if line.strip()), "")
    if lines.fault is not None:
        raise UnusableFile(lines.name, f"line {lines.number} {lines.fault}")
    if first.lstrip().startswith("{") and delimiter is None:
        return Table(None, _objects(first, lines, most))
    if not first:
        raise UnusableFile(lines.name, "is empty: CSV begins with a line that names the columns")
    return _csv(first, lines, delimiter or _delimiter(first), most)


def _csv(first: str, lines: Lines, delimiter: str, most: int) -> Table:
    # Strict: a quote that is wrong is told, and not guessed about.
    parse = functools.partial(csv.reader, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(parse(itertools.chain([first], lines)))]
    except csv.Error as error:
        raise UnusableFile(lines.name, f"line {lines.number}: {error}") from None
    if lines.fault is not None:
        raise UnusableFile(lines.name, f"line {lines.number} {lines.fault}")
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    if twice:
        raise UnusableFile(lines.name, f"two columns are named {', '.join(map(repr, twice))}")
    return Table(header, _csv_blocks(parse, lines, len(header), most))


def _csv_blocks(parse: Parse, lines: Lines, width: int, most: int) -> Iterator[Block]:
    while not lines.are_over():
        before = lines.number
        some = lines.take(most)
        cells = _plain(parse, some, width)
        if cells is None:
            yield from _one_by_one(parse, some, lines, before=before, width=width)
        else:
            places = range(before + 1, before + 1 + len(some))
            yield Block(places, cells, size=sum(map(len, some)))


def _plain(parse: Parse, some: Sequence[str], width: int) -> list[list[str]] | None:
    """The cells of lines each of which is a row, as it should be; None if not all are."""
    try:
        cells = list(parse(some))
    except csv.Error:
        return None
    if len(cells) != len(some) or {*map(len, cells)} != {width}:
        return None
    has_empty = width == 1 and not all(cell.strip() for (cell,) in cells)
    return None if has_empty else cells


def _one_by_one(
    parse: Parse, some: Sequence[str], lines: Lines, *, before: int, width: int
) -> Iterator[Block]:
    """The rows that begin in `some` lines, or else in the next one; they may end behind these."""
    reader = parse(itertools.chain(some, lines))
    while reader.line_num < max(len(some), 1):
        line = before + reader.line_num + 1
        try:
            cells, fault = next(reader), None
        except StopIteration:
            return
        except csv.Error as error:
            last = before + reader.line_num
            cells, fault = [], f"can not be read as CSV up to line {last:,}: {error}"
        if lines.fault is not None:
            fault, lines.fault = lines.fault, None
        elif fault is None and len(cells) <= 1 and not "".join(cells).strip():
            continue  # an empty line
        elif fault is None and len(cells) != width:
            fault = f"has {len(cells)} cells, the header has {width}"
        yield _block(line, cells, fault, size=sum(map(len, cells)))


def _objects(first: str, lines: Lines, most: int) -> Iterator[Block]:
    yield from _parsed([first], lines.number)
    while not lines.are_over():
        begin = lines.number + 1
        some = lines.take(most)
        if some:
            yield from _parsed(some, begin)
        else:
            next(lines)
            yield _block(begin, None, lines.fault)
            lines.fault = None


def _parsed(some: Sequence[str], begin: int) -> Iterator[Block]:
    try:
        values = list(map(orjson.loads, some))
    except orjson.JSONDecodeError:
        values = []
    if values and {*map(type, values)} == {dict}:
        places = range(begin, begin + len(some))
        yield Block(places, values, some, size=sum(map(len, some)))
        return
    for line, text in enumerate(some, begin):
        if text.strip():
            yield _object(line, text)


def _object(line: int, text: str) -> Block:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _block(line, None, f"is not JSON: {error}")
    if not isinstance(value, dict):
        return _block(line, None, "is no JSON object")
    return _block(line, value, None, texts=(text,), size=len(text))


def _block(
    line: int, values: Any, fault: str | None, *, texts: Sequence[str] = (), size: int = 0
) -> Block:
    """A block of one row."""
    if fault is not None:
        return Block(faults=[(line, fault)])
    return Block([line], [values], texts, size)


def _delimiter(header: str) -> str:
    outside_quotes = QUOTED.sub("", header)
    return max(DELIMITERS, key=outside_quotes.count)
