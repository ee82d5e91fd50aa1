"""Products and offers as CSV: one header, upsert by key, faults by line.

An offer has a line for each of its items; what is said of the offer itself is the same in each.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

Kind = Literal["products", "offers"]
Entry = dict[str, Any]

OFFER: Final = ("sku", "name", "price", "currency", "active", "metadata")
ITEM: Final = ("product_key", "quantity", "period", "value")
COLUMNS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "products": (
        "product_key",
        "name",
        "type",
        "is_currency",
        "burn_policy",
        "active",
        "metadata",
    ),
    "offers": OFFER + ITEM,
}
BOOLEAN: Final = frozenset({"is_currency", "active"})


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong in one line of a file, counted from 1 with the header."""

    line: int
    reason: str


class UnreadableTable(ValueError):
    """A file has another header or lines that can not be read."""

    def __init__(self, faults: Sequence[LineFault]) -> None:
        super().__init__("; ".join(f"line {fault.line}: {fault.reason}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Table:
    """Entries of a catalogue's section, and the line on which each of them begins."""

    entries: list[Entry]
    lines: list[int]


def read(file: TextIO, kind: Kind) -> Table:
    """Return what a file lists.

    Args:
        file: opened with `newline=""`.

    Raises:
        UnreadableTable: with everything that is wrong.
    """
    rows, faults = [], list[LineFault]()
    reader = csv.reader(file, strict=True)
    _check_header(next(reader, []), kind)
    try:
        for cells in reader:
            if len(cells) != len(COLUMNS[kind]):
                reason = f"has {len(cells)} cells and needs {len(COLUMNS[kind])}"
                faults.append(LineFault(reader.line_num, reason))
                continue
            try:
                rows.append((reader.line_num, _entry(dict(zip(COLUMNS[kind], cells, strict=True)))))
            except ValueError as error:
                faults.append(LineFault(reader.line_num, str(error)))
    except csv.Error as error:
        faults.append(LineFault(reader.line_num, str(error)))
    table = Table([entry for _, entry in rows], [line for line, _ in rows])
    if kind == "offers":
        table = _with_items(rows, faults)
    if faults:
        raise UnreadableTable(sorted(faults, key=lambda fault: fault.line))
    return table


def write(file: TextIO, kind: Kind, entries: Iterable[Mapping[str, Any]]) -> int:
    """Write a header and the entries; return how many entries there were."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS[kind])
    count = 0
    for entry in entries:
        count += 1
        for row in _rows(entry, kind):
            writer.writerow(_cell(row.get(column)) for column in COLUMNS[kind])
    return count


def _check_header(found: Sequence[str], kind: Kind) -> None:
    # A spreadsheet's byte order mark is no part of the first name.
    if [name.removeprefix("\ufeff") for name in found] != list(COLUMNS[kind]):
        raise UnreadableTable([LineFault(1, f"the header must be {','.join(COLUMNS[kind])}")])


def _entry(cells: Mapping[str, str]) -> Entry:
    read: dict[str, Callable[[str, str], Any]] = {
        "metadata": _json,
        "value": _whole,
        **dict.fromkeys(BOOLEAN, _boolean),
    }
    return {
        name: read[name](name, text) if name in read else text
        for name, text in cells.items()
        if text != ""
    }


def _json(name: str, text: str) -> Any:
    if not text.lstrip().startswith("{"):
        raise ValueError(f"{name} {text!r} must be a JSON object")
    try:
        return json.loads(text, parse_float=str)
    except ValueError:
        raise ValueError(f"{name} {text!r} must be a JSON object") from None


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name} {text!r} must be a whole number")
    return int(text)


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"{name} {text!r} must be true or false")
    return text.lower() == "true"


def _with_items(rows: Sequence[tuple[int, Entry]], faults: list[LineFault]) -> Table:
    found: dict[str, tuple[int, Entry]] = {}
    for line, row in rows:
        said: Entry = {name: row[name] for name in OFFER if name in row}
        item = {name: row[name] for name in ITEM if name in row}
        key = str(said.get("sku", "")).strip().upper()
        first, entry = found.setdefault(key, (line, {**said, "items": []}))
        if {**entry, "items": None} != {**said, "items": None}:
            faults.append(
                LineFault(line, f"says something else of offer {key!r} than line {first}")
            )
        entry["items"].append(item)
    return Table([entry for _, entry in found.values()], [line for line, _ in found.values()])


def _rows(entry: Mapping[str, Any], kind: Kind) -> Iterator[Mapping[str, Any]]:
    if kind == "products":
        yield entry
        return
    for item in entry["items"]:
        yield {**entry, **item}


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return "" if value is None else str(value)
