"""Invoices that nobody will pay: withdrawn, or written off."""

from typing import ClassVar
from uuid import UUID

from models import database
from models.rules import states
from models.rules.refusal import Refusal
from models.store import late_usage, settlement
from tasks import contract, fields, prepaid, standing
from tasks.queues import Queue
from tasks.standing import StandingAnswer
from webhooks import events


class InvoiceTouched(Refusal):
    """An invoice that was paid or credited in part is not withdrawn; it is credited."""

    code: ClassVar[str] = "invoice.touched"


@contract.command("billing.void_invoice", queue=Queue.billing)
def void_invoice(
    session: database.Session,
    *,
    invoice_id: UUID,
    reason: fields.Reason,
    as_of: fields.Instant = contract.NOW,
) -> StandingAnswer:
    """Withdraw a finalized invoice that nobody has paid; its number stays used.

    Runs when an operator sends it. Credit that paid of it is given back, without an end; a coupon
    that was on it can be used again, and late usage of other periods goes to the next invoice.
    `billing.generate_monthly_invoice` bills its period anew. Twice is harmless: it is void
    already. If it dies half way nothing has changed. Emits
    billing.invoice.voided.

    Refused with code `invoice.not_open` for a draft, a paid or a written-off invoice, and
    `invoice.touched` when something was paid or credited, or adjusted on another invoice: correct
    it with a credit note.

    Args:
        invoice_id: what is withdrawn.
        reason: why; it is kept.
    """
    header = settlement.hold(session, invoice_id)
    if header.state is states.InvoiceState.void:
        return standing.of(header)
    is_open = header.state is states.InvoiceState.finalized
    if is_open and (header.paid_minor or header.credited_minor):
        raise InvoiceTouched(
            f"invoice {header.number} was paid or credited in part; take the rest back with "
            "billing.create_credit_note",
            field="invoice_id",
        )
    if is_open and late_usage.is_adjusted(session, header.id):
        raise InvoiceTouched(
            f"late usage of invoice {header.number} is on another invoice already, which would be "
            "wrong without it; take it back with billing.create_credit_note",
            field="invoice_id",
        )
    header = settlement.change(session, header, event="void", note=reason, now=as_of)
    late_usage.notice_withdrawn(session, header.id, now=as_of)
    if header.credit_minor > 0:
        prepaid.give(session, header, header.credit_minor, source="invoice.voided", now=as_of)
    standing.say(session, header, events.InvoiceVoided, now=as_of)
    return standing.of(header)


@contract.command("billing.write_off_invoice", queue=Queue.billing)
def write_off_invoice(
    session: database.Session,
    *,
    invoice_id: UUID,
    reason: fields.Reason,
    as_of: fields.Instant = contract.NOW,
) -> StandingAnswer:
    """Write a finalized invoice off as a loss; a payment that comes after all still settles it.

    Runs when an operator sends it. Twice is harmless: it is written off already. If it dies half
    way nothing has changed. Emits billing.invoice.uncollectible.

    Refused with code `invoice.not_open` unless the invoice is finalized and not paid.

    Args:
        invoice_id: what is written off.
        reason: why; it is kept.
    """
    header = settlement.hold(session, invoice_id)
    if header.state is states.InvoiceState.uncollectible:
        return standing.of(header)
    header = settlement.change(session, header, event="write_off", note=reason, now=as_of)
    standing.say(session, header, events.InvoiceUncollectible, now=as_of)
    return standing.of(header)
