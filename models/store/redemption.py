"""Coupons redeemed: exactly as often as allowed, and found for the invoices they are on."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.discount import Coupon, CouponRedemption, Duration
from models.rules import coupon as rules
from models.rules import ids
from models.rules.refusal import Refusal
from models.store import coupon, scope


class CouponOver(Refusal):
    """The coupon is switched off, or its time to be redeemed is over."""

    code: ClassVar[str] = "coupon.over"


class CouponUsedUp(Refusal):
    """The coupon was redeemed as often as it can be."""

    code: ClassVar[str] = "coupon.used_up"


def redeem(
    session: Session, coupon_key: str, *, tenant_id: str, now: dt.datetime
) -> CouponRedemption:
    """Give a tenant a coupon, and return what it has; the tenant must be locked.

    A tenant that has it, or had it, redeems it no second time: what it has comes back.

    Raises:
        UnknownCoupon: there is none by that key for this tenant.
        CouponOver, CouponUsedUp: it is not to be had any more.
    """
    had = find(session, coupon_key, tenant_id=tenant_id)
    if had is not None:
        return had
    # The lock in which the redemptions are counted: of the last one left, one caller gets it.
    found = coupon.get(session, coupon_key, lock=True)
    _check_redeemable(found, tenant_id, now)
    found.redemption_count += 1
    redemption = CouponRedemption(
        id=ids.uuid7(now), coupon_key=coupon_key, tenant_id=tenant_id, redeemed_at=now
    )
    session.add(redemption)
    session.flush()
    return redemption


def find(session: Session, coupon_key: str, *, tenant_id: str) -> CouponRedemption | None:
    """Return a tenant's redemption of a coupon."""
    return session.scalars(
        select(CouponRedemption).where(
            CouponRedemption.tenant_id == tenant_id, CouponRedemption.coupon_key == coupon_key
        )
    ).one_or_none()


def of_tenants(
    session: Session, tenant_ids: Sequence[str]
) -> Mapping[str, Sequence[rules.Redemption]]:
    """Return what tenants have redeemed, by tenant, in the order in which it is taken off."""
    rows = session.execute(
        select(CouponRedemption, Coupon)
        .join(Coupon, Coupon.coupon_key == CouponRedemption.coupon_key)
        .where(CouponRedemption.tenant_id == func.any(list(tenant_ids)))
        .order_by(CouponRedemption.redeemed_at, CouponRedemption.id)
    )
    found: dict[str, list[rules.Redemption]] = defaultdict(list)
    for row in rows:
        found[row.CouponRedemption.tenant_id].append(_read(row))
    return found


def uses(session: Session, redemption_ids: Sequence[UUID]) -> dict[UUID, set[UUID]]:
    """Return the invoices that redemptions are on; one that is void has given its use back."""
    if not redemption_ids:
        return {}
    rows = session.execute(
        sql("""
            SELECT redemption_id, invoice_id
            FROM invoice_discounts JOIN invoices ON invoices.id = invoice_id
            WHERE redemption_id = ANY(:ids) AND state <> 'void'
        """),
        {"ids": list(redemption_ids)},
    )
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for row in rows:
        found[row.redemption_id].add(row.invoice_id)
    return found


def _check_redeemable(found: Coupon, tenant_id: str, now: dt.datetime) -> None:
    if found.tenant_id not in (None, tenant_id):
        raise coupon.unknown(found.coupon_key)
    if not found.active or (found.expires_at is not None and found.expires_at <= now):
        until = "" if found.expires_at is None else f" (until {found.expires_at.isoformat()})"
        raise CouponOver(
            f"coupon {found.coupon_key!r} can not be redeemed any more{until}", field="coupon_key"
        )
    if found.max_redemptions is not None and found.redemption_count >= found.max_redemptions:
        raise CouponUsedUp(
            f"coupon {found.coupon_key!r} was redeemed {found.redemption_count} times, as often as "
            "it can be",
            field="coupon_key",
        )


def _read(row: Row[CouponRedemption, Coupon]) -> rules.Redemption:
    redemption, taken = row
    once = 1 if taken.duration == Duration.once else None
    return rules.Redemption(
        coupon=rules.Coupon(
            redemption_id=redemption.id,
            coupon_key=taken.coupon_key,
            name=taken.name,
            percent=taken.percent,
            amount_minor=taken.amount_minor,
            scope=scope.read(taken.scope),
        ),
        currency=taken.currency,
        invoices=taken.periods or once,
        redeemed_at=redemption.redeemed_at,
        ended_at=redemption.ended_at,
    )
