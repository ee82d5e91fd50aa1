"""Subscriptions: made, ended, and moved on when a period was invoiced.

Every change of what a tenant is billed for, and every invoice made from it, holds the lock of the
tenant's row first. So nothing is invoiced from half a change, and tenants do not wait for one
another. The lock leaves room for foreign keys: usage and credit go on meanwhile.
"""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Row, Select, Text, cast, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from models.catalog import Plan
from models.rules import billing, ids
from models.rules.period import Anchor, Interval
from models.rules.proration import Proration
from models.rules.refusal import Refusal
from models.subscription import Subscription, SubscriptionQuantity
from models.tenant import Tenant


class UnknownSubscription(Refusal):
    """There is no such subscription."""

    code: ClassVar[str] = "subscription.unknown"


def hold_tenant(session: Session, tenant_id: str) -> str | None:
    """Lock the tenant's row for billing and return its timezone; None if there is no tenant."""
    return session.scalars(
        select(Tenant.timezone).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True)
    ).first()


def of_tenants(session: Session, tenant_ids: Sequence[str]) -> list[billing.Subscription]:
    """Return every subscription of the tenants, ended ones too."""
    rows = session.execute(_SELECT.where(Subscription.tenant_id == func.any(list(tenant_ids))))
    return [_read(row) for row in rows.all()]


def get(session: Session, subscription_id: UUID) -> billing.Subscription:
    """Return a subscription.

    Raises:
        UnknownSubscription: there is none by that id.
    """
    row = session.execute(_SELECT.where(Subscription.id == subscription_id)).first()
    if row is None:
        raise UnknownSubscription(
            f"subscription_id {str(subscription_id)!r} is unknown; billing.set_subscription "
            "answers with the id",
            field="subscription_id",
        )
    return _read(row)


def find_follower(session: Session, subscription_id: UUID) -> billing.Subscription | None:
    """Return the subscription that replaced one, or will."""
    row = session.execute(_SELECT.where(Subscription.follows_id == subscription_id)).first()
    return None if row is None else _read(row)


def find_at(
    session: Session, *, tenant_id: str, plan_key: str, at: dt.datetime
) -> billing.Subscription | None:
    """Return the tenant's last subscription of a plan that started before `at`."""
    row = session.execute(
        _SELECT.where(
            Subscription.tenant_id == tenant_id,
            Subscription.plan_key == plan_key,
            Subscription.effective_at < at,
        )
        .order_by(Subscription.effective_at.desc())
        .limit(1)
    ).first()
    return None if row is None else _read(row)


def new(
    *,
    tenant_id: str,
    plan: Plan,
    currency: str,
    quantity: Decimal,
    effective_at: dt.datetime,
    ended_at: dt.datetime | None,
    anchored_on: dt.date,
    auto_renew: bool = True,
    now: dt.datetime,
) -> billing.Subscription:
    """Return a subscription that is not stored yet."""
    return billing.Subscription(
        id=ids.uuid7(now),
        tenant_id=tenant_id,
        plan_key=plan.plan_key,
        currency=currency,
        quantity=quantity,
        effective_at=effective_at,
        ended_at=ended_at,
        cycle=billing.Cycle(Interval(plan.interval), Anchor(plan.anchor), anchored_on),
        auto_renew=auto_renew,
        proration=Proration(plan.proration),
    )


_SELECT: Select[*tuple[Any, ...]] = select(
    Subscription.id,
    Subscription.tenant_id,
    Subscription.plan_key,
    Subscription.currency,
    Subscription.quantity,
    Subscription.effective_at,
    Subscription.ended_at,
    Subscription.anchored_on,
    Subscription.billed_until,
    Subscription.next_invoice_at,
    Subscription.fees_due_at,
    Subscription.fees_from,
    Subscription.auto_renew,
    Subscription.trial_ends_at,
    Subscription.follows_id,
    Subscription.owes_setup,
    Plan.interval,
    Plan.anchor,
    Plan.proration,
    # Of nearly all there are none: a step down the primary key.
    select(
        func.jsonb_agg(
            aggregate_order_by(
                func.jsonb_build_array(
                    SubscriptionQuantity.effective_at, cast(SubscriptionQuantity.quantity, Text)
                ),
                SubscriptionQuantity.effective_at,
            )
        )
    )
    .where(SubscriptionQuantity.subscription_id == Subscription.id)
    .scalar_subquery()
    .label("seats"),
).join(Plan, Plan.plan_key == Subscription.plan_key)


def _read(row: Row[*tuple[Any, ...]]) -> billing.Subscription:
    # By position: a run reads thousands of rows.
    one, tenant_id, plan_key, currency, quantity, effective_at, ended_at, *others = row
    anchored_on, billed_until, next_invoice_at, fees_due_at, fees_from, *others = others
    auto_renew, trial_ends_at, follows, owes_setup, interval, anchor, proration, seats = others
    return billing.Subscription(
        id=one,
        tenant_id=tenant_id,
        plan_key=plan_key,
        currency=currency,
        quantity=quantity,
        effective_at=effective_at,
        ended_at=ended_at,
        cycle=_cycle(interval, anchor, anchored_on),
        billed_until=billed_until,
        next_invoice_at=next_invoice_at,
        auto_renew=auto_renew,
        trial_ends_at=trial_ends_at,
        follows=follows,
        owes_setup=owes_setup,
        fees_due_at=fees_due_at,
        fees_from=fees_from,
        seats=tuple(map(_seats, seats)) if seats else (),
        proration=_PRORATIONS[proration],
    )


# Quicker than to make it of its value.
_PRORATIONS = {one.value: one for one in Proration}


# Thousands of subscriptions have the rhythm of a few plans.
@lru_cache(maxsize=8192)
def _cycle(interval: str, anchor: str, anchored_on: dt.date) -> billing.Cycle:
    return billing.Cycle(Interval(interval), Anchor(anchor), anchored_on)


def _seats(written: tuple[str, str]) -> billing.Seats:
    at, quantity = written
    return billing.Seats(dt.datetime.fromisoformat(at).astimezone(dt.UTC), Decimal(quantity))
