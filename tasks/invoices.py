"""One invoice: made for a period, brought up to date, finalized, read."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import billing, period
from models.rules.billing import Days, Subscription
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState
from models.store import drafting, invoice, subscription, subscription_due, tenant, zones
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks import contract, fields, finalizing, invoice_answer, invoice_target, invoicing
from tasks.invoice_answer import InvoiceAnswer
from tasks.queues import Queue


class NotABillingPeriod(Refusal):
    """A period does not begin and end with local days, or ends before it begins."""

    code: ClassVar[str] = "invoice.not_a_period"


class PeriodNotOver(Refusal):
    """An invoice is made when its period is over."""

    code: ClassVar[str] = "invoice.period_not_over"


class NothingToBill(Refusal):
    """No subscription of the tenant is billed for this period in this currency."""

    code: ClassVar[str] = "invoice.nothing_to_bill"


@contract.command("billing.generate_monthly_invoice", queue=Queue.billing)
def generate_monthly_invoice(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    period_start: fields.DayStart,
    period_end: fields.DayStart,
    currency: fields.Currency | None = None,
    as_of: fields.Instant = contract.NOW,
) -> InvoiceAnswer:
    """Make the invoice of one closed billing period and answer with it.

    Runs when an operator or a producer sends it; `billing.generate_invoices` does the same for
    every tenant. Twice is harmless: there is one invoice for a tenant, period and currency. While
    it is a draft, asking again computes it anew and says `billing.invoice.updated` if it changed;
    once finalized it comes back as it is. One that is void is withdrawn: then this bills its period
    again, as a new draft. If it dies half way nothing has changed.

    Args:
        tenant_id: who is billed.
        period_start, period_end: the first local day, and the day after the last, as YYYY-MM-DD in
            the tenant's zone; or the instants of those midnights. They must be a billing period of
            a subscription, such as a calendar month, or the day of an invoice for fees ahead that
            was withdrawn.
        currency: ISO 4217; the tenant's, or else the only one it is billed in, when absent.
    """
    timezone = subscription.hold_tenant(session, tenant_id)
    if timezone is None:
        timezone = tenant.get(session, tenant_id).timezone
    zone = zones.of_tenant(session, tenant_id, timezone)
    days = _days(period_start, period_end, period.zone(timezone))
    held = subscription.of_tenants(session, [tenant_id])
    billed = [one for one in held if one.is_billed_for(days, zone)]
    chosen = currency or _currency(session, tenant_id, billed)
    target = invoice_target.in_zone(tenant_id, chosen, zone, days)
    if not billed and invoice_target.existing(session, [replace(target, kind=InvoiceKind.advance)]):
        target = replace(target, kind=InvoiceKind.advance)
    found = _find(session, target)
    if found is None:
        return invoice_answer.answer(_make(session, target, held, zone=zone, now=as_of))
    if found.state is InvoiceState.draft:
        return invoice_answer.answer(invoicing.refresh(session, [found], now=as_of)[0])
    return invoice_answer.answer(drafting.get(session, found))


@contract.command("billing.finalize_invoice", queue=Queue.billing)
def finalize_invoice(
    session: database.Session, *, invoice_id: UUID, as_of: fields.Instant = contract.NOW
) -> InvoiceAnswer:
    """Give one draft its number and freeze it, without waiting for the end of its grace period.

    Runs when an operator sends it. A draft on which nothing is left to be billed is withdrawn
    instead: it comes back void, without a number. Twice is harmless: an invoice that is no draft
    any more comes back as it is. If it dies half way nothing has changed and no number is lost.

    Args:
        invoice_id: as `billing.generate_monthly_invoice` answered it.
    """
    subscription.hold_tenant(session, invoice.get(session, invoice_id).tenant_id)
    # Read again under the lock: another worker may just have finalized it.
    header = invoice.get(session, invoice_id)
    if header.state is not InvoiceState.draft:
        return invoice_answer.answer(drafting.get(session, header))
    return invoice_answer.answer(finalizing.finalize(session, [header], now=as_of)[0])


@contract.command("billing.get_invoice", queue=Queue.billing)
def get_invoice(
    session: database.Session,
    *,
    invoice_id: UUID,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> InvoiceAnswer:
    """Answer with an invoice and its lines as they are stored.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        invoice_id: the invoice's id.
    """
    return invoice_answer.answer(drafting.get(session, invoice.get(session, invoice_id)))


def _days(start: dt.date, end: dt.date, zone: ZoneInfo) -> Days:
    days = Days(_day(start, "period_start", zone), _day(end, "period_end", zone))
    if not days:
        raise NotABillingPeriod(
            f"period_end {days.after} must be after period_start {days.first}", field="period_end"
        )
    return days


def _day(given: dt.date, field: str, zone: ZoneInfo) -> dt.date:
    if not isinstance(given, dt.datetime):
        return given
    day = period.local_day(given, zone)
    if billing.midnight(day, zone) != given:
        raise NotABillingPeriod(
            f"{field} {given.isoformat()} is no midnight in {zone.key}; give the local day, such "
            f"as {day.isoformat()}",
            field=field,
        )
    return day


def _currency(session: database.Session, tenant_id: str, billed: Sequence[Subscription]) -> str:
    currencies = {one.currency for one in billed}
    default = tenant.get(session, tenant_id).currency
    return currencies.pop() if len(currencies) == 1 and default not in currencies else default


def _find(session: database.Session, target: invoice_target.Target) -> Header | None:
    """The invoice of a target that was not withdrawn."""
    for header in invoice_target.existing(session, [target]):
        same = invoice_target.of(header).key == target.key
        if same and header.state is not InvoiceState.void:
            return header
    return None


def _make(
    session: database.Session,
    target: invoice_target.Target,
    held: Sequence[Subscription],
    *,
    zone: ZoneInfo,
    now: dt.datetime,
) -> Drafted:
    ends_at = billing.midnight(target.days.after, zone)
    if target.kind is InvoiceKind.subscription and ends_at > now:
        raise PeriodNotOver(
            f"the period ends at {ends_at.isoformat()}, and as_of is {now.isoformat()}; "
            "it can be invoiced when it is over",
            field="period_end",
        )
    drafts = invoicing.make(session, [target], held, now=now)
    if not drafts:
        raise NothingToBill(
            f"tenant {target.tenant_id!r} has no subscription that is billed in {target.currency} "
            f"for {target.days.first} to {target.days.after} (first day, day after the last)",
            field="period_start",
        )
    same_currency = [one for one in held if one.currency == target.currency]
    subscription_due.advance(session, _advances(same_currency, target, zone))
    return drafts[0]


def _advances(
    held: Sequence[Subscription], target: invoice_target.Target, zone: ZoneInfo
) -> list[subscription_due.Advance]:
    """Move on the subscriptions whose next period this was; the others are not there yet."""
    moved = [
        replace(one, billed_until=target.days.after)
        for one in held
        if next(billing.unbilled(one, zone), None) == target.days
    ]
    return [subscription_due.moved(one, zone) for one in moved]
