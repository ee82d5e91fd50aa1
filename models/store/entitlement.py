"""Entitlements: the versions of each right to use a metric, of plans and of single tenants."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, text, update
from sqlalchemy.orm import Session

from models.catalog import Plan
from models.quota import Entitlement, QuotaMetric
from models.rules import ids, timeline
from models.rules.meter import PLAIN, UNMETERED
from models.rules.quota import Window
from models.rules.refusal import Refusal
from models.store import meter, plan, subscription

WATCHING = 0x71756F7A
"""Key of the advisory lock that lets one transaction at a time begin to watch a metric."""


class NotSummed(Refusal):
    """A quota adds up amounts, and the metric's meter does something else."""

    code: ClassVar[str] = "entitlement.not_summed"


class MeterOfQuota(Refusal):
    """The meter's metric has quotas, which add up amounts."""

    code: ClassVar[str] = "meter.of_quota"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose right it is: everyone's on a plan, or one tenant's. One of the two is given."""

    plan_key: str | None = None
    tenant_id: str | None = None

    def holds(self) -> ColumnElement[bool]:
        """Return the predicate of this owner's entitlements."""
        if self.plan_key is not None:
            return Entitlement.plan_key == self.plan_key
        return Entitlement.tenant_id == self.tenant_id


@dataclass(frozen=True, slots=True)
class Key:
    """Which right: to a metric, counted in windows of one length."""

    owner: Owner
    metric: str
    window: Window

    def matches(self) -> ColumnElement[bool]:
        """Return the predicate of the versions of this right."""
        return and_(
            self.owner.holds(),
            Entitlement.metric == self.metric,
            Entitlement.window_unit == self.window.value,
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a right is; two versions with equal terms are one. `limit` None is without limit."""

    limit: Decimal | None
    is_soft: bool
    per_seat: bool


def watch(session: Session, metric: str, *, now: dt.datetime) -> None:
    """Let ingest log what arrives of a metric, from this transaction's commit on.

    Call it before the transaction locks anything else. Once in a metric's life it waits until all
    ingest that is under way has ended, and lets other ingest wait so long: a transaction that did
    not know of the metric yet could otherwise commit usage that no counter hears of.

    Raises:
        NotSummed: the metric's meter does not add up amounts.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WATCHING})
    if session.get(QuotaMetric, metric) is None:
        # Ingest reads the table, and so holds it in ACCESS SHARE mode until it has committed.
        session.execute(text("LOCK TABLE quota_metrics IN ACCESS EXCLUSIVE MODE"))
        session.execute(insert(QuotaMetric).values(metric=metric, created_at=now))
    meter.hold(session)
    definition = meter.of_metrics(session, [metric]).get(metric, UNMETERED).definition
    if definition != PLAIN:
        raise NotSummed(
            f"metric {metric!r} has a meter that does not simply add up amounts (aggregation "
            f"{definition.aggregation.value!r}), which is what a quota does; limit a metric that "
            "is summed, without value_field and filters",
            field="metric",
        )


def check_unlimited(session: Session, metric: str, *, now: dt.datetime) -> None:
    """Refuse if any right to the metric holds now or later: its meter must add up amounts.

    Meters must be locked against `meter.hold`.

    Raises:
        MeterOfQuota: one does.
    """
    found = session.scalars(
        select(Entitlement.id).where(Entitlement.metric == metric, _is_not_over(now)).limit(1)
    ).first()
    if found is not None:
        raise MeterOfQuota(
            f"metric {metric!r} has entitlements, and their limits count summed amounts; keep the "
            "aggregation 'sum' without value_field and filters, or end them first with "
            "billing.end_entitlement",
            field="aggregation",
        )


def change(
    session: Session,
    key: Key,
    *,
    terms: Terms | None,
    start: dt.datetime,
    end: dt.datetime | None,
    now: dt.datetime,
) -> None:
    """Let `terms` (None: no right) hold from `start` until `end` (None: until further notice).

    Before and after that the right is what it was. The owner's row is locked from here on.

    Raises:
        UnknownPlan: there is no such plan.
    """
    _hold(session, key.owner)
    versions = [
        timeline.Version(each.id, each.effective_at, each.ended_at, _terms(each))
        for each in history(session, key)
    ]
    changes = timeline.change(versions, start=start, end=end, terms=terms)
    if changes.removed:
        gone = [one.id for one in changes.removed]
        session.execute(delete(Entitlement).where(Entitlement.id.in_(gone)))
    for one in changes.trimmed:
        session.execute(
            update(Entitlement)
            .where(Entitlement.id == one.id)
            .values(effective_at=one.start, ended_at=one.end)
            .execution_options(synchronize_session=False)
        )
    if changes.added:
        session.execute(insert(Entitlement), [_row(key, piece, now) for piece in changes.added])


def history(session: Session, key: Key) -> list[Entitlement]:
    """Return every version of a right, in the order of time."""
    rows = session.scalars(
        select(Entitlement)
        .where(key.matches())
        .order_by(Entitlement.effective_at)
        .execution_options(populate_existing=True)
    )
    return list(rows)


def listed(
    session: Session,
    *,
    owner: Owner | None,
    metric: str | None,
    at: dt.datetime | None,
    after: UUID | None,
    limit: int,
) -> list[Entitlement]:
    """Return versions of rights by id, from the one that follows `after`.

    Args:
        owner: whose; None is everyone's.
        metric: to which metric; None is any.
        at: only what holds then or later; None is also what is over.
    """
    conditions: list[ColumnElement[bool]] = []
    if owner is not None:
        conditions.append(owner.holds())
    if metric is not None:
        conditions.append(Entitlement.metric == metric)
    if at is not None:
        conditions.append(_is_not_over(at))
    if after is not None:
        conditions.append(Entitlement.id > after)
    rows = session.scalars(
        select(Entitlement).where(*conditions).order_by(Entitlement.id).limit(limit)
    )
    return list(rows)


def _hold(session: Session, owner: Owner) -> None:
    """Lock the owner's row, so that changes of one right come one after the other."""
    if owner.plan_key is None:
        assert owner.tenant_id is not None  # noqa: S101 (an owner is one of the two)
        subscription.hold_tenant(session, owner.tenant_id)
        return
    plan.get(session, owner.plan_key)
    session.execute(
        select(Plan.plan_key)
        .where(Plan.plan_key == owner.plan_key)
        # Subscriptions may come in meanwhile.
        .with_for_update(key_share=True)
    )


def _is_not_over(at: dt.datetime) -> ColumnElement[bool]:
    return or_(Entitlement.ended_at.is_(None), Entitlement.ended_at > at)


def _terms(stored: Entitlement) -> Terms:
    return Terms(stored.limit_amount, stored.is_soft, stored.per_seat)


def _row(key: Key, piece: timeline.Piece[Terms], now: dt.datetime) -> dict[str, object]:
    return {
        "id": ids.uuid7(now),
        "plan_key": key.owner.plan_key,
        "tenant_id": key.owner.tenant_id,
        "metric": key.metric,
        "window_unit": key.window,
        "limit_amount": piece.terms.limit,
        "is_soft": piece.terms.is_soft,
        "per_seat": piece.terms.per_seat,
        "effective_at": piece.start,
        "ended_at": piece.end,
        "created_at": now,
    }
