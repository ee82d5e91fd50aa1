"""Who is billed: introduce a tenant, or change what is known of one."""

from typing import Any, TypedDict

from models import database
from models.store import tenant
from models.tenant import Tenant
from tasks import contract, fields
from tasks.queues import Queue


class TenantAnswer(TypedDict):
    """What is known of a tenant."""

    tenant_id: str
    name: str | None
    timezone: str
    currency: str
    address: str | None
    tax_number: str | None
    metadata: dict[str, Any]


@contract.command("billing.set_tenant", queue=Queue.billing, follows_alias=False)
def set_tenant(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    name: fields.Name | None = None,
    timezone: fields.Timezone | None = None,
    currency: fields.Currency | None = None,
    address: fields.Lines | None = None,
    tax_number: fields.Name | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> TenantAnswer:
    """Introduce a tenant or change what is given; what is not given stays.

    Runs when a producer or an operator sends it. Twice is harmless: the same values again change
    nothing. If it dies half way nothing has changed, and the message comes back.

    Args:
        tenant_id: the producer's own id, 1 to 64 characters.
        name: what to print on an invoice.
        timezone: IANA name; days and months of this tenant begin at its local midnight.
        currency: ISO 4217 code.
        address: what an invoice is addressed to, below the name; at most 12 lines.
        tax_number: the tenant's, as printed on an invoice.
        metadata: merged over what is stored, key by key.
    """
    changed = tenant.change(
        session,
        tenant_id,
        now=as_of,
        name=name,
        timezone=timezone,
        currency=currency,
        address=address,
        tax_number=tax_number,
        details=metadata,
    )
    return answer(changed)


def answer(known: Tenant) -> TenantAnswer:
    """Return what to tell the caller of a tenant."""
    return {
        "tenant_id": known.tenant_id,
        "name": known.name,
        "timezone": known.timezone,
        "currency": known.currency,
        "address": known.address,
        "tax_number": known.tax_number,
        "metadata": known.details,
    }
