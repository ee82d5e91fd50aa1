"""Subscriptions, changed: made, ended, with other seats. The tenant is locked by `hold_tenant`."""

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import delete, insert, update
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules import billing
from models.rules.refusal import Refusal
from models.subscription import Subscription, SubscriptionQuantity


class SubscriptionOverlaps(Refusal):
    """The tenant is on this plan already for part of the time."""

    code: ClassVar[str] = "subscription.overlaps"


def check_free(session: Session, wanted: billing.Subscription) -> None:
    """Refuse a subscription that overlaps another one of the same plan. The tenant is locked.

    Raises:
        SubscriptionOverlaps: names the other one.
    """
    other = session.execute(
        sql("""
            SELECT id, effective_at, ended_at FROM subscriptions
            WHERE tenant_id = :tenant_id AND plan_key = :plan_key AND id <> :id
              AND tstzrange(effective_at, ended_at) && tstzrange(:effective_at, :ended_at)
            LIMIT 1
        """),
        {
            "tenant_id": wanted.tenant_id,
            "plan_key": wanted.plan_key,
            "id": wanted.id,
            "effective_at": wanted.effective_at,
            "ended_at": wanted.ended_at,
        },
    ).first()
    if other is not None:
        until = "further notice" if other.ended_at is None else other.ended_at.isoformat()
        raise SubscriptionOverlaps(
            f"tenant {wanted.tenant_id!r} is on plan {wanted.plan_key!r} already from "
            f"{other.effective_at.isoformat()} until {until} (subscription {other.id}); end that "
            "one first, or choose another time",
            field="effective_at",
        )


def add(
    session: Session,
    wanted: billing.Subscription,
    *,
    details: dict[str, Any],
    now: dt.datetime,
) -> None:
    """Store a new subscription."""
    session.add(
        Subscription(
            id=wanted.id,
            tenant_id=wanted.tenant_id,
            plan_key=wanted.plan_key,
            currency=wanted.currency,
            quantity=wanted.quantity,
            effective_at=wanted.effective_at,
            ended_at=wanted.ended_at,
            anchored_on=wanted.cycle.anchored_on,
            billed_until=wanted.billed_until,
            next_invoice_at=wanted.next_invoice_at,
            fees_due_at=wanted.fees_due_at,
            fees_from=wanted.fees_from,
            auto_renew=wanted.auto_renew,
            trial_ends_at=wanted.trial_ends_at,
            follows_id=wanted.follows,
            owes_setup=wanted.owes_setup,
            details=details,
            created_at=now,
            updated_at=now,
        )
    )
    session.flush()


def change(session: Session, changed: billing.Subscription, *, now: dt.datetime) -> int:
    """Store when a subscription ends and when its next invoice is due; return its new version."""
    version: int = session.execute(
        sql("""
            UPDATE subscriptions
            SET ended_at = :ended_at, next_invoice_at = :next_invoice_at,
                fees_due_at = :fees_due_at, fees_from = :fees_from,
                version = version + 1, updated_at = :now
            WHERE id = :id
            RETURNING version
        """),
        {
            "id": changed.id,
            "ended_at": changed.ended_at,
            "next_invoice_at": changed.next_invoice_at,
            "fees_due_at": changed.fees_due_at,
            "fees_from": changed.fees_from,
            "now": now,
        },
    ).scalar_one()
    return version


def call_off(session: Session, subscription_id: UUID, *, now: dt.datetime) -> int:
    """Let a subscription that has not begun be in force at no instant, in nobody's place; return
    its new version. The tenant is locked."""
    version: int = session.execute(
        sql("""
            UPDATE subscriptions
            SET ended_at = effective_at, follows_id = NULL, next_invoice_at = NULL,
                fees_due_at = NULL, fees_from = NULL, version = version + 1, updated_at = :now
            WHERE id = :id
            RETURNING version
        """),
        {"id": subscription_id, "now": now},
    ).scalar_one()
    return version


def set_seats(
    session: Session, subscription_id: UUID, wanted: billing.Seats, *, now: dt.datetime
) -> None:
    """Store how many seats a subscription has from an instant on, in the place of what was to
    change from then on. The tenant is locked."""
    drop_seats(session, subscription_id, since=wanted.effective_at)
    session.execute(
        insert(SubscriptionQuantity).values(
            subscription_id=subscription_id,
            effective_at=wanted.effective_at,
            quantity=wanted.quantity,
            created_at=now,
        )
    )


def drop_seats(session: Session, subscription_id: UUID, *, since: dt.datetime) -> None:
    """Forget the seats that a subscription was to have from an instant on. The tenant is locked."""
    session.execute(
        delete(SubscriptionQuantity).where(
            SubscriptionQuantity.subscription_id == subscription_id,
            SubscriptionQuantity.effective_at >= since,
        )
    )


def next_version(session: Session, subscription_id: UUID) -> int:
    """Count one more event of a subscription, and return its number. The tenant is locked."""
    version: int = session.execute(
        update(Subscription)
        .where(Subscription.id == subscription_id)
        .values(version=Subscription.version + 1)
        .returning(Subscription.version)
    ).scalar_one()
    return version


def set_auto_renew(
    session: Session, subscription_id: UUID, auto_renew: bool, *, now: dt.datetime
) -> None:
    """Say whether each further period gets the plan's credit. The tenant is locked."""
    session.execute(
        update(Subscription)
        .where(Subscription.id == subscription_id)
        .values(auto_renew=auto_renew, version=Subscription.version + 1, updated_at=now)
    )
