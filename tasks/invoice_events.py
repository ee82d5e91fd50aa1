"""What is said of an invoice."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

from models import database
from models.store import invoice_told
from models.store.drafting import Drafted
from tasks.announce import Announcement, in_rows, told
from webhooks import events


def tell(
    session: database.Session,
    topic: type[events.InvoiceEvent],
    invoices: Sequence[Drafted],
    *,
    now: dt.datetime,
) -> None:
    """Say the same of many invoices, in order, as they are stored by now."""
    if not invoices:
        return
    line_counts = [(one.header.id, len(one.lines)) for one in invoices]
    telling = in_rows(topic, at_most=len(invoices), now=now)
    invoice_told.tell(session, telling, line_counts, now=now)
    told(session, Counter({topic.topic: len(invoices)}))


def announcement(topic: type[events.InvoiceEvent], one: Drafted) -> Announcement:
    """Return what to say of an invoice. Its version counts its events."""
    header = one.header
    return Announcement(topic(**_facts(topic, one)), header.tenant_id, header.version)


def _facts(topic: type[events.InvoiceEvent], one: Drafted) -> dict[str, Any]:
    """The fields of a topic, out of what an invoice says."""
    header, figures = one.header, one.bill
    facts = {
        "tenant_id": header.tenant_id,
        "invoice_id": header.id,
        "period_start": header.period.start,
        "period_end": header.period.end,
        "currency": header.currency,
        "subtotal_minor": figures.subtotal_minor,
        "discount_minor": figures.discount_minor,
        "tax_minor": figures.tax_minor,
        "total_minor": header.total_minor,
        "line_count": len(one.lines),
        "number": header.number,
        "credit_minor": header.credit_minor,
        "amount_due_minor": header.amount_due_minor,
        "due_at": header.due_at,
        "paid_minor": header.paid_minor,
        "credited_minor": header.credited_minor,
        "reason": header.closing_note,
    }
    return {name: facts[name] for name in topic.model_fields}
