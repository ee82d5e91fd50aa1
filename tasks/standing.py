"""Where an invoice stands: answered by tasks, and told."""

import datetime as dt
from typing import TypedDict
from uuid import UUID

from models import database
from models.store import drafting
from models.store.invoice import Header
from tasks.announce import announce_all
from tasks.invoice_events import announcement
from webhooks import events


class StandingAnswer(TypedDict):
    """Where an invoice stands. `open_minor` is what is still to be paid, 0 of one that is void."""

    invoice_id: UUID
    tenant_id: str
    number: str | None
    state: str
    currency: str
    total_minor: int
    amount_due_minor: int
    paid_minor: int
    credited_minor: int
    open_minor: int
    version: int


def say(
    session: database.Session,
    header: Header,
    topic: type[events.InvoiceEvent],
    *,
    now: dt.datetime,
) -> None:
    """Announce what became of an invoice."""
    announce_all(session, [announcement(topic, drafting.get(session, header))], now=now)


def of(header: Header) -> StandingAnswer:
    """Return where an invoice stands, as tasks answer it."""
    return {
        "invoice_id": header.id,
        "tenant_id": header.tenant_id,
        "number": header.number,
        "state": header.state.value,
        "currency": header.currency,
        "total_minor": header.total_minor,
        "amount_due_minor": header.amount_due_minor,
        "paid_minor": header.paid_minor,
        "credited_minor": header.credited_minor,
        "open_minor": header.open_minor,
        "version": header.version,
    }
