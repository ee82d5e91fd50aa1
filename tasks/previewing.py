"""Invoices as they would be made now: computed, and not stored."""

import datetime as dt
from dataclasses import replace
from fractions import Fraction

from models import database
from models.rules import money, period
from models.store import credit, drafting, prepaid, subscription, tenant, zones
from models.store.drafting import Drafted
from tasks import adjusting, invoice_pricing, invoice_target, invoicing, reckoning


def drafts(session: database.Session, tenant_id: str, now: dt.datetime) -> list[Drafted]:
    """Return the invoices a tenant would get for the periods that run, as far as they are known."""
    with database.undone(session):
        running = _running(session, tenant_id, now)
    return [_with_credit(session, one, now) for one in running]


def _running(session: database.Session, tenant_id: str, now: dt.datetime) -> list[Drafted]:
    """Drafts, not stored, of the periods that hold this instant."""
    timezone = tenant.get(session, tenant_id).timezone
    zone = zones.of_tenant(session, tenant_id, timezone)
    held = subscription.of_tenants(session, [tenant_id])
    today = period.local_day(now, zone)
    running = {
        (one.currency, days)
        for one in held
        if one.is_billed_for(days := one.cycle.containing(today, zone), zone)
    }
    targets = [
        invoice_target.in_zone(tenant_id, currency, zone, days)
        for currency, days in sorted(running)
    ]
    invoicing.roll_up(session, targets, now=now)
    noticed = adjusting.noticed(session, [tenant_id])
    late = [invoice_target.of(one.header) for one in noticed]
    versions = invoice_pricing.versions_of(session, held)
    priced = invoice_pricing.price(session, [*targets, *late], held, versions)
    takers = [invoice_target.taker(one) for one in targets]
    fees = invoice_pricing.fees(session, takers, held, versions)
    drawn = [
        drafting.draft(
            tenant_id=tenant_id,
            currency=target.currency,
            timezone=target.timezone,
            covers=target.period,
            lines=[*lines, *ahead],
            now=now,
        )
        for target, lines, ahead in zip(targets, priced[: len(targets)], fees, strict=True)
    ]
    adjusted = adjusting.adjust(session, drawn, noticed, priced[len(targets) :])
    return reckoning.reckon(session, adjusted)


def _with_credit(session: database.Session, one: Drafted, now: dt.datetime) -> Drafted:
    """What prepaid credit would pay of it, if it were finalized now and alone."""
    header = one.header
    product_key = prepaid.products(session).get(header.currency)
    if product_key is None or header.total_minor <= 0:
        return one
    usable = credit.get_standing(
        session, tenant_id=header.tenant_id, product_key=product_key, now=now
    ).available
    scale: int = 10 ** money.minor_unit(header.currency)
    paid = min(header.total_minor, int(Fraction(usable) * scale))
    return replace(one, header=replace(header, credit_minor=paid))
