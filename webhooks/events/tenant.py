"""Events of tenants: merged, erased, put aside."""

from uuid import UUID

from webhooks.events.event import Event


class CustomersMerged(Event):
    """A tenant became part of another one: `source` stands for `target` from now on.

    What moved is counted; usage that is not billed yet follows.
    """

    topic = "billing.customers_merged"

    tenant_id: str
    target: str
    source: str
    merge_id: UUID
    identities: int
    batches: int
    subscriptions: int
    endpoints: int


class TenantErased(Event):
    """What is known of a tenant as a person was erased; the books were kept."""

    topic = "billing.tenant_erased"

    tenant_id: str
    identities: int


class BillingParked(Event):
    """A tenant could not be billed and is put aside, with the reason; nobody else waits for it.

    `stage` is what could not be done: invoicing, finalization or late_usage. It is tried again by
    itself, ever later, and at once after billing.retry_parked.
    """

    topic = "billing.parked"
    for_operator = True

    tenant_id: str
    stage: str
    code: str
    reason: str
    invoice_id: UUID | None


class BillingResumed(Event):
    """A tenant that was parked could be billed."""

    topic = "billing.resumed"
    for_operator = True

    tenant_id: str
    stage: str
