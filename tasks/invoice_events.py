"""What is said of an invoice."""

from typing import Any

from models.store.drafting import Drafted
from tasks.announce import Announcement
from webhooks import events


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
