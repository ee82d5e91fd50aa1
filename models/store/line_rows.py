"""Lines of drafts, stored in bulk: what many have in common is sent and read once."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules.billing import Line
from models.rules.waterfall import Bill, Discount, Tax

Common = tuple[Any, ...]
"""What lines of the same price over the same days have in common: in the order of `_COMMON`, and at
last their details."""

_COMMON: Final = (
    "kind",
    "price_id",
    "metric",
    "description",
    "unit_amount",
    "currency",
    "period_start",
    "period_end",
    "adjusts",
)


_NULL: Final = "NULL"

_OWN: Final = "steps"
"""Details with these are of the line alone."""

_COLUMNS: Final = (
    "invoice_ids",
    "positions",
    "commons",
    "subscription_ids",
    "quantities",
    "amounts",
    "details",
    "discounts",
    "taxes",
)


Content = tuple[UUID, str, Sequence[Line], Bill]
"""Id and currency of an invoice, its lines in order, and their discounts and taxes."""


def add(session: Session, invoices: Iterable[Content]) -> None:
    """Store the lines of invoices that have none, in one statement."""
    rows = Rows()
    for invoice_id, currency, lines, bill in invoices:
        rows.add(invoice_id, currency, lines, bill)
    rows.store(session)


def fingerprints(invoices: Iterable[Content]) -> list[str]:
    """Return what tells each invoice's content from any other: see `Rows.add`."""
    rows = Rows()
    return [rows.add(*content) for content in invoices]


@dataclass(slots=True)
class Rows:
    """Lines column by column, as PostgreSQL reads arrays: in a third of the time of rows of JSON.

    What is of one line alone, as steps and parts of discounts, is NULL of nearly all.
    """

    commons: dict[Common, int] = field(default_factory=dict)
    columns: tuple[list[str], ...] = field(
        default_factory=lambda: tuple(list[str]() for _ in _COLUMNS)
    )
    _known: dict[Hashable, tuple[str, str]] = field(default_factory=dict)
    _kept: list[Line] = field(default_factory=list)

    def add(self, invoice_id: UUID, currency: str, lines: Sequence[Line], bill: Bill) -> str:
        """Take the lines of an invoice, and return the fingerprint of its content.

        Of invoices with the same fingerprint all lines, discounts and taxes are the same. That of
        the same content written otherwise, as 1.0 instead of 1, may be another.
        """
        count = len(lines)
        common = [self._common(line, currency) for line in lines]
        content = (
            list(self._subscriptions(lines)),
            [str(line.quantity) for line in lines],
            [str(line.amount_minor) for line in lines],
            [_text(_json(one.details)) if _OWN in one.details else _NULL for one in lines],
            _parts(bill.discounts, count),
            _parts(bill.taxes, count),
        )
        rows = (
            [invoice_id.hex] * count,
            map(str, range(1, count + 1)),
            [number for number, _ in common],
            *content,
        )
        for column, values in zip(self.columns, rows, strict=True):
            column.extend(values)
        said = [",".join(values) for values in ([told for _, told in common], *content)]
        if bill.discounts or bill.taxes or bill.tax_note:
            said.append(repr((bill.discounts, bill.taxes, bill.tax_note)))
        return _digest("\n".join(said).encode())

    def store(self, session: Session) -> None:
        """Store the lines, in one statement; their invoices are there and have none."""
        if self.commons:
            session.execute(_ADD, self.parameters())

    def parameters(self) -> dict[str, str]:
        """Return what the statement needs."""
        told = [{"common": number, **_named(each)} for each, number in self.commons.items()]
        arrays = (f"{{{','.join(column)}}}" for column in self.columns)
        return {"common": _json(told), **dict(zip(_COLUMNS, arrays, strict=True))}

    def _common(self, line: Line, currency: str) -> tuple[str, str]:
        """The number of what a line has in common with others, and what tells it from any other."""
        # By the objects themselves: nearly all lines share them, and to compare ids is quicker.
        alike = (
            line.kind,
            id(line.price_id),
            line.metric,
            line.description,
            id(line.unit_amount),
            currency,
            id(line.period),
            line.adjusts,
            id(line.details),
        )
        known = self._known.get(alike)
        if known is None:
            key = self._told(line, currency)
            number = str(self.commons.setdefault(key, len(self.commons)))
            known = self._known[alike] = number, _digest(repr(key).encode())
            # While it is kept, no other object has the id of one of its own.
            self._kept.append(line)
        return known

    def _subscriptions(self, lines: Sequence[Line]) -> Iterator[str]:
        known, written = None, _NULL
        for line in lines:
            if line.subscription_id is not known:
                known = line.subscription_id
                written = _NULL if known is None else known.hex
            yield written

    def _told(self, line: Line, currency: str) -> Common:
        return (
            line.kind,
            line.price_id,
            line.metric,
            line.description,
            line.unit_amount,
            currency,
            line.period.start,
            line.period.end,
            line.adjusts,
            None if _OWN in line.details else orjson.dumps(line.details),
        )


def _named(common: Common) -> dict[str, Any]:
    *others, details = common
    named = dict(zip(_COMMON, others, strict=True))
    return named if details is None else {**named, "details": orjson.Fragment(details)}


def _parts(of: Sequence[Discount] | Sequence[Tax], count: int) -> list[str]:
    """The lines' parts of discounts or taxes, each an array within an array."""
    if not of:
        return [_NULL] * count
    parts = zip(*(one.lines_minor for one in of), strict=True)
    return [f'"{{{",".join(map(str, of_line))}}}"' for of_line in parts]


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _text(value: str) -> str:
    """A text as a member of an array."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _json(value: object) -> str:
    return orjson.dumps(value, default=_number).decode()


def _number(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")


_ADD = sql("""
    INSERT INTO invoice_lines (invoice_id, position, kind, subscription_id, price_id, metric,
                               description, quantity, unit_amount, currency, amount_minor,
                               period_start, period_end, details, adjusts_invoice_id,
                               discounts_minor, taxes_minor)
    SELECT invoice_id, position, kind, subscription_id, price_id, metric, description, quantity,
           unit_amount, currency, amount_minor, period_start, period_end,
           coalesce(CAST(line.details AS jsonb), shared.details), adjusts,
           coalesce(CAST(discounts_minor AS bigint[]), '{}'),
           coalesce(CAST(taxes_minor AS bigint[]), '{}')
    FROM unnest(CAST(:invoice_ids AS uuid[]), CAST(:positions AS integer[]),
                CAST(:commons AS integer[]), CAST(:subscription_ids AS uuid[]),
                CAST(:quantities AS numeric[]), CAST(:amounts AS bigint[]),
                CAST(:details AS text[]), CAST(:discounts AS text[]), CAST(:taxes AS text[]))
             AS line(invoice_id, position, common, subscription_id, quantity, amount_minor,
                     details, discounts_minor, taxes_minor)
         JOIN json_to_recordset(CAST(:common AS json)) AS shared(
             common integer, kind text, price_id uuid, metric text, description text,
             unit_amount numeric, currency text, period_start timestamptz, period_end timestamptz,
             adjusts uuid, details jsonb)
         USING (common)
""")
