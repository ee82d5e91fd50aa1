"""From rows to usage events: which column is what, and the key of a row that brings none."""

import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from worker.imports import rows
from worker.imports.text import UnusableFile

Event = dict[str, Any]

FIELDS: Final = ("tenant_id", "metric", "amount", "at", "idempotency_key", "metadata")
"""What a file of whole events may name: the fields of an event."""

REQUIRED: Final = ("metric", "amount")
"""What a whole event must name; its tenant and its key may come from elsewhere."""


class UnusableRow(ValueError):
    """No event can be made of a row."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file mean. Without a metric its rows are whole events.

    Args:
        tenant_id: whose usage it is; None takes the field `tenant_id`. A whole event's own field
            comes first.
        metrics: metrics, each with the column of its amounts.
        metric: the column that names the metric, beside `amount`.
        amount: the column of the amount.
        at: the column of the instant; None is the arrival.
        key: the columns that make a row's idempotency key; none derives it from the row.
        metadata: the columns to keep beside the amount.
        source: a part of derived keys, for files that repeat one another's rows.
        skip_empty: an empty amount is no usage, and not a fault.
    """

    tenant_id: str | None = None
    metrics: Sequence[tuple[str, str]] = ()
    metric: str | None = None
    amount: str | None = None
    at: str | None = None
    key: Sequence[str] = ()
    metadata: Sequence[str] = ()
    source: str = ""
    skip_empty: bool = False

    @property
    def are_whole(self) -> bool:
        """Whether a row is an event, field by field."""
        return not self.metrics and self.metric is None

    @property
    def amounts(self) -> Sequence[str]:
        """The columns that hold amounts."""
        if self.are_whole:
            return ("amount",)
        return [column for _, column in self.metrics] or [str(self.amount)]

    @property
    def named(self) -> list[str]:
        """The columns that each row must have."""
        tenant = () if self.tenant_id else ("tenant_id",)
        if self.are_whole:
            return [*tenant, *REQUIRED]
        others = [each for each in (self.metric, self.at) if each]
        named = [*tenant, *self.amounts, *others, *self.key, *self.metadata]
        return list(dict.fromkeys(named))


class Mapper:
    """Makes the events of a file's rows."""

    def __init__(self, name: str, table: rows.Table, columns: Columns) -> None:
        """Find the columns.

        Args:
            name: the file, for what is said of it.

        Raises:
            UnusableFile: the header lacks a column that was named.
        """
        header = table.header
        self._columns = columns
        self._are_whole = columns.are_whole
        self._amount_columns = columns.amounts
        self._is_csv = header is not None
        self._names: Sequence[str] = ()
        self._cells: Callable[[Sequence[str]], Sequence[str]] = tuple
        if header is not None:
            _check(name, header, columns)
            self._names = header if columns.are_whole else columns.named
            self._cells = _picking([header.index(column) for column in self._names])
        # In the order of their names: moving a column makes no other row.
        self._order = sorted(range(len(header or ())), key=lambda place: (header or ())[place])
        named = [(header or ())[place] for place in self._order]
        self._hash = hashlib.sha256(orjson.dumps([columns.source, named]))

    def events(self, row: rows.Row) -> list[Event]:
        """Return the events of a row that could be read.

        Raises:
            UnusableRow: a number in it can not be read as it is written.
        """
        values = self._csv(row) if self._is_csv else self._json(row)
        if self._are_whole:
            return [self._whole(row, values)]
        return self._mapped(row, values)

    def _csv(self, row: rows.Row) -> dict[str, Any]:
        return dict(zip(self._names, map(str.strip, self._cells(row.values)), strict=True))

    def _json(self, row: rows.Row) -> dict[str, Any]:
        """The object, with amounts as they are written: a float would bill something else."""
        values: dict[str, Any] = row.values
        inexact = [name for name in self._amount_columns if type(values.get(name)) is float]
        if not inexact:
            return values
        try:
            exact = rows.exact(row.text)
        except (ValueError, RecursionError):
            raise UnusableRow("is nested too deep, or has a number that is too long") from None
        return values | {name: exact[name] for name in inexact}

    def _whole(self, row: rows.Row, values: dict[str, Any]) -> Event:
        event = _with_metadata(values) if self._is_csv else values
        if "specversion" in event:
            return event  # a CloudEvent names all of it in its own way
        if self._columns.tenant_id is not None and not event.get("tenant_id"):
            event = event | {"tenant_id": self._columns.tenant_id}
        if "idempotency_key" not in event:
            event = event | {"idempotency_key": self._derived_key(row)}
        return event

    def _mapped(self, row: rows.Row, values: Mapping[str, Any]) -> list[Event]:
        columns = self._columns
        shared: Event = {
            "tenant_id": columns.tenant_id or values.get("tenant_id"),
            "idempotency_key": (
                _joined(values, columns.key) if columns.key else self._derived_key(row)
            ),
        }
        if columns.at is not None:
            # Without its instant a row of the past must not become usage of today.
            at = values.get(columns.at)
            shared["at"] = "" if at is None else at
        if columns.metadata:
            shared["metadata"] = {name: values[name] for name in columns.metadata if name in values}
        if columns.metric is not None:
            amount = values.get(str(columns.amount))
            events = [{"metric": values.get(columns.metric), "amount": amount, **shared}]
        else:
            events = [
                {"metric": metric, "amount": values.get(column), **shared}
                for metric, column in columns.metrics
            ]
        if columns.skip_empty:
            return [event for event in events if event["amount"] not in (None, "")]
        return events

    def _derived_key(self, row: rows.Row) -> str:
        """A key that the same row on the same line has again, and no other row."""
        if self._is_csv:
            content = orjson.dumps([row.line, [row.values[place] for place in self._order]])
        else:
            content = orjson.dumps([row.line, row.values], option=orjson.OPT_SORT_KEYS)
        digest = self._hash.copy()
        digest.update(content)
        return f"line-{row.line}-{digest.hexdigest()[:32]}"


def _check(name: str, header: Sequence[str], columns: Columns) -> None:
    found = f"there are {', '.join(map(repr, header))}"
    missing = [column for column in columns.named if column not in header]
    if missing:
        one = "no column is named" if len(missing) == 1 else "no columns are named"
        raise UnusableFile(name, f"{one} {', '.join(map(repr, missing))}; {found}")
    unknown = [column for column in header if column not in FIELDS]
    if columns.are_whole and unknown:
        raise UnusableFile(
            name,
            f"{', '.join(map(repr, unknown))} is no field of an event; say with --metric, --at and "
            f"--metadata what the columns are; {found}",
        )


def _with_metadata(cells: dict[str, Any]) -> Event:
    """A CSV row as an event: its metadata is JSON in a cell."""
    text = cells.pop("metadata", "")
    if not text:
        return cells
    try:
        return cells | {"metadata": orjson.loads(text)}
    except orjson.JSONDecodeError:
        return cells | {"metadata": text}  # which is refused, and says so


def _picking(places: Sequence[int]) -> Callable[[Sequence[str]], Sequence[str]]:
    """Return what takes the cells at some places out of a row."""
    if len(places) == 1:
        return lambda cells: [cells[places[0]]]  # of one place `itemgetter` gives no row
    return operator.itemgetter(*places)


def _joined(values: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The cells of a row's key as one, so that no two rows have the same; "" if all are empty."""
    if len(columns) == 1:
        return _text(values.get(columns[0]))
    parts = [_text(values.get(name)) for name in columns]
    if not any(parts):
        return ""
    return "|".join(part.replace("\\", r"\\").replace("|", r"\|") for part in parts)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
