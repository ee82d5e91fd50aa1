"""Totals of usage, read page by page."""

import base64
import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Final, TypedDict
from zoneinfo import ZoneInfo

import orjson
from pydantic import Field

from models import database
from models.rules import decimals, period
from models.rules.refusal import Refusal
from models.store import aggregate_page, tenant
from models.usage import Granularity, UsageAggregate
from tasks import contract, fields
from tasks.queues import Queue

LONGEST_PAGE: Final = 1_000
"""Totals in one answer."""

LONGEST_CURSOR: Final = 1_024
"""Characters of a cursor. Ours are below half of it."""


class UsageEntry(TypedDict):
    """The absolute total of one metric in one local day or month, `[period_start, period_end)`."""

    metric: str
    period_start: dt.datetime
    period_end: dt.datetime
    total: str
    event_count: int
    updated_at: dt.datetime


class UsageList(TypedDict):
    """One page of totals, by metric and then by time.

    `next_cursor` leads to the next page and is None on the last one. `is_behind`: some usage has
    arrived that the next roll-up, within seconds, will add.
    """

    tenant_id: str
    timezone: str
    granularity: Granularity
    usage: list[UsageEntry]
    next_cursor: str | None
    is_behind: bool


class EmptyRange(Refusal):
    """The range holds no instant."""

    code = "usage.empty_range"


class InvalidCursor(Refusal):
    """The cursor is none that this query gave out."""

    code = "usage.invalid_cursor"


@contract.command("billing.list_usage", queue=Queue.usage)
def list_usage(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    metric: fields.Metric | None = None,
    granularity: Granularity = Granularity.day,
    date_from: fields.DayStart,
    date_to: fields.DayStart,
    cursor: Annotated[str, Field(max_length=LONGEST_CURSOR)] | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = LONGEST_PAGE,
) -> UsageList:
    """Return a tenant's totals whose period begins from `date_from` on and before `date_to`.

    Runs when somebody sends it and changes nothing, however often and wherever it dies. A total
    that changes between two pages is neither seen twice nor left out.

    Args:
        tenant_id: whose usage.
        metric: of what; without it every metric.
        granularity: totals of local days or of local months.
        date_from: the tenant's local day (YYYY-MM-DD), or an instant; inside.
        date_to: the same; outside.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: totals on one page, 1 to 1,000.

    Raises:
        UnknownTenant: there is no such tenant.
        EmptyRange: `date_to` is not after `date_from`.
        InvalidCursor: `cursor` does not come from this query.
    """
    zone = tenant.get(session, tenant_id).timezone
    start, end = _range(date_from, date_to, period.zone(zone))
    wanted = aggregate_page.Wanted(tenant_id, metric, granularity, start, end)
    # One more than asked for tells whether there is another page.
    found = aggregate_page.list_page(session, wanted, after=_place(cursor, wanted), most=limit + 1)
    page = found[:limit]
    return {
        "tenant_id": tenant_id,
        "timezone": zone,
        "granularity": granularity,
        "usage": [_entry(total) for total in page],
        "next_cursor": _cursor(page, wanted) if len(found) > limit else None,
        "is_behind": aggregate_page.is_behind(session, tenant_id),
    }


def _range(
    date_from: dt.date | dt.datetime, date_to: dt.date | dt.datetime, zone: ZoneInfo
) -> tuple[dt.datetime, dt.datetime]:
    start, end = _instant(date_from, zone), _instant(date_to, zone)
    if start >= end:
        raise EmptyRange(
            f"date_to {date_to.isoformat()} must be after date_from {date_from.isoformat()}; it is "
            "the first day that is left out",
            field="date_to",
        )
    return start, end


def _instant(given: dt.date | dt.datetime, zone: ZoneInfo) -> dt.datetime:
    if isinstance(given, dt.datetime):
        return given.astimezone(dt.UTC)
    return period.local_midnight(given, zone)


def _entry(total: UsageAggregate) -> UsageEntry:
    return {
        "metric": total.metric,
        "period_start": total.period_start,
        "period_end": total.period_end,
        "total": decimals.plain(total.total),
        "event_count": total.event_count,
        "updated_at": total.updated_at,
    }


def _cursor(page: Sequence[UsageAggregate], wanted: aggregate_page.Wanted) -> str:
    last = page[-1]
    parts = [*_query(wanted), last.metric, last.period_start]
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


def _place(cursor: str | None, wanted: aggregate_page.Wanted) -> aggregate_page.Place | None:
    if cursor is None:
        return None
    try:
        *query, metric, period_start = orjson.loads(base64.urlsafe_b64decode(cursor))
        place = aggregate_page.Place(metric, dt.datetime.fromisoformat(period_start))
        if query == _query(wanted) and metric.isprintable() and place.period_start.tzinfo:
            return place
    except (ValueError, TypeError, AttributeError):
        pass  # not ours: it is refused below
    raise InvalidCursor(
        "cursor does not come from this query; give next_cursor of the page before and leave the "
        "other arguments as they were, or no cursor to begin anew",
        field="cursor",
    )


def _query(wanted: aggregate_page.Wanted) -> list[str | None]:
    """What a cursor is good for. Its range may grow: the place in it stays the same."""
    return [wanted.tenant_id, wanted.metric, wanted.granularity.value]
