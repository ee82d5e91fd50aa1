"""Coupons: made, changed and found."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.discount import Coupon, Duration
from models.rules import coupon as rules
from models.rules.refusal import Refusal
from models.store import scope


class UnknownCoupon(Refusal):
    """There is no coupon by this key, or it is another tenant's alone."""

    code: ClassVar[str] = "coupon.unknown"


class CouponTermsFixed(Refusal):
    """What a coupon takes off does not change; who wants other terms makes another coupon."""

    code: ClassVar[str] = "coupon.terms_fixed"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a coupon takes off, on how many invoices, and whose it is. They are never edited."""

    percent: Decimal | None
    amount_minor: int | None
    currency: str | None
    duration: Duration
    periods: int | None
    scope: rules.Scope
    tenant_id: str | None


def change(
    session: Session,
    coupon_key: str,
    terms: Terms,
    *,
    name: str,
    max_redemptions: int | None,
    expires_at: dt.datetime | None,
    active: bool,
    now: dt.datetime,
) -> Coupon:
    """Make a coupon, or set what may change of one; its row is locked from here on.

    Raises:
        CouponTermsFixed: the coupon has other terms, or was redeemed more often than
            `max_redemptions`.
    """
    values = {
        "percent": terms.percent,
        "amount_minor": terms.amount_minor,
        "currency": terms.currency,
        "duration": terms.duration.value,
        "periods": terms.periods,
        "scope": scope.write(terms.scope),
        "tenant_id": terms.tenant_id,
    }
    session.execute(
        insert(Coupon)
        .values(coupon_key=coupon_key, name=name, created_at=now, updated_at=now, **values)
        .on_conflict_do_nothing()
    )
    found = get(session, coupon_key, lock=True)
    changed = [field for field, value in values.items() if getattr(found, field) != value]
    if changed:
        raise CouponTermsFixed(
            f"coupon {coupon_key!r} has other terms: {', '.join(changed)}; they stay as they are, "
            "make a coupon with another key",
            field=changed[0],
        )
    if max_redemptions is not None and found.redemption_count > max_redemptions:
        raise CouponTermsFixed(
            f"coupon {coupon_key!r} was redeemed {found.redemption_count} times; max_redemptions "
            f"{max_redemptions} must not be less",
            field="max_redemptions",
        )
    found.name, found.active = name, active
    found.max_redemptions, found.expires_at = max_redemptions, expires_at
    if session.is_modified(found):
        found.version += 1
        found.updated_at = now
        session.flush()
    return found


def get(session: Session, coupon_key: str, *, lock: bool = False) -> Coupon:
    """Return a coupon.

    Raises:
        UnknownCoupon: there is none by that key.
    """
    wanted = (
        select(Coupon)
        .where(Coupon.coupon_key == coupon_key)
        .execution_options(populate_existing=True)
    )
    found = session.scalars(wanted.with_for_update() if lock else wanted).one_or_none()
    if found is None:
        raise unknown(coupon_key)
    return found


def listed_for_anyone(session: Session) -> list[Coupon]:
    """Return the coupons that are no single tenant's, by key."""
    return list(
        session.scalars(
            select(Coupon)
            .where(Coupon.tenant_id.is_(None))
            .order_by(Coupon.coupon_key)
            .execution_options(populate_existing=True)
        )
    )


def unknown(coupon_key: str) -> UnknownCoupon:
    """Return the refusal of a key that nobody has, or another tenant."""
    return UnknownCoupon(
        f"coupon_key {coupon_key!r} is unknown, or not for this tenant; make it with "
        "billing.set_coupon",
        field="coupon_key",
    )
