"""Coupons: made, redeemed exactly as often as allowed, and found for the invoices they are on."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.discount import Coupon, CouponRedemption, Duration
from models.rules import coupon as rules
from models.rules import ids
from models.rules.refusal import Refusal
from models.store import scope


class UnknownCoupon(Refusal):
    """There is no coupon by this key, or it is another tenant's alone."""

    code: ClassVar[str] = "coupon.unknown"


class CouponTermsFixed(Refusal):
    """What a coupon takes off does not change; who wants other terms makes another coupon."""

    code: ClassVar[str] = "coupon.terms_fixed"


class CouponOver(Refusal):
    """The coupon is switched off, or its time to be redeemed is over."""

    code: ClassVar[str] = "coupon.over"


class CouponUsedUp(Refusal):
    """The coupon was redeemed as often as it can be."""

    code: ClassVar[str] = "coupon.used_up"


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
        raise _unknown(coupon_key)
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


def redeem(
    session: Session, coupon_key: str, *, tenant_id: str, now: dt.datetime
) -> CouponRedemption:
    """Give a tenant a coupon, and return what it has; the tenant must be locked.

    A tenant that has it, or had it, redeems it no second time: what it has comes back.

    Raises:
        UnknownCoupon: there is none by that key for this tenant.
        CouponOver, CouponUsedUp: it is not to be had any more.
    """
    had = find_redemption(session, coupon_key, tenant_id=tenant_id)
    if had is not None:
        return had
    # The lock in which the redemptions are counted: of the last one left, one caller gets it.
    found = get(session, coupon_key, lock=True)
    _check_redeemable(found, tenant_id, now)
    found.redemption_count += 1
    redemption = CouponRedemption(
        id=ids.uuid7(now), coupon_key=coupon_key, tenant_id=tenant_id, redeemed_at=now
    )
    session.add(redemption)
    session.flush()
    return redemption


def find_redemption(
    session: Session, coupon_key: str, *, tenant_id: str
) -> CouponRedemption | None:
    """Return a tenant's redemption of a coupon."""
    return session.scalars(
        select(CouponRedemption).where(
            CouponRedemption.tenant_id == tenant_id, CouponRedemption.coupon_key == coupon_key
        )
    ).one_or_none()


def redemptions(
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
        raise _unknown(found.coupon_key)
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


def _unknown(coupon_key: str) -> UnknownCoupon:
    return UnknownCoupon(
        f"coupon_key {coupon_key!r} is unknown, or not for this tenant; make it with "
        "billing.set_coupon",
        field="coupon_key",
    )


def _read(row: Row[CouponRedemption, Coupon]) -> rules.Redemption:
    redemption, coupon = row
    once = 1 if coupon.duration == Duration.once else None
    return rules.Redemption(
        coupon=rules.Coupon(
            redemption_id=redemption.id,
            coupon_key=coupon.coupon_key,
            name=coupon.name,
            percent=coupon.percent,
            amount_minor=coupon.amount_minor,
            scope=scope.read(coupon.scope),
        ),
        currency=coupon.currency,
        invoices=coupon.periods or once,
        redeemed_at=redemption.redeemed_at,
        ended_at=redemption.ended_at,
    )
