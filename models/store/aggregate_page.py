"""Totals of usage as they are read: page by page, each once, whatever is written meanwhile."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, literal, select, tuple_
from sqlalchemy.orm import Session

from models.usage import Granularity, UsageAggregate, UsageTouchedDay


@dataclass(frozen=True, slots=True)
class Wanted:
    """The totals of a tenant whose period begins in `[start, end)`.

    Args:
        metric: of this metric only; None for all.
    """

    tenant_id: str
    metric: str | None
    granularity: Granularity
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: the key of its last total."""

    metric: str
    period_start: dt.datetime


def list_page(
    session: Session, wanted: Wanted, *, after: Place | None, most: int
) -> Sequence[UsageAggregate]:
    """Return totals by metric and then by period, at most `most` of those behind `after`.

    The order is the primary key's: a page is one range of that index, and a total that is written
    between two pages is neither seen twice nor moves another one out of sight.
    """
    key = (UsageAggregate.metric, UsageAggregate.granularity, UsageAggregate.period_start)
    statement = select(UsageAggregate).where(
        UsageAggregate.tenant_id == wanted.tenant_id,
        UsageAggregate.granularity == wanted.granularity,
        UsageAggregate.period_start >= wanted.start,
        UsageAggregate.period_start < wanted.end,
    )
    if wanted.metric is not None:
        statement = statement.where(UsageAggregate.metric == wanted.metric)
    if after is not None:
        place = (literal(after.metric), literal(wanted.granularity), literal(after.period_start))
        statement = statement.where(tuple_(*key) > tuple_(*place))
    return session.scalars(statement.order_by(*key).limit(most)).all()


def is_behind(session: Session, tenant_id: str) -> bool:
    """Tell whether some usage of the tenant was stored and is not in its totals yet."""
    touched = select(exists().where(UsageTouchedDay.tenant_ids.any_() == tenant_id))
    return bool(session.scalar(touched))
