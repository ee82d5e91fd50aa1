"""Lines of drafts, stored in bulk: what many have in common is sent and read once."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
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


def add(session: Session, invoices: Iterable[tuple[UUID, str, Sequence[Line], Bill]]) -> None:
    """Store the lines of invoices that have none, in one statement.

    Args:
        invoices: id and currency of each, its lines in order, and their discounts and taxes.
    """
    rows = _Rows()
    for invoice_id, currency, lines, bill in invoices:
        rows.add(str(invoice_id), currency, lines, bill)
    if rows.commons:
        session.execute(_ADD, rows.parameters())


@dataclass(slots=True)
class _Rows:
    """Lines column by column, as PostgreSQL reads arrays: in a third of the time of rows of JSON.

    What is of one line alone, as steps and parts of discounts, is NULL of nearly all.
    """

    commons: dict[Common, int] = field(default_factory=dict)
    columns: tuple[list[str], ...] = field(
        default_factory=lambda: tuple(list[str]() for _ in _COLUMNS)
    )
    _numbers: dict[Hashable, str] = field(default_factory=dict)
    _kept: list[Line] = field(default_factory=list)

    def add(self, invoice_id: str, currency: str, lines: Sequence[Line], bill: Bill) -> None:
        """Take the lines of an invoice."""
        ids, positions, common, subscriptions, quantities, amounts, *own = self.columns
        details, discounts, taxes = own
        places = range(len(lines))
        ids += [invoice_id] * len(lines)
        positions += [str(place + 1) for place in places]
        common += [self._common(line, currency) for line in lines]
        subscriptions += self._subscriptions(lines)
        quantities += [str(line.quantity) for line in lines]
        amounts += [str(line.amount_minor) for line in lines]
        details += [_text(_json(one.details)) if _is_own(one) else _NULL for one in lines]
        discounts += [_parts(bill.discounts, place) for place in places]
        taxes += [_parts(bill.taxes, place) for place in places]

    def parameters(self) -> dict[str, str]:
        """Return what the statement needs."""
        told = [{"common": number, **_named(each)} for each, number in self.commons.items()]
        arrays = (f"{{{','.join(column)}}}" for column in self.columns)
        return {"common": _json(told), **dict(zip(_COLUMNS, arrays, strict=True))}

    def _common(self, line: Line, currency: str) -> str:
        """The number of what a line has in common with others."""
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
        number = self._numbers.get(alike)
        if number is None:
            key = self._told(line, currency)
            number = str(self.commons.setdefault(key, len(self.commons)))
            self._numbers[alike] = number
            # While it is kept, no other object has the id of one of its own.
            self._kept.append(line)
        return number

    def _subscriptions(self, lines: Sequence[Line]) -> Iterator[str]:
        known, written = None, _NULL
        for line in lines:
            if line.subscription_id is not known:
                known = line.subscription_id
                written = _NULL if known is None else str(known)
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
            None if _is_own(line) else orjson.dumps(line.details),
        )


def _is_own(line: Line) -> bool:
    """Whether its details are of the line alone: steps are."""
    return "steps" in line.details


def _named(common: Common) -> dict[str, Any]:
    *others, details = common
    named = dict(zip(_COMMON, others, strict=True))
    return named if details is None else {**named, "details": orjson.Fragment(details)}


def _parts(of: Sequence[Discount] | Sequence[Tax], place: int) -> str:
    """A line's parts of discounts or taxes, as an array within an array."""
    return f'"{{{",".join(str(one.lines_minor[place]) for one in of)}}}"' if of else _NULL


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
