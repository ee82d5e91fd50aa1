"""Events of the ledger: its entries, what was refused, and what the audit found."""

from uuid import UUID

from webhooks.events.event import Event, Quantity


class TransactionCreated(Event):
    """A ledger entry was written. Only where BILLING_TELL_LEDGER is set: there are very many.

    `direction` is CREDIT, DEBIT, or USE for a use that took nothing away.
    """

    topic = "billing.transaction_created"

    tenant_id: str
    product_key: str
    entry_id: int
    direction: str
    action: str
    amount: Quantity
    balance_after: Quantity
    batch_id: UUID | None
    cause_type: str
    cause_id: str


class TransactionError(Event):
    """A message that was to move credit was refused and is kept, told once however often it comes.

    Too little credit is no error but an answer. `tenant_id` is null, and only the operator hears of
    it, where the message names none.
    """

    topic = "billing.transaction_error"

    tenant_id: str | None
    operation: str
    code: str
    field: str | None
    reason: str
    rejected_message_id: int


class AuditFailed(Event):
    """The nightly audit found figures of a balance that should be equal and are not.

    `check` is what was compared; `batch_id`, `entry_id` and `reservation_id` say where, if it was
    one row.
    """

    topic = "billing.audit_failed"

    tenant_id: str
    product_key: str
    check: str
    batch_id: UUID | None
    entry_id: int | None
    expected: Quantity
    actual: Quantity
    advice: str
    reservation_id: UUID | None = None
