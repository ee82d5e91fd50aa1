"""Tenants: who is billed, and in which zone and currency."""

import datetime as dt
from collections.abc import Collection
from typing import Any, ClassVar

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.rules import period
from models.rules.refusal import Refusal
from models.store import aggregate, alias, allocation_due
from models.tenant import Tenant


class UnknownTenant(Refusal):
    """Nobody by this tenant id has been introduced, and nothing of theirs was recorded."""

    code: ClassVar[str] = "tenant.unknown"


class MergedMeanwhile(Refusal):
    """The tenant became part of another one while the command was carried out."""

    code: ClassVar[str] = "tenant.merged_meanwhile"


def get(session: Session, tenant_id: str) -> Tenant:
    """Return a tenant.

    Raises:
        UnknownTenant: there is none by that id.
    """
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        raise UnknownTenant(
            f"tenant_id {tenant_id!r} is unknown; introduce it with billing.set_tenant or by a "
            "usage event",
            field="tenant_id",
        )
    return tenant


def ensure(session: Session, tenant_id: str, *, now: dt.datetime) -> None:
    """Create the tenant with defaults unless it exists."""
    session.execute(
        insert(Tenant)
        .values(tenant_id=tenant_id, created_at=now, updated_at=now)
        .on_conflict_do_nothing()
    )


def change(
    session: Session,
    tenant_id: str,
    *,
    now: dt.datetime,
    name: str | None = None,
    timezone: str | None = None,
    currency: str | None = None,
    address: str | None = None,
    tax_number: str | None = None,
    details: dict[str, Any] | None = None,
    removed: Collection[str] = (),
) -> Tenant:
    """Set what is given, keep what is not, merge `details` over those stored; return the tenant.

    The tenant is created if need be. Its row is locked until the transaction ends. With another
    time zone its usage is counted anew, by the days of that zone, and its plans' credit is due by
    them. If it was billed before, what it owes keeps the days it had until now.

    Args:
        removed: what is not known of it any more: name, address, tax_number, metadata.KEY.
    """
    tenant_id = alias.follow(session, tenant_id, hold=False)
    ensure(session, tenant_id, now=now)
    # Not a full FOR UPDATE: that would stop whoever inserts a row that names the tenant.
    mine = select(Tenant).where(Tenant.tenant_id == tenant_id)
    tenant = session.scalars(mine.with_for_update(key_share=True)).one()
    if tenant.merged_into is not None:
        # In this very moment: what is known now is known of the tenant it became part of.
        raise MergedMeanwhile(
            f"tenant {tenant_id!r} was merged into {tenant.merged_into!r}; send it again",
            field="tenant_id",
        )
    tenant.name = tenant.name if name is None else name
    if timezone is not None and timezone != tenant.timezone:
        # Before the full lock: who gives a subscription credit holds its row and then needs ours.
        allocation_due.look_again(session, tenant_id, now=now)
        _keep_zone(session, tenant, now=now)
        # Now in full, so that a roll-up by the old zone has ended, and none begins before we have.
        session.execute(mine.with_for_update())
        session.execute(_LOOK_AT_FEES, {"tenant_id": tenant_id, "now": now})
        session.execute(_LOOK_AT_DAYS, {"tenant_id": tenant_id, "now": now})
        tenant.timezone = timezone
        # Its days begin at other instants now: what was counted by the old ones would count twice.
        aggregate.rebucket(session, tenant_id)
    tenant.currency = tenant.currency if currency is None else currency
    tenant.address = tenant.address if address is None else address
    tenant.tax_number = tenant.tax_number if tax_number is None else tax_number
    tenant.details = {**tenant.details, **(details or {})}
    _remove(tenant, removed)
    if session.is_modified(tenant):
        tenant.version += 1
        tenant.updated_at = now
        session.flush()
    return tenant


def _keep_zone(session: Session, tenant: Tenant, *, now: dt.datetime) -> None:
    try:
        period.zone(tenant.timezone)
    except period.UnknownTimezone:
        # Somebody wrote it past the program: no invoice was ever made by it.
        return
    session.execute(
        _KEEP_ZONE, {"tenant_id": tenant.tenant_id, "timezone": tenant.timezone, "now": now}
    )


# Moves follow one another, and no day that an invoice covers gets another length; nor one of a
# period that is over and has no invoice, since nothing was charged for, such as a trial.
_KEEP_ZONE = text("""
    INSERT INTO tenant_zones (tenant_id, timezone, left_at)
    SELECT :tenant_id, :timezone, greatest(
        CAST(:now AS timestamptz),
        (SELECT max(period_end) FROM invoices
         WHERE tenant_id = :tenant_id AND kind = 'subscription'),
        (SELECT max(billed_until)::timestamp AT TIME ZONE :timezone FROM subscriptions
         WHERE tenant_id = :tenant_id),
        (SELECT max(left_at) + interval '1 microsecond' FROM tenant_zones
         WHERE tenant_id = :tenant_id)
    )
    WHERE EXISTS (SELECT FROM invoices WHERE tenant_id = :tenant_id)
       OR EXISTS (SELECT FROM subscriptions
                  WHERE tenant_id = :tenant_id AND billed_until IS NOT NULL)
""")


# An end, or other seats, to come may be on another day now: from before today on, wherever that is.
# Where seconds are charged for ahead, the period has more of them now, or less.
_LOOK_AT_FEES = text("""
    UPDATE subscriptions
    SET fees_from = least(fees_from, (CAST(:now AS timestamptz) AT TIME ZONE 'UTC')::date - 2),
        fees_due_at = least(fees_due_at, :now), next_invoice_at = least(next_invoice_at, :now)
    WHERE tenant_id = :tenant_id AND (fees_due_at IS NOT NULL OR plan_key IN (
        SELECT plan_key FROM plans JOIN prices USING (plan_key)
        WHERE proration = 'second' AND timing = 'advance'))
""")


# What had no day to be billed for may have one now: it began and ended on one day where it was.
_LOOK_AT_DAYS = text("""
    UPDATE subscriptions SET next_invoice_at = :now
    WHERE tenant_id = :tenant_id AND next_invoice_at IS NULL
""")


def _remove(tenant: Tenant, removed: Collection[str]) -> None:
    for field in {"name", "address", "tax_number"} & set(removed):
        setattr(tenant, field, None)
    kept = {key: value for key, value in tenant.details.items() if f"metadata.{key}" not in removed}
    if kept != tenant.details:
        tenant.details = kept
