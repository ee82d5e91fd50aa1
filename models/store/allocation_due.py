"""Which subscriptions are to be looked at for their plan's credit, and how far each got.

Locks: the subscription's row of `subscription_credits` first, so that one transaction at a time
gives it credit; then balances, as everybody. Who holds the tenant's row took it before.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from models.allocation import SubscriptionCredits
from models.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Due:
    """A subscription to look at, and since when."""

    next_at: dt.datetime
    subscription_id: UUID


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a subscription got: the first day not looked at, None before the first one."""

    subscription_id: UUID
    allocated_until: dt.date | None
    next_at: dt.datetime | None


def find_due(session: Session, *, now: dt.datetime, after: Due | None, limit: int) -> list[Due]:
    """Return subscriptions to look at, the longest due first, those behind `after`."""
    place = tuple_(SubscriptionCredits.next_at, SubscriptionCredits.subscription_id)
    statement = (
        select(SubscriptionCredits.next_at, SubscriptionCredits.subscription_id)
        .where(SubscriptionCredits.next_at <= now)
        .order_by(SubscriptionCredits.next_at, SubscriptionCredits.subscription_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(place > (after.next_at, after.subscription_id))
    return [Due(at, found) for at, found in session.execute(statement) if at is not None]


def claim(session: Session, subscription_id: UUID) -> Progress | None:
    """Lock how far a subscription got; None if its plan never gave credit."""
    return _locked(session, _PROGRESS.with_for_update(), subscription_id)


def claim_free(session: Session, subscription_id: UUID) -> Progress | None:
    """The same, but None also if another transaction has it."""
    return _locked(session, _PROGRESS.with_for_update(skip_locked=True), subscription_id)


def open_(session: Session, subscription_id: UUID, *, next_at: dt.datetime) -> None:
    """Let a subscription be looked at from an instant on."""
    session.execute(
        pg_insert(SubscriptionCredits)
        .values(subscription_id=subscription_id, next_at=next_at)
        .on_conflict_do_nothing()
    )


def open_plan(session: Session, plan_key: str, *, now: dt.datetime) -> None:
    """Let every subscription of a plan that has not ended be looked at soon."""
    session.execute(_OPEN_PLAN, {"plan_key": plan_key, "now": now})


def look_again(session: Session, tenant_id: str, *, now: dt.datetime) -> None:
    """Let a tenant's subscriptions be looked at soon: its periods begin at other instants now."""
    of_tenant = select(Subscription.id).where(Subscription.tenant_id == tenant_id)
    session.execute(
        update(SubscriptionCredits)
        .where(
            SubscriptionCredits.subscription_id.in_(of_tenant),
            SubscriptionCredits.next_at.is_not(None),
        )
        .values(next_at=func.least(SubscriptionCredits.next_at, now))
    )


def move(session: Session, progress: Progress) -> None:
    """Store how far a subscription got. It must be claimed."""
    session.execute(
        update(SubscriptionCredits)
        .where(SubscriptionCredits.subscription_id == progress.subscription_id)
        .values(allocated_until=progress.allocated_until, next_at=progress.next_at)
    )


def _locked(
    session: Session, statement: Select[*tuple[Any, ...]], subscription_id: UUID
) -> Progress | None:
    row = session.execute(
        statement.where(SubscriptionCredits.subscription_id == subscription_id)
    ).one_or_none()
    return None if row is None else Progress(*row)


_PROGRESS = select(
    SubscriptionCredits.subscription_id,
    SubscriptionCredits.allocated_until,
    SubscriptionCredits.next_at,
)

# In one order, so that two of these at once wait for each other and not in a circle.
_OPEN_PLAN = text("""
    INSERT INTO subscription_credits (subscription_id, next_at)
    SELECT id, :now FROM subscriptions
    WHERE plan_key = :plan_key AND (ended_at IS NULL OR ended_at > :now)
    ORDER BY id
    ON CONFLICT (subscription_id) DO UPDATE
    SET next_at = least(subscription_credits.next_at, excluded.next_at)
""")
