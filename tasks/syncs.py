"""Invoices at a provider: sent step by step, listed, sent again, tenants' ids there."""

import datetime as dt
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState, InvoiceSyncState
from models.store import invoice, invoice_sync, sync_page, tenant
from tasks import config, contract, fields, providers, sync_run
from tasks.queues import Queue

LARGEST_PAGE = 1_000
ATTEMPTS_SHOWN = 100

RemoteId = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_-]+$")]


class NoProvider(Refusal):
    """Nobody is told of invoices here."""

    code: ClassVar[str] = "sync.no_provider"


class NotNumbered(Refusal):
    """What has no number is nobody's business: a draft not yet, a withdrawn one never."""

    code: ClassVar[str] = "sync.not_numbered"


class SyncAnswer(TypedDict):
    """How far an invoice came. `done` has each step with the id that the provider gave for it;
    `code` and `reason` are those of the last try that failed, since one succeeded."""

    invoice_id: UUID
    number: str | None
    tenant_id: str
    provider: str
    state: str
    done: dict[str, str]
    attempts: int
    due_at: dt.datetime | None
    code: str | None
    reason: str | None
    synced_at: dt.datetime | None


class SyncPage(TypedDict):
    """Invoices at a provider, those made last first; `next_after` begins the next page."""

    syncs: list[SyncAnswer]
    next_after: UUID | None


class SyncAttemptAnswer(TypedDict):
    """One try of one step."""

    step: str
    attempted_at: dt.datetime
    outcome: str
    status: int | None
    latency_ms: int
    code: str | None
    error: str | None


class SyncShown(SyncAnswer):
    """How far an invoice came, with its last tries, the newest first."""

    tries: list[SyncAttemptAnswer]


class CustomerAnswer(TypedDict):
    """A tenant's id at a provider."""

    tenant_id: str
    provider: str
    remote_id: str


@contract.job("billing.sync_invoices", queue=Queue.webhooks)
def sync_invoices(*, as_of: fields.Instant = contract.NOW) -> sync_run.Summary:
    """Tell the provider of invoices that have their number, and of what became of them since.

    Beat runs it every ten seconds; without BILLING_PROVIDER it does nothing. Any number of workers
    may run it: one is at work at a time, eight invoices at once. Twice is harmless: what is done is
    written down step by step, and each step has one idempotency key for ever. If it dies half way
    its leases run out within five deadlines of a request, and the next run goes on with the step
    that is missing. Emits billing.invoice.synced and billing.invoice.sync_failed.

    Args:
        as_of: what is due then is sent, and waits are counted from there. Leases go by the real
            clock whatever it says.
    """
    provider, chosen = providers.current(), config.current().provider
    if provider is None or chosen is None:
        return {"steps": 0, "synced": 0, "put_off": 0, "failed": 0, "lost": 0, "held": False}
    return sync_run.Run(provider, chosen, as_of).go()


@contract.command("billing.list_syncs", queue=Queue.billing)
def list_syncs(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    state: InvoiceSyncState | None = None,
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50,
    after: UUID | None = None,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> SyncPage:
    """List invoices at a provider, those made last first.

    Runs when an operator asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        tenant_id, state: only these.
        limit: at most so many, 1 to 1,000.
        after: `next_after` of the page before.
    """
    found = sync_page.newest(
        session, tenant_id=tenant_id, state=state, limit=limit + 1, after=after
    )
    page = [_answer(row) for row in found[:limit]]
    return {
        "syncs": page,
        "next_after": page[-1]["invoice_id"] if len(found) > limit else None,
    }


@contract.command("billing.get_sync", queue=Queue.billing)
def get_sync(
    session: database.Session,
    *,
    invoice_id: UUID,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> SyncShown:
    """Answer with how far an invoice came at the provider, and its last 100 tries.

    Runs when an operator asks. Twice is harmless and so is dying half way: it only reads. Refused
    with code `sync.unknown` for an invoice that was never sent.

    Args:
        invoice_id: which.
    """
    tries = sync_page.attempts(session, invoice_id, limit=ATTEMPTS_SHOWN)
    return {
        **_answer(sync_page.get(session, invoice_id)),
        "tries": [
            {
                "step": one.step,
                "attempted_at": one.attempted_at,
                "outcome": one.outcome,
                "status": one.status,
                "latency_ms": one.latency_ms,
                "code": one.code,
                "error": one.error,
            }
            for one in tries
        ],
    }


@contract.command("billing.retry_sync", queue=Queue.billing)
def retry_sync(
    session: database.Session,
    *,
    invoice_id: UUID,
    anew: bool = False,
    as_of: fields.Instant = contract.NOW,
) -> SyncAnswer:
    """Send an invoice to the provider again that failed, or one that was never sent; now.

    Runs when an operator has mended what was wrong, or wants an older invoice there. It goes on
    with the step that failed, as a new request, after asking the provider what it has. Twice is
    harmless: it is due already. If it dies half way nothing has changed. Refused with code
    `invoice.unknown`, `sync.no_provider`, `sync.not_numbered`.

    Args:
        invoice_id: a numbered invoice.
        anew: forget a draft at the provider that can not be gone on with, such as one that was
            deleted there; nothing is forgotten of what is final.
    """
    chosen = config.current().provider
    if chosen is None:
        raise NoProvider("nobody is told of invoices here; set BILLING_PROVIDER")
    header = invoice.get(session, invoice_id)
    if header.number is None:
        raise NotNumbered(
            f"invoice {invoice_id} is {_unnumbered(header.state)}", field="invoice_id"
        )
    invoice_sync.begin(session, [header], provider=chosen.name, now=as_of)
    invoice_sync.retry(session, invoice_id, provider=chosen.name, anew=anew, now=as_of)
    return _answer(sync_page.get(session, invoice_id))


@contract.command("billing.set_provider_customer", queue=Queue.billing)
def set_provider_customer(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    remote_id: RemoteId,
    as_of: fields.Instant = contract.NOW,
) -> CustomerAnswer:
    """Say which customer of the provider a tenant is, where it is one already.

    Runs when an operator sends it. Invoices that are sent from then on are that customer's. Twice
    is harmless: it is so already. If it dies half way nothing has changed. Refused with code
    `tenant.unknown`, `sync.no_provider`.

    Args:
        tenant_id: who.
        remote_id: the customer's id there, such as cus_….
    """
    chosen = config.current().provider
    if chosen is None:
        raise NoProvider("nobody is told of invoices here; set BILLING_PROVIDER")
    tenant.get(session, tenant_id)
    invoice_sync.know_customer(
        session, provider=chosen.name, tenant_id=tenant_id, remote_id=remote_id, now=as_of
    )
    return {"tenant_id": tenant_id, "provider": chosen.name, "remote_id": remote_id}


def _unnumbered(state: InvoiceState) -> str:
    if state is InvoiceState.draft:
        return "a draft; it is sent when it has its number"
    return "withdrawn and was never numbered; it must have a number to be sent"


def _answer(row: Any) -> SyncAnswer:
    waits = row.state in (InvoiceSyncState.pending, InvoiceSyncState.running)
    return {
        "invoice_id": row.invoice_id,
        "number": row.number,
        "tenant_id": row.tenant_id,
        "provider": row.provider,
        "state": row.state,
        "done": row.done,
        "attempts": row.attempts,
        "due_at": row.due_at if waits else None,
        "code": row.code,
        "reason": row.reason,
        "synced_at": row.synced_at,
    }
