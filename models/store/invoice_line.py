"""Lines of invoices, read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, Text, cast, func, select
from sqlalchemy.orm import Session

from models.invoice import InvoiceLine
from models.rules import billing
from models.store import invoice


def lines(session: Session, invoice_ids: Sequence[UUID]) -> Mapping[UUID, list[billing.Line]]:
    """Return the lines of invoices in order; an invoice without lines has no entry."""
    rows = session.execute(
        select(*COLUMNS)
        .where(InvoiceLine.invoice_id == func.any(list(invoice_ids)))
        .order_by(InvoiceLine.invoice_id, InvoiceLine.position)
    )
    found: dict[UUID, list[billing.Line]] = defaultdict(list)
    for row in rows.all():
        found[row[0]].append(read(row))
    return found


COLUMNS = (
    InvoiceLine.invoice_id,
    InvoiceLine.kind,
    InvoiceLine.subscription_id,
    InvoiceLine.price_id,
    InvoiceLine.metric,
    InvoiceLine.description,
    InvoiceLine.quantity,
    InvoiceLine.unit_amount,
    InvoiceLine.amount_minor,
    InvoiceLine.period_start,
    InvoiceLine.period_end,
    # As text, for a reader of JSON that is quicker than the driver's.
    cast(InvoiceLine.details, Text).label("details"),
    InvoiceLine.adjusts_invoice_id,
)
"""What `read` reads."""


def read(row: Row[*tuple[Any, ...]]) -> billing.Line:
    """Return the line in a row of `COLUMNS`."""
    (
        _,
        kind,
        subscription_id,
        price_id,
        metric,
        description,
        quantity,
        unit_amount,
        amount_minor,
        start,
        end,
        details,
        adjusts,
    ) = row[: len(COLUMNS)]
    return billing.Line(
        kind=kind,
        subscription_id=subscription_id,
        price_id=price_id,
        metric=metric,
        description=description,
        quantity=quantity,
        unit_amount=unit_amount,
        amount_minor=amount_minor,
        period=invoice.period_of(start, end),
        details=orjson.loads(details) if '"steps"' in details else _details(details),
        adjusts=adjusts,
    )


# What is of one line alone is not remembered; what thousands say is one object, which nobody
# changes.
@lru_cache(maxsize=8192)
def _details(written: str) -> dict[str, Any]:
    details: dict[str, Any] = orjson.loads(written)
    return details
