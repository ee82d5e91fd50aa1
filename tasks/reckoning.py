"""From the lines of drafts to what is owed: the tenants' coupons and taxes, as they were then."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from models import database
from models.rules import waterfall
from models.rules.billing import Line
from models.rules.coupon import Coupon, Item, Redemption
from models.rules.waterfall import Bill
from models.store import redemption, tax
from models.store.drafting import Drafted
from models.store.invoice import Header
from models.store.tax import Profile


def reckon(session: database.Session, drafts: Sequence[Drafted]) -> list[Drafted]:
    """Return drafts, in their order, with the coupons and taxes that are theirs.

    In the order given, since a coupon may be on so many invoices only. The caller holds the
    tenants' locks, so that nobody else uses it meanwhile.
    """
    tenant_ids = sorted({one.header.tenant_id for one in drafts})
    redeemed = redemption.of_tenants(session, tenant_ids)
    profiles = tax.profiles(session, tenant_ids)
    used = redemption.uses(
        session, [one.coupon.redemption_id for held in redeemed.values() for one in held]
    )
    reckoned = []
    for one in drafts:
        header = one.header
        coupons, profile = list[Coupon](), None
        if header.tenant_id in redeemed or header.tenant_id in profiles:
            coupons = _coupons(header, redeemed.get(header.tenant_id, ()), used)
            profile = tax.in_force(profiles.get(header.tenant_id, ()), header.period.end)
        bill = _bill(one.lines, coupons, profile)
        _note_uses(header.id, coupons, bill, used)
        if bill.total_minor != header.total_minor:
            header = replace(header, total_minor=bill.total_minor)
        reckoned.append(
            one
            if bill == one.bill and header is one.header
            else replace(one, header=header, bill=bill)
        )
    return reckoned


def _bill(lines: Sequence[Line], coupons: Sequence[Coupon], profile: Profile | None) -> Bill:
    rates = () if profile is None or profile.exempt_note else profile.rates
    note = None if profile is None else profile.exempt_note
    if not coupons and not rates:
        return Bill(tuple([line.amount_minor for line in lines]), tax_note=note)
    return waterfall.bill([_item(line) for line in lines], coupons, rates, tax_note=note)


def _coupons(
    header: Header, redeemed: Sequence[Redemption], used: Mapping[UUID, set[UUID]]
) -> list[Coupon]:
    return [
        one.coupon
        for one in redeemed
        if one.is_for(
            header.currency,
            header.period.end,
            used_on_others=len(used.get(one.coupon.redemption_id, set()) - {header.id}),
        )
    ]


def _note_uses(
    invoice_id: UUID, coupons: Sequence[Coupon], bill: Bill, used: dict[UUID, set[UUID]]
) -> None:
    """Remember what the drafts that follow have to know: what took nothing off is not used."""
    if not coupons:
        return
    taken = {one.redemption_id for one in bill.discounts}
    for one in coupons:
        invoices = used.setdefault(one.redemption_id, set())
        if one.redemption_id in taken:
            invoices.add(invoice_id)
        else:
            invoices.discard(invoice_id)


def _item(line: Line) -> Item:
    return Item(
        amount_minor=line.amount_minor,
        plan_key=line.details.get("plan_key"),
        price_key=line.details.get("price_key"),
        metric=line.metric,
    )
