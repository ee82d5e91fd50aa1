"""Parked tenants: put aside with a reason, tried again ever later, taken back when it worked."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.parking import ParkedTenant, Stage

FIRST_WAIT: Final = dt.timedelta(minutes=10)
"""After the first try; it doubles with each further one."""

LONGEST_WAIT: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a tenant can not be billed."""

    tenant_id: str
    stage: Stage
    code: str
    reason: str
    invoice_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """How often a tenant was tried since it was parked; `version` counts what was said of it."""

    tenant_id: str
    tries: int
    version: int


def put(session: Session, fault: Fault, *, now: dt.datetime) -> Parked:
    """Park a tenant, or put off one that is parked."""
    row = session.execute(
        PUT,
        {
            "tenant_id": fault.tenant_id,
            "stage": fault.stage,
            "invoice_id": fault.invoice_id,
            "code": fault.code,
            "reason": fault.reason,
            "now": now,
            "first_wait": FIRST_WAIT,
            "longest_wait": LONGEST_WAIT,
        },
    ).one()
    return Parked(fault.tenant_id, row.tries, row.version)


def take_back(
    session: Session, stage: Stage, tenant_ids: Collection[str], *, now: dt.datetime
) -> list[Parked]:
    """Resolve those of the tenants that are parked, and return them in order."""
    if not tenant_ids:
        return []
    rows = session.execute(
        TAKE_BACK, {"stage": stage, "tenant_ids": sorted(tenant_ids), "now": now}
    ).all()
    return sorted((Parked(*row) for row in rows), key=lambda one: one.tenant_id)


def waiting(session: Session, stage: Stage, *, now: dt.datetime) -> list[str]:
    """Return the tenants that are not to be tried yet."""
    rows = session.scalars(
        select(ParkedTenant.tenant_id).where(
            ParkedTenant.stage == stage,
            ParkedTenant.resolved_at.is_(None),
            ParkedTenant.next_try_at > now,
        )
    )
    return list(rows)


def make_due(session: Session, tenant_id: str, *, now: dt.datetime) -> list[Stage]:
    """Let the next run try a tenant again, whatever it is parked for; return what for."""
    rows = session.execute(
        sql("""
            UPDATE parked_tenants SET next_try_at = least(next_try_at, :now)
            WHERE tenant_id = :tenant_id AND resolved_at IS NULL RETURNING stage
        """),
        {"tenant_id": tenant_id, "now": now},
    )
    return sorted(Stage(stage) for stage in rows.scalars())


def listed(session: Session, *, tenant_id: str | None, limit: int) -> Sequence[ParkedTenant]:
    """Return parked tenants, the longest parked first."""
    statement = select(ParkedTenant).where(ParkedTenant.resolved_at.is_(None))
    if tenant_id is not None:
        statement = statement.where(ParkedTenant.tenant_id == tenant_id)
    key = (ParkedTenant.parked_at, ParkedTenant.tenant_id, ParkedTenant.stage)
    return session.scalars(statement.order_by(*key).limit(limit)).all()


PUT = sql("""
    INSERT INTO parked_tenants (tenant_id, stage, invoice_id, code, reason, parked_at, tried_at,
                                next_try_at)
    VALUES (:tenant_id, :stage, :invoice_id, :code, :reason, :now, :now,
            CAST(:now AS timestamptz) + CAST(:first_wait AS interval))
    ON CONFLICT (tenant_id, stage) DO UPDATE
    SET invoice_id = excluded.invoice_id, code = excluded.code, reason = excluded.reason,
        tried_at = excluded.tried_at, resolved_at = NULL,
        (tries, parked_at, next_try_at, version) = (
            SELECT 1, excluded.tried_at, excluded.next_try_at, parked_tenants.version + 1
            WHERE parked_tenants.resolved_at IS NOT NULL
            UNION ALL
            SELECT parked_tenants.tries + 1, parked_tenants.parked_at,
                   excluded.tried_at + least(
                       CAST(:first_wait AS interval) * power(2, least(parked_tenants.tries, 20)),
                       CAST(:longest_wait AS interval)),
                   parked_tenants.version
            WHERE parked_tenants.resolved_at IS NULL
        )
    RETURNING tries, version
""")

TAKE_BACK = sql("""
    UPDATE parked_tenants SET resolved_at = :now, version = version + 1
    WHERE stage = :stage AND tenant_id = ANY(CAST(:tenant_ids AS text[])) AND resolved_at IS NULL
    RETURNING tenant_id, tries, version
""")
