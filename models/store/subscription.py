"""Subscriptions: made, ended, and moved on when a period was invoiced.

Every change of what a tenant is billed for, and every invoice made from it, holds the lock of the
tenant's row first. So nothing is invoiced from half a change, and tenants do not wait for one
another. The lock leaves room for foreign keys: usage and credit go on meanwhile.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Row, Select, Text, cast, delete, func, insert, select, update
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from models.catalog import Plan
from models.rules import billing, ids
from models.rules.period import Anchor, Interval
from models.rules.refusal import Refusal
from models.subscription import Subscription, SubscriptionQuantity
from models.tenant import Tenant


class UnknownSubscription(Refusal):
    """There is no such subscription."""

    code: ClassVar[str] = "subscription.unknown"


class SubscriptionOverlaps(Refusal):
    """The tenant is on this plan already for part of the time."""

    code: ClassVar[str] = "subscription.overlaps"


def hold_tenant(session: Session, tenant_id: str) -> str | None:
    """Lock the tenant's row for billing and return its timezone; None if there is no tenant."""
    return session.scalars(
        select(Tenant.timezone).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True)
    ).first()


def claim_due_tenants(
    session: Session,
    *,
    now: dt.datetime,
    limit: int,
    after: str = "",
    only: str | None = None,
    excluding: Sequence[str] = (),
) -> dict[str, str]:
    """Lock tenants with a due subscription that nobody else holds; return their timezones by id.

    In the order of their ids, from the one that follows `after`. What is due must be read in a
    later statement: another worker may have billed a tenant just before its row was free.
    """
    rows = session.execute(
        sql("""
            SELECT tenant_id, timezone FROM tenants
            WHERE tenant_id > :after
              AND (CAST(:only AS text) IS NULL OR tenant_id = :only)
              AND tenant_id <> ALL(CAST(:excluding AS text[]))
              AND EXISTS (SELECT FROM subscriptions
                          WHERE subscriptions.tenant_id = tenants.tenant_id
                            AND next_invoice_at <= :now)
            ORDER BY tenant_id
            LIMIT :limit
            -- NO KEY: rows that refer to the tenant may come in meanwhile.
            FOR NO KEY UPDATE SKIP LOCKED
        """),
        {
            "after": after,
            "only": only,
            "excluding": list(excluding),
            "now": now,
            "limit": limit,
        },
    )
    return {row.tenant_id: row.timezone for row in rows}


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


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a subscription was billed, and when its next invoice is due."""

    subscription_id: UUID
    billed_until: dt.date | None
    next_invoice_at: dt.datetime | None
    fees_due_at: dt.datetime | None
    fees_from: dt.date | None


def moved(one: billing.Subscription, zone: ZoneInfo) -> Advance:
    """Return how far a subscription was billed, with when its next invoice is due from then on."""
    return Advance(
        subscription_id=one.id,
        billed_until=one.billed_until,
        next_invoice_at=billing.due_at(one, zone),
        fees_due_at=one.fees_due_at,
        fees_from=one.fees_from,
    )


def advance(session: Session, advances: Sequence[Advance]) -> None:
    """Move subscriptions on. Not a new version: what the tenant agreed to is the same."""
    if not advances:
        return
    session.execute(
        sql("""
            UPDATE subscriptions
            SET billed_until = moved.billed_until, next_invoice_at = moved.next_invoice_at,
                fees_due_at = moved.fees_due_at, fees_from = moved.fees_from
            FROM json_to_recordset(CAST(:rows AS json)) AS moved(
                subscription_id uuid, billed_until date, next_invoice_at timestamptz,
                fees_due_at timestamptz, fees_from date)
            WHERE subscriptions.id = moved.subscription_id
        """),
        {"rows": orjson.dumps(advances).decode()},
    )


def first_due_at(session: Session, tenant_id: str) -> dt.datetime | None:
    """Return when the tenant's oldest outstanding invoice fell due; None if nothing is due."""
    return session.execute(
        select(func.min(Subscription.next_invoice_at)).where(Subscription.tenant_id == tenant_id)
    ).scalar_one()


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
    auto_renew, trial_ends_at, follows, owes_setup, interval, anchor, seats = others
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
    )


# Thousands of subscriptions have the rhythm of a few plans.
@lru_cache(maxsize=8192)
def _cycle(interval: str, anchor: str, anchored_on: dt.date) -> billing.Cycle:
    return billing.Cycle(Interval(interval), Anchor(anchor), anchored_on)


def _seats(written: tuple[str, str]) -> billing.Seats:
    at, quantity = written
    return billing.Seats(dt.datetime.fromisoformat(at).astimezone(dt.UTC), Decimal(quantity))
