"""What was used over a stretch of time: the quantity that is billed, read, or shown."""

import datetime as dt
import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import orjson
from sqlalchemy import TextClause
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules.meter import MOST_DIGITS, PLAIN, UNMETERED, Aggregation, Terms
from models.rules.period import Period
from models.store import counting, horizon, meter, metering_closed, touched


@dataclass(frozen=True, slots=True)
class Window:
    """A metric of a tenant over any stretch of time."""

    tenant_id: str
    metric: str
    period: Period


ADD_UP: Final = frozenset({Aggregation.sum, Aggregation.count})
"""What two parts of a stretch come to together is their sum."""


def quantities(session: Session, windows: Sequence[Window]) -> list[Decimal]:
    """Return what each window comes to by the meter of its metric, in the same order; 0 for none.

    Rounding is applied to the window's whole, once. A window of whole local days comes from the
    totals of days where these tell it, as of the last roll-up; any other one, and different values,
    which no days can be added up to, from the events. What is closed is told by its totals alone
    (see metering_closed.py). Meters stay as they are until the transaction ends: call `meter.hold`
    before it locks anything else.

    Raises:
        UsageArchived: part of a window is closed, and its totals do not tell what is asked.
    """
    terms = meter.held(session, {window.metric for window in windows})
    return [
        terms.get(window.metric, UNMETERED).quantity(exact)
        for window, exact in zip(windows, _exact(session, windows, terms), strict=True)
    ]


def exact_quantities(session: Session, windows: Sequence[Window]) -> list[Decimal]:
    """Return the same without rounding."""
    terms = meter.held(session, {window.metric for window in windows})
    return _exact(session, windows, terms)


def tenants_to_roll_up(
    session: Session, tenant_ids: Sequence[str], *, before: dt.datetime
) -> list[str]:
    """Return the tenants with usage before an instant that no aggregate counts yet, in order."""
    rows = session.execute(
        sql(f"""
            SELECT DISTINCT tenant_id
            FROM usage_touched_days AS logged CROSS JOIN LATERAL {touched.SPANS}
            WHERE logged.tenant_ids && :tenant_ids
              AND tenant_id = ANY(:tenant_ids) AND first_at < :before
            ORDER BY tenant_id
        """),  # noqa: S608 (a constant)
        {"tenant_ids": list(tenant_ids), "before": before},
    )
    return list(rows.scalars())


def _exact(
    session: Session, windows: Sequence[Window], terms: Mapping[str, Terms]
) -> list[Decimal]:
    closed = horizon.of_tenants(session, {window.tenant_id for window in windows})
    if not any(_is_behind(window, closed) for window in windows):
        return _open(session, windows, terms)
    # What adds up is put together from its closed part and the rest, which days may tell.
    parts = [
        (place, part)
        for place, window in enumerate(windows)
        for part in _parts(window, closed, terms)
    ]
    behind = [part for _, part in parts if _is_behind(part, closed)]
    others = [part for _, part in parts if not _is_behind(part, closed)]
    asked = [(part.tenant_id, part.metric, part.period) for part in behind]
    counted = iter(metering_closed.totals(session, asked, terms, closed=closed))
    exact: list[list[Decimal]] = [[] for _ in windows]
    opened = iter(_open(session, others, terms))
    for place, part in parts:
        exact[place].append(next(counted if _is_behind(part, closed) else opened))
    with decimal.localcontext(prec=MOST_DIGITS):
        return [sum(found[1:], found[0]) for found in exact]


def _is_behind(window: Window, closed: Mapping[str, dt.datetime]) -> bool:
    until = closed.get(window.tenant_id)
    return until is not None and window.period.start < until


def _parts(
    window: Window, closed: Mapping[str, dt.datetime], terms: Mapping[str, Terms]
) -> list[Window]:
    until = closed.get(window.tenant_id, window.period.start)
    adds_up = terms.get(window.metric, UNMETERED).definition.aggregation in ADD_UP
    if not adds_up or not window.period.start < until < window.period.end:
        return [window]
    periods = Period(window.period.start, until), Period(until, window.period.end)
    return [Window(window.tenant_id, window.metric, each) for each in periods]


def _open(session: Session, windows: Sequence[Window], terms: Mapping[str, Terms]) -> list[Decimal]:
    exact = _from_days(session, windows, terms)
    uncounted = [place for place in range(len(windows)) if place not in exact]
    exact |= _from_events(session, windows, uncounted, terms)
    return [exact[place] for place in range(len(windows))]


def _from_days(
    session: Session, windows: Sequence[Window], terms: Mapping[str, Terms]
) -> dict[int, Decimal]:
    """The totals of windows, by place, that begin and end with days and that days tell."""
    exact: dict[int, Decimal] = {}
    alike: dict[Aggregation, list[int]] = {}
    for place, window in enumerate(windows):
        aggregation = terms.get(window.metric, UNMETERED).definition.aggregation
        alike.setdefault(aggregation, []).append(place)
    for aggregation in FROM_DAYS.keys() & alike.keys():
        exact |= _asked(session, FROM_DAYS[aggregation], windows, alike[aggregation])
    return exact


def _from_events(
    session: Session,
    windows: Sequence[Window],
    places: Sequence[int],
    terms: Mapping[str, Terms],
) -> dict[int, Decimal]:
    exact: dict[int, Decimal] = {}
    kinds: dict[Aggregation | None, list[int]] = {}
    for place in places:
        definition = terms.get(windows[place].metric, UNMETERED).definition
        kind = None if definition == PLAIN else definition.aggregation
        kinds.setdefault(kind, []).append(place)
    for kind, chosen in kinds.items():
        exact |= _asked(session, FROM_EVENTS[kind], windows, chosen)
    return exact


def _asked(
    session: Session, statement: TextClause, windows: Sequence[Window], places: Sequence[int]
) -> dict[int, Decimal]:
    """What a statement finds of some of the windows, by place."""
    alike: dict[tuple[str, int], list[int]] = {}
    for place in places:
        # Periods are remembered: like ones are one object, as a rule.
        key = windows[place].metric, id(windows[place].period)
        alike.setdefault(key, []).append(place)
    asked: list[dict[str, Any]] = [
        {
            "number": number,
            "metric": windows[chosen[0]].metric,
            "starts_at": windows[chosen[0]].period.start,
            "ends_at": windows[chosen[0]].period.end,
            "tenant_ids": [windows[place].tenant_id for place in chosen],
        }
        for number, chosen in enumerate(alike.values())
    ]
    places_of = list(alike.values())
    rows = session.execute(statement, {"windows": orjson.dumps(asked).decode()}).all()
    # By position: a row has thousands of likes.
    return {places_of[number][place - 1]: total for number, place, total in rows}


# What many tenants are asked for is written once: a row of JSON for each took six times as long.
WANTED = """
    (SELECT asked.number, whose.place, whose.tenant_id, asked.metric, asked.starts_at, asked.ends_at
     FROM json_to_recordset(CAST(:windows AS json)) AS asked(
              number integer, metric text, starts_at timestamptz, ends_at timestamptz,
              tenant_ids json)
          CROSS JOIN LATERAL json_array_elements_text(asked.tenant_ids)
              WITH ORDINALITY AS whose(tenant_id, place)
    ) AS span
"""

# LATERAL: each window is one short range of the primary key, whatever the planner believes of
# their number. A day that only laps over a window's start or end says nothing of the part inside.
FROM_DAYS = {
    aggregation: sql(f"""
        SELECT span.number, span.place, used.total
        FROM {WANTED}
        CROSS JOIN LATERAL (
            SELECT {total} AS total, max(day.period_end) AS ends_at
            FROM usage_aggregates AS day
            WHERE day.tenant_id = span.tenant_id AND day.metric = span.metric
              AND day.granularity = 'day'
              AND day.period_start >= span.starts_at AND day.period_start < span.ends_at
        ) AS used
        LEFT JOIN LATERAL (
            SELECT day.period_end AS ends_at
            FROM usage_aggregates AS day
            WHERE day.tenant_id = span.tenant_id AND day.metric = span.metric
              AND day.granularity = 'day' AND day.period_start < span.starts_at
            ORDER BY day.period_start DESC LIMIT 1
        ) AS before ON true
        WHERE (used.ends_at > span.ends_at) IS NOT TRUE
          AND (before.ends_at > span.starts_at) IS NOT TRUE
    """)  # noqa: S608 (a constant of this module)
    for aggregation, total in counting.DAY_TOTALS.items()
}

FROM_EVENTS = {
    None: sql(f"""
        SELECT span.number, span.place, sums.total FROM {WANTED} {counting.PLAIN_SUMS}
    """)  # noqa: S608 (a constant of this module)
} | {
    aggregation: sql(f"""
        SELECT span.number, span.place, sums.total
        FROM {WANTED}
        JOIN meters AS meter ON meter.metric = span.metric
        {counting.sums(aggregation)}
    """)  # noqa: S608 (a constant of this module)
    for aggregation in Aggregation
}
