"""Invoices listed, shown before they are made, and laid out as pages."""

import datetime as dt
from typing import Annotated, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.rules.states import InvoiceState
from models.settlement import CreditNote
from models.store import credit_note, drafting, invoice_list
from models.store import invoice as invoices
from models.store import paper as paper_store
from models.store.invoice import Header
from models.store.invoice_list import Wanted
from tasks import contract, fields, previewing, standing
from tasks.invoice_answer import InvoiceAnswer, answer
from tasks.papers import html
from tasks.papers.credit_note_paper import credit_note_paper
from tasks.papers.invoice_paper import Told, invoice_paper
from tasks.papers.paper import Paper
from tasks.queues import Queue
from tasks.standing import StandingAnswer

LARGEST_PAGE = 1_000


class ListedInvoice(StandingAnswer):
    """An invoice in a list."""

    period_start: dt.datetime
    period_end: dt.datetime
    timezone: str
    finalized_at: dt.datetime | None
    due_at: dt.datetime | None


class InvoicePage(TypedDict):
    """Invoices, those made last first. `next_after` goes on where this page ends; null at the
    end."""

    invoices: list[ListedInvoice]
    next_after: UUID | None


class Previews(TypedDict):
    """What the invoices of running periods would say now. Their ids name nothing."""

    invoices: list[InvoiceAnswer]


class Page(TypedDict):
    """A page as HTML."""

    number: str | None
    html: str


@contract.command("billing.list_invoices", queue=Queue.billing)
def list_invoices(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    state: InvoiceState | None = None,
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 100,
    after: UUID | None = None,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> InvoicePage:
    """List invoices, those made last first.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        tenant_id: of one tenant.
        state: in one state.
        limit: at most so many, 1 to 1,000.
        after: the `next_after` of the page before.
    """
    wanted = Wanted(tenant_id=tenant_id, state=state)
    found = invoice_list.newest(session, wanted, limit=limit, after=after)
    return {
        "invoices": [_listed(header) for header in found],
        "next_after": found[-1].id if len(found) == limit else None,
    }


@contract.command("billing.preview_invoice", queue=Queue.billing)
def preview_invoice(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> Previews:
    """Tell what a tenant's invoices of the running periods would say, with usage as it is now.

    Runs when someone asks. One for each currency and rhythm of its subscriptions; fees are those
    of the whole period, or of the following one where they are charged ahead, and prepaid credit is
    what is usable now. Late usage of periods that have an invoice is on it, unless a draft there is
    takes that. Twice is harmless and so is dying half way: usage is counted as for an invoice, and
    all that this writes is undone.

    Refused with code `tenant.unknown`.

    Args:
        tenant_id: whose.
    """
    return {"invoices": [answer(one) for one in previewing.drafts(session, tenant_id, as_of)]}


@contract.command("billing.render_invoice", queue=Queue.billing)
def render_invoice(
    session: database.Session,
    *,
    invoice: Annotated[str, Field(min_length=1, max_length=100)],
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> Page:
    """Lay out an invoice or a credit note as an HTML page that needs nothing else.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads. What a
    finalized invoice says of issuer and tenant is what was true then.

    Refused with code `invoice.unknown`.

    Args:
        invoice: the number or the id of an invoice or a credit note.
    """
    laid_out = page(session, invoice)
    return {"number": laid_out.number or None, "html": html.render(laid_out)}


def preview_pages(session: database.Session, tenant_id: str, *, now: dt.datetime) -> list[Paper]:
    """Return what the invoices of running periods would say now, as they would be read.

    Raises:
        UnknownTenant: nobody has introduced the tenant.
    """
    return [
        invoice_paper(one, Told(*paper_store.parties(session, one.header)))
        for one in previewing.drafts(session, tenant_id, now)
    ]


def page(session: database.Session, named: str) -> Paper:
    """Return an invoice or a credit note as it is read.

    Raises:
        UnknownInvoice: none has this number or id.
    """
    found = invoice_list.find(session, named)
    if isinstance(found, CreditNote):
        billed = drafting.get(session, invoices.get(session, found.invoice_id))
        lines = credit_note.lines(session, [found.id])[found.id]
        return credit_note_paper(found, lines, billed)
    issuer, billed_to = paper_store.parties(session, found)
    told = Told(
        issuer=issuer,
        billed_to=billed_to,
        payments=paper_store.payments(session, found.id),
        notes=credit_note.of_invoices(session, [found.id]),
    )
    return invoice_paper(drafting.get(session, found), told)


def _listed(header: Header) -> ListedInvoice:
    return {
        **standing.of(header),
        "period_start": header.period.start,
        "period_end": header.period.end,
        "timezone": header.timezone,
        "finalized_at": header.finalized_at,
        "due_at": header.due_at,
    }
