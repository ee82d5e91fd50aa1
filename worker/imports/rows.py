"""The rows of a file of usage: CSV with a header line, or one JSON object a line."""

import csv
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from worker.imports.text import LONGEST_LINE, Lines, UnusableFile

DELIMITERS: Final = ",;\t|"
"""What the header line may be parted by, unless it is named; the first of the most frequent."""

QUOTED: Final = re.compile(r'"[^"]*"')

# A quote that is never closed would otherwise swallow the file.
csv.field_size_limit(LONGEST_LINE)


class Row(NamedTuple):
    """One row. A tuple, because that is what is made quickest, and there are millions.

    Args:
        line: where it begins, from 1.
        values: a CSV row's cells in the order of the header, or a JSON object; None if the row
            can not be read.
        size: characters of it, roughly.
        text: of a JSON row, as it stands in the file.
        fault: why it can not be read.
    """

    line: int
    values: Any
    size: int = 0
    text: str = ""
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file. `header` is None when each row is an object that names its fields."""

    header: Sequence[str] | None
    rows: Iterator[Row]


def read(lines: Lines, *, delimiter: str | None = None) -> Table:
    """Tell by the first line what the file holds, and return its rows, read as they are taken.

    Args:
        delimiter: between cells; None finds out by the header line.

    Raises:
        UnusableFile: the header can not be used.
    """
    first = next((line for line in lines if line.strip()), "")
    if lines.fault is not None:
        raise UnusableFile(lines.name, f"line {lines.number} {lines.fault}")
    if first.lstrip().startswith("{") and delimiter is None:
        return Table(None, _objects(first, lines))
    if not first:
        raise UnusableFile(lines.name, "is empty: CSV begins with a line that names the columns")
    return _csv(first, lines, delimiter or _delimiter(first))


def exact(text: str) -> Any:
    """Return a JSON text's value with its numbers as they are written, which no float can hold."""
    return json.loads(text, parse_float=Decimal)


def _csv(first: str, lines: Lines, delimiter: str) -> Table:
    before = lines.number - 1
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise UnusableFile(lines.name, f"line {lines.number}: {error}") from None
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    if twice:
        raise UnusableFile(lines.name, f"two columns are named {', '.join(map(repr, twice))}")
    return Table(header, _cells(reader, lines, before, len(header)))


def _cells(reader: Any, lines: Lines, before: int, width: int) -> Iterator[Row]:
    while True:
        line = before + reader.line_num + 1
        try:
            cells = next(reader)
            fault = None
        except StopIteration:
            return
        except csv.Error as error:
            cells, fault = [], f"can not be read as CSV up to line {lines.number:,}: {error}"
        if lines.fault is not None:
            fault, lines.fault = lines.fault, None
        elif fault is None and len(cells) <= 1 and not "".join(cells).strip():
            continue  # an empty line
        elif fault is None and len(cells) != width:
            fault = f"has {len(cells)} cells, the header has {width}"
        if fault is None:
            yield Row(line, cells, sum(map(len, cells)))
        else:
            yield Row(line, None, fault=fault)


def _objects(first: str, lines: Lines) -> Iterator[Row]:
    for text in itertools.chain([first], lines):
        fault, lines.fault = lines.fault, None
        if fault is None and not text.strip():
            continue
        values = None
        if fault is None:
            try:
                values = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                fault = f"is not JSON: {error}"
            else:
                if not isinstance(values, dict):
                    values, fault = None, "is no JSON object"
        yield Row(lines.number, values, size=len(text), text=text, fault=fault)


def _delimiter(header: str) -> str:
    outside_quotes = QUOTED.sub("", header)
    return max(DELIMITERS, key=outside_quotes.count)
