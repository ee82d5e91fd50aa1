"""Lines of drafts, stored in bulk: what many have in common is sent and read once."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules.billing import Line
from models.rules.waterfall import Bill

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


def add(session: Session, invoices: Iterable[tuple[UUID, str, Sequence[Line], Bill]]) -> None:
    """Store the lines of invoices that have none, in one statement.

    Args:
        invoices: id and currency of each, its lines in order, and their discounts and taxes.
    """
    common: dict[Common, int] = {}
    rows = [
        _row(invoice_id, place, line, bill, common.setdefault(_common(line, currency), len(common)))
        for invoice_id, currency, lines, bill in invoices
        for place, line in enumerate(lines)
    ]
    if not rows:
        return
    told = [{"common": number, **_named(each)} for each, number in common.items()]
    session.execute(_ADD, {"rows": _json(rows), "common": _json(told)})


def _common(line: Line, currency: str) -> Common:
    # Steps are of one line alone.
    details = None if "steps" in line.details else orjson.dumps(line.details)
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
        details,
    )


def _named(common: Common) -> dict[str, Any]:
    *others, details = common
    named = dict(zip(_COMMON, others, strict=True))
    return named if details is None else {**named, "details": orjson.Fragment(details)}


def _row(invoice_id: UUID, place: int, line: Line, bill: Bill, common: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "invoice_id": invoice_id,
        "position": place + 1,
        "common": common,
        "subscription_id": line.subscription_id,
        "quantity": line.quantity,
        "amount_minor": line.amount_minor,
    }
    if "steps" in line.details:
        row["details"] = line.details
    if bill.discounts:
        row["discounts_minor"] = [part.lines_minor[place] for part in bill.discounts]
    if bill.taxes:
        row["taxes_minor"] = [part.lines_minor[place] for part in bill.taxes]
    return row


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows, default=_number).decode()


def _number(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")


# A quarter of the text that whole rows are, and two thirds of the time.
_ADD = sql("""
    INSERT INTO invoice_lines (invoice_id, position, kind, subscription_id, price_id, metric,
                               description, quantity, unit_amount, currency, amount_minor,
                               period_start, period_end, details, adjusts_invoice_id,
                               discounts_minor, taxes_minor)
    SELECT invoice_id, position, kind, subscription_id, price_id, metric, description, quantity,
           unit_amount, currency, amount_minor, period_start, period_end,
           coalesce(line.details, shared.details), adjusts,
           coalesce(discounts_minor, '{}'), coalesce(taxes_minor, '{}')
    FROM json_to_recordset(CAST(:rows AS json)) AS line(
             invoice_id uuid, position integer, common integer, subscription_id uuid,
             quantity numeric, amount_minor bigint, details jsonb, discounts_minor bigint[],
             taxes_minor bigint[])
         JOIN json_to_recordset(CAST(:common AS json)) AS shared(
             common integer, kind text, price_id uuid, metric text, description text,
             unit_amount numeric, currency text, period_start timestamptz, period_end timestamptz,
             adjusts uuid, details jsonb)
         USING (common)
""")
