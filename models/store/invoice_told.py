"""Events of invoices, made of their rows by the statement that stores the events."""

import datetime as dt
import functools
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from models.store import outbox_rows
from models.store.outbox_rows import Telling, Topic


def tell(
    session: Session,
    telling: Telling,
    line_counts: Sequence[tuple[UUID, int]],
    *,
    now: dt.datetime,
) -> None:
    """Store an event of each invoice, as it is stored, and queue them for fan-out.

    An invoice's version counts its events.

    Args:
        line_counts: invoices, in the order in which they are to be heard, and how many lines each
            of them has.
    """
    session.execute(
        _telling(telling.topic),
        {
            "ids": f"{{{','.join(invoice_id.hex for invoice_id, _ in line_counts)}}}",
            "line_counts": f"{{{','.join(str(count) for _, count in line_counts)}}}",
            "now": now,
            **outbox_rows.parameters(telling, name="told"),
        },
    )


@functools.cache
def _telling(topic: Topic) -> TextClause:
    expressions = outbox_rows.expressions(topic, _TOLD, name="told")
    return text(f"WITH {expressions} SELECT 1")


_TOLD = """
    SELECT tenant_id, version AS sequence, given.place - 1 AS place, invoice.id AS invoice_id,
           period_start, period_end, currency, subtotal_minor, discount_minor, tax_minor,
           total_minor, given.line_count, number, credit_minor, amount_due_minor, due_at,
           paid_minor, credited_minor, closing_note AS reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:line_counts AS integer[])) WITH ORDINALITY
             AS given(id, line_count, place)
         JOIN invoices AS invoice ON invoice.id = given.id
"""
