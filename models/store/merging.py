"""One tenant becomes part of another: what moves at once, in one transaction.

Everything but usage events, of which there may be millions; these follow in chunks
(merge_usage.py). Locks are taken in this order: the progress of the source's subscriptions, both
tenants by id, balances by (tenant_id, product_key), and last the horizons of usage, for which all
ingest waits, so that the rest is done by then. See docs/decisions/0019-tenants-that-become-one.md.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from models.identity import TenantMerge
from models.rules import ids
from models.rules.refusal import Refusal
from models.store import alias, horizon, merge_conflict, merge_credit, merge_registry, tenant

PATIENCE = dt.timedelta(seconds=2)
"""How long usage that arrives may wait at the most, as when usage is closed."""


class MergeIntoItself(Refusal):
    """Source and target are one tenant."""

    code: ClassVar[str] = "tenant.merge_into_itself"


class AlreadyMerged(Refusal):
    """The source is part of another tenant already."""

    code: ClassVar[str] = "tenant.already_merged"


class TargetIsAlias(Refusal):
    """The target is part of another tenant itself."""

    code: ClassVar[str] = "tenant.target_is_alias"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge that was done. `moved` counts rows by table, `version` the changes of the target."""

    id: UUID
    moved: dict[str, int]
    version: int


def merge(
    session: Session,
    *,
    source: str,
    target: str,
    reason: str | None,
    actor: str | None,
    now: dt.datetime,
) -> Merged:
    """Make one tenant part of another: its id stands for the other from now on.

    Raises:
        MergeIntoItself, AlreadyMerged, TargetIsAlias, UnknownTenant: the two are not two tenants.
        MergeConflict: something can not be one tenant's; it says all of it.
        DBAPIError: usage is being recorded and did not pause: see `horizon.wait_for_holders`.
    """
    if source == target:
        raise MergeIntoItself(
            f"source and target are both {source!r}; name two tenants", field="source"
        )
    session.execute(LOCK_PROGRESS, {"source": source})
    _lock_tenants(session, source=source, target=target)
    conflicts = merge_conflict.find(session, source=source, target=target, now=now)
    if conflicts:
        raise merge_conflict.MergeConflict.of(source, target, conflicts)
    merge_id = ids.uuid7(now)
    moved = _move(session, source=source, target=target, merge_id=merge_id, now=now)
    version = _point(session, source=source, target=target, now=now)
    session.execute(
        insert(TenantMerge).values(
            id=merge_id,
            source_id=source,
            target_id=target,
            reason=reason,
            actor=actor,
            moved=moved,
            merged_at=now,
        )
    )
    # Who records usage of the source has committed after this, and its events are seen by whoever
    # moves them; who comes later finds the alias.
    horizon.wait_for_holders(session, patience=PATIENCE)
    return Merged(merge_id, moved, version)


def find(session: Session, source: str) -> TenantMerge | None:
    """Return the merge by which a tenant became part of another."""
    return session.scalars(select(TenantMerge).where(TenantMerge.source_id == source)).one_or_none()


def _lock_tenants(session: Session, *, source: str, target: str) -> None:
    """The source in full: whoever holds it to change something of it has committed then."""
    for tenant_id in sorted((source, target)):
        session.execute(LOCK_SOURCE if tenant_id == source else LOCK_TARGET, {"id": tenant_id})
    owner = alias.follow(session, tenant.get(session, source).tenant_id, hold=False)
    if owner != source:
        raise AlreadyMerged(
            f"{source!r} is part of {owner!r} already; to join that one to another tenant, name it "
            "as the source",
            field="source",
        )
    owner = alias.follow(session, tenant.get(session, target).tenant_id, hold=False)
    if owner != target:
        raise TargetIsAlias(
            f"{target!r} is part of {owner!r} itself; name {owner!r} as the target", field="target"
        )


def _move(
    session: Session, *, source: str, target: str, merge_id: UUID, now: dt.datetime
) -> dict[str, Any]:
    products = merge_credit.lock(session, source=source, target=target, now=now)
    moved = merge_credit.move(session, source=source, target=target, merge_id=merge_id, now=now)
    moved |= merge_registry.repoint(session, {"source": source, "target": target, "now": now})
    # After holds have moved too: what is held pays no debt.
    merge_credit.settle(session, products, target=target, merge_id=merge_id, now=now)
    # Made anew from the events, once they have moved.
    session.execute(FORGET_COUNTERS, {"source": source})
    session.execute(FORGET_ARRIVALS, {"source": source})
    return {table: count for table, count in moved.items() if count}


def _point(session: Session, *, source: str, target: str, now: dt.datetime) -> int:
    """Make the source an alias; its own aliases stand for the target, so that none leads to one."""
    session.execute(POINT, {"source": source, "target": target, "now": now})
    version: int = session.execute(CHANGE, {"target": target, "now": now}).scalar_one()
    return version


LOCK_PROGRESS = text("""
    SELECT FROM subscription_credits
    WHERE subscription_id IN (SELECT id FROM subscriptions WHERE tenant_id = :source)
    ORDER BY subscription_id FOR UPDATE
""")

LOCK_SOURCE = text("SELECT FROM tenants WHERE tenant_id = :id FOR UPDATE")

# Leaves room for foreign keys: its usage and its credit go on.
LOCK_TARGET = text("SELECT FROM tenants WHERE tenant_id = :id FOR NO KEY UPDATE")

FORGET_COUNTERS = text("DELETE FROM quota_counters WHERE tenant_id = :source")

FORGET_ARRIVALS = text("DELETE FROM quota_arrivals WHERE tenant_id = :source")

POINT = text("""
    UPDATE tenants SET merged_into = :target, version = version + 1, updated_at = :now
    WHERE tenant_id = :source OR (merged_into IS NOT NULL AND merged_into = :source)
""")

CHANGE = text("""
    UPDATE tenants SET version = version + 1, updated_at = :now WHERE tenant_id = :target
    RETURNING version
""")
