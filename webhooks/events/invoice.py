"""Events of invoices and credit notes."""

from uuid import UUID

from webhooks.events.event import Event, Instant


class InvoiceEvent(Event):
    """What every invoice event says. Amounts are minor units of the currency."""

    tenant_id: str
    invoice_id: UUID
    period_start: Instant
    period_end: Instant
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    line_count: int


class InvoiceCreated(InvoiceEvent):
    """An invoice was made for a closed period; it is still a draft."""

    topic = "billing.invoice.created"


class InvoiceUpdated(InvoiceEvent):
    """A draft changed: usage of its period arrived late, or its coupons or taxes changed."""

    topic = "billing.invoice.updated"


class InvoiceDropped(InvoiceEvent):
    """A draft came to nothing and was withdrawn: it never gets a number."""

    topic = "billing.invoice.dropped"

    reason: str


class NumberedInvoiceEvent(InvoiceEvent):
    """What is said of an invoice from its finalization on."""

    number: str
    credit_minor: int
    amount_due_minor: int


class InvoiceFinalized(NumberedInvoiceEvent):
    """An invoice got its number and will not change any more."""

    topic = "billing.invoice.finalized"

    due_at: Instant | None


class InvoicePaid(NumberedInvoiceEvent):
    """Nothing is due of an invoice any more: it was paid, or credited before it was."""

    topic = "billing.invoice.paid"

    paid_minor: int
    credited_minor: int


class InvoiceVoided(NumberedInvoiceEvent):
    """An invoice was withdrawn; credit that paid it was given back."""

    topic = "billing.invoice.voided"

    reason: str


class InvoiceUncollectible(NumberedInvoiceEvent):
    """An invoice was written off as a loss; a payment that comes after all still settles it."""

    topic = "billing.invoice.uncollectible"

    paid_minor: int
    credited_minor: int
    reason: str


class CreditNoteCreated(Event):
    """Part of an invoice, or all of it, was taken back. Amounts are minor units.

    Of the total, `reduced_minor` is not owed any more, `to_credit_minor` became prepaid credit, and
    `payout_minor` is to be paid back.
    """

    topic = "billing.credit_note.created"

    tenant_id: str
    credit_note_id: UUID
    number: str
    invoice_id: UUID
    invoice_number: str
    currency: str
    subtotal_minor: int
    tax_minor: int
    total_minor: int
    reduced_minor: int
    to_credit_minor: int
    payout_minor: int
    reason: str
