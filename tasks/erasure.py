"""Forgetting who a tenant is: the books stay, the person goes."""

import datetime as dt
from typing import TypedDict

from models import database
from models.store import alias, erasure, tenant
from tasks import contract, fields
from tasks.announce import announce
from tasks.queues import Queue
from webhooks import events


class ErasedAnswer(TypedDict):
    """A tenant that was erased, with its aliases. `changed` counts rows by table.

    `unsettled` is what was owed or ran, and still does: nothing, unless it was forced.
    """

    tenant_id: str
    aliases: list[str]
    changed: dict[str, int]
    unsettled: list[str]
    reason: str
    actor: str
    erased_at: dt.datetime


@contract.command("billing.erase_tenant", queue=Queue.billing)
def erase_tenant(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    reason: fields.Reason,
    actor: fields.Key64,
    force: bool = False,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract uses it)
    as_of: fields.Instant = contract.NOW,
) -> ErasedAnswer:
    """Forget who a tenant is, for good, and keep the books.

    Runs when a producer or an operator sends it. Name, address, tax number, metadata, identities,
    endpoints' headers, refused payloads and the personal fields of kept answers go, of its aliases
    too. The ledger, usage and invoices stay, with whom a finalized invoice was addressed to, as tax
    law wants. Twice is harmless. If it dies half way nothing has changed. Emits
    billing.tenant_erased.

    Refused with code `tenant.unknown`, or `tenant.not_settled` while something is owed or runs.

    Args:
        reason: why, such as the request's number; kept with the answer, so no names.
        actor: who decided.
        force: erase also while something is owed or runs; it goes on being owed and running.
        idempotency_key: names this request, 1 to 128 characters.
    """
    known = tenant.get(session, tenant_id)
    family = alias.family(session, tenant_id)
    erasure.lock(session, family)
    unsettled = erasure.unsettled(session, family, now=as_of)
    if unsettled and not force:
        raise erasure.NotSettled(
            f"tenant {tenant_id!r} is not settled: {'; '.join(unsettled)}; settle that first, or "
            "erase with force, which keeps what is owed",
            field="tenant_id",
        )
    changed = erasure.erase(session, family, actor=actor, now=as_of)
    session.refresh(known)
    event = events.TenantErased(tenant_id=tenant_id, identities=changed.get("tenant_identities", 0))
    announce(session, event, tenant_id=tenant_id, sequence=known.version, now=as_of)
    return {
        "tenant_id": tenant_id,
        "aliases": family[1:],
        "changed": changed,
        "unsettled": unsettled,
        "reason": reason,
        "actor": actor,
        "erased_at": as_of,
    }
