"""Coupons: what they take off, who redeems them, and until when."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.discount import Coupon, CouponRedemption, Duration
from models.rules import coupon as rules
from models.rules import money
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.store import coupon, redemption, subscription, tenant
from tasks import contract, fields, line_scope
from tasks.queues import Queue


class NotRedeemed(Refusal):
    """The tenant has no such coupon."""

    code: ClassVar[str] = "coupon.not_redeemed"


class CouponAnswer(TypedDict):
    """A coupon; it takes off `percent`, or `amount` of `currency`."""

    coupon_key: str
    name: str
    percent: str | None
    amount: str | None
    currency: str | None
    duration: str
    periods: int | None
    scope: dict[str, list[str]]
    tenant_id: str | None
    max_redemptions: int | None
    redemption_count: int
    expires_at: dt.datetime | None
    active: bool


class RedemptionAnswer(TypedDict):
    """A coupon that a tenant has, or had until `ended_at`."""

    redemption_id: UUID
    coupon_key: str
    tenant_id: str
    redeemed_at: dt.datetime
    ended_at: dt.datetime | None


@contract.command("billing.set_coupon", queue=Queue.billing)
def set_coupon(
    session: database.Session,
    *,
    coupon_key: fields.CouponKey,
    name: fields.Name,
    percent: fields.Percent | None = None,
    amount: fields.Amount | None = None,
    currency: fields.Currency | None = None,
    duration: Duration = Duration.once,
    periods: Annotated[int, Field(ge=1, le=1200)] | None = None,
    scope: line_scope.LineScope | None = None,
    tenant_id: fields.TenantId | None = None,
    max_redemptions: Annotated[int, Field(ge=0, le=10**9)] | None = None,
    expires_at: fields.Instant | None = None,
    active: bool = True,
    as_of: fields.Instant = contract.NOW,
) -> CouponAnswer:
    """Make a coupon be what is given; what it takes off stays as it was first said.

    Runs when an operator or a campaign sends it. Twice is harmless: the same again changes
    nothing. If it dies half way nothing has changed. Name, limit, end and whether it is active
    may change; what tenants have redeemed they keep.

    Refused with code `coupon.invalid` or `coupon.terms_fixed`.

    Args:
        coupon_key: what customers type, made upper-case.
        name: what the invoice says.
        percent: taken off the lines it covers, more than 0, at most 100; or
        amount: taken off each invoice, never more than its lines come to, in whole minor units of
        currency: the amount's; the coupon is on invoices in this currency alone.
        duration: "once" is the first invoice it takes something off, "repeating" the first
            `periods` of them, "forever" all.
        scope: the lines it covers; all, if absent.
        tenant_id: the only tenant that can redeem it; anyone, if absent.
        max_redemptions: how many tenants can; any number, if absent.
        expires_at: from when on it can not be redeemed any more.
    """
    rules.check_terms(percent, amount_minor := _minor(amount, currency))
    _check_duration(duration, periods)
    if tenant_id is not None:
        tenant.ensure(session, tenant_id, now=as_of)
    terms = coupon.Terms(
        percent=percent,
        amount_minor=amount_minor,
        currency=currency,
        duration=duration,
        periods=periods,
        scope=line_scope.read(scope),
        tenant_id=tenant_id,
    )
    changed = coupon.change(
        session,
        coupon_key,
        terms,
        name=name,
        max_redemptions=max_redemptions,
        expires_at=expires_at,
        active=active,
        now=as_of,
    )
    return answer(changed)


@contract.command("billing.redeem_coupon", queue=Queue.billing)
def redeem_coupon(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    coupon_key: fields.CouponKey,
    as_of: fields.Instant = contract.NOW,
) -> RedemptionAnswer:
    """Give a tenant a coupon: it is on the invoices of periods that end from now on.

    Runs when a customer types it in, or an operator gives it. Several coupons are taken off in the
    order in which they were redeemed. Twice is harmless: a tenant redeems a coupon once, and what
    it has comes back. Of the last redemption left, one caller gets it. If it dies half way nothing
    was redeemed.

    Refused with code `coupon.unknown`, `coupon.over` or `coupon.used_up`.

    Args:
        tenant_id: who gets it; created if nobody has introduced it.
        coupon_key: which one.
    """
    tenant.ensure(session, tenant_id, now=as_of)
    subscription.hold_tenant(session, tenant_id)
    return _redemption(redemption.redeem(session, coupon_key, tenant_id=tenant_id, now=as_of))


@contract.command("billing.end_coupon", queue=Queue.billing)
def end_coupon(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    coupon_key: fields.CouponKey,
    as_of: fields.Instant = contract.NOW,
) -> RedemptionAnswer:
    """Take a coupon from a tenant: it is on no invoice of a period that ends later.

    Runs when an operator sends it. Twice is harmless: it ended when it first did. If it dies half
    way nothing has changed. The redemption still counts: the coupon was used.

    Refused with code `coupon.not_redeemed`.

    Args:
        tenant_id: who has it.
        coupon_key: which one.
    """
    subscription.hold_tenant(session, tenant_id)
    found = redemption.find(session, coupon_key, tenant_id=tenant_id)
    if found is None:
        raise NotRedeemed(
            f"tenant {tenant_id!r} has not redeemed coupon {coupon_key!r}", field="coupon_key"
        )
    if found.ended_at is None:
        found.ended_at = max(as_of, found.redeemed_at)
        session.flush()
    return _redemption(found)


def _minor(amount: Decimal | None, currency: str | None) -> int | None:
    if (amount is None) != (currency is None):
        raise rules.InvalidCoupon(
            "an amount needs a currency, and a percentage has none", field="currency"
        )
    if amount is None or currency is None:
        return None
    minor = money.to_minor(amount, currency)
    if money.from_minor(minor, currency) != amount:
        raise rules.InvalidCoupon(
            f"amount {plain(amount)} has more decimals than {currency}, which has "
            f"{money.minor_unit(currency)}",
            field="amount",
        )
    return minor


def _check_duration(duration: Duration, periods: int | None) -> None:
    if (duration is Duration.repeating) != (periods is not None):
        raise rules.InvalidCoupon(
            f"a coupon of duration {duration.value!r} with periods {periods}: 'repeating' needs "
            "periods, the others have none",
            field="periods",
        )


def answer(one: Coupon) -> CouponAnswer:
    """Return a stored coupon as tasks answer it."""
    scope: dict[str, Any] = one.scope
    amount = None
    if one.amount_minor is not None and one.currency is not None:
        amount = str(money.from_minor(one.amount_minor, one.currency))
    return {
        "coupon_key": one.coupon_key,
        "name": one.name,
        "percent": None if one.percent is None else plain(one.percent),
        "amount": amount,
        "currency": one.currency,
        "duration": one.duration,
        "periods": one.periods,
        "scope": scope,
        "tenant_id": one.tenant_id,
        "max_redemptions": one.max_redemptions,
        "redemption_count": one.redemption_count,
        "expires_at": one.expires_at,
        "active": one.active,
    }


def _redemption(one: CouponRedemption) -> RedemptionAnswer:
    return {
        "redemption_id": one.id,
        "coupon_key": one.coupon_key,
        "tenant_id": one.tenant_id,
        "redeemed_at": one.redeemed_at,
        "ended_at": one.ended_at,
    }
