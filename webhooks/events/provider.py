"""Events of invoices at a payment provider."""

from uuid import UUID

from webhooks.events.event import Event


class InvoiceSynced(Event):
    """The provider has an invoice, and all that became of it so far. Amounts are minor units.

    Told again when a payment, withdrawal or credit note has arrived there; `state` is the invoice's
    own.
    """

    topic = "billing.invoice.synced"

    tenant_id: str
    invoice_id: UUID
    number: str
    provider: str
    remote_customer_id: str
    remote_invoice_id: str
    state: str
    currency: str
    amount_due_minor: int


class InvoiceSyncFailed(Event):
    """The provider refused an invoice, or did not take it in all tries; it waits for an operator.

    `step` is what could not be done, `code` and `reason` say why.
    """

    topic = "billing.invoice.sync_failed"
    for_operator = True

    tenant_id: str
    invoice_id: UUID
    number: str
    provider: str
    step: str
    code: str
    reason: str
    attempts: int
