"""Published cases of aggregation, time zones, boundaries and idempotency, through the real path.

Rows that are not run are listed with why not in tests/unit/rules/vectors.py.
"""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from models.rules import calendar_periods, period
from models.rules.period import Anchor, Interval, Period
from models.store import aggregate, metering, usage
from models.store.metering import Window
from tasks.aggregation import aggregate_usage
from tasks.invoice_runs import generate_invoices
from tasks.meters import set_meter
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tests.integration.billing_world import instant, make_plan, query, subscribe, usage_price
from tests.unit.rules import vectors

AS_OF = instant("2026-05-02")

METERED = {
    "aggregation:sum",
    "aggregation:max",
    "aggregation:unique_count",
    "aggregation:count",
    "aggregation:latest",
}
PERIODS = {"days_between_local_dates", "monthly_invoices_across_dst", "period_boundaries"}
NEXT_DATES = {"next_billing_date"}
RUNS = {"billing_job_late_by_2h": "month", "weekly_anniversary_billed_once": "week"}
DUPLICATES = {"dedup", "dedup_crash_between_claim_and_write"}

CATEGORIES = ("aggregation", "timezone", "boundaries", "idempotency")


def of(models: set[str]) -> Any:
    chosen = [
        row
        for category in CATEGORIES
        for row in vectors.rows(category, *(models & set(vectors.models_of(category))))
    ]
    return pytest.mark.parametrize("row", chosen, ids=[row["id"] for row in chosen])


def use(key: str, at: dt.datetime, **more: Any) -> str:
    event = {"tenant_id": "acme", "metric": "m", "amount": 1, "idempotency_key": key, "at": at}
    return record_usage(**{**event, **more}, as_of=AS_OF)["verdicts"][0]


def quantity(start: dt.datetime, end: dt.datetime) -> Decimal:
    aggregate_usage(as_of=AS_OF)
    with database.transaction() as session:
        return metering.quantities(session, [Window("acme", "m", Period(start, end))])[0]


@of(METERED)
def test_a_published_aggregation_comes_out(db: Engine, row: dict[str, Any]) -> None:
    kind, field = row["model"].removeprefix("aggregation:"), row["params"]["field"]
    set_meter(metric="m", aggregation=kind, value_field=None if kind == "count" else field)
    first = instant("2023-01-01")
    events = row["input"].get("events") or [
        [(first + number * dt.timedelta(hours=9)).isoformat(), value]
        for number, value in enumerate(row["input"]["values"])
    ]
    # Backwards: what counts is when it happened, not when it arrived.
    for number, (at, value) in reversed(list(enumerate(events))):
        use(f"k{number}", instant(at), metadata={field: value})

    assert quantity(first, instant("2023-02-01")) == Decimal(row["expected_amount"])
    assert quantity(first, instant("2023-01-20T12:00:00")) == Decimal(row["expected_amount"])


@of(PERIODS)
def test_usage_in_a_published_period_is_counted_by_local_days(
    db: Engine, row: dict[str, Any]
) -> None:
    """One event in the first and last microsecond of each local day, and one on either side."""
    zone = period.zone(row["params"].get("timezone", "UTC"))
    set_tenant(tenant_id="acme", timezone=zone.key)
    for number, (first, after) in enumerate(_days(row)):
        days = [first + dt.timedelta(days=one) for one in range((after - first).days)]
        bounds = [period.day_bounds(day, zone) for day in days]
        start, end = bounds[0].start, bounds[-1].end
        microsecond = dt.timedelta(microseconds=1)
        for each in bounds:
            use(f"{number}:first:{each.start}", each.start, amount=1)
            use(f"{number}:last:{each.end}", each.end - microsecond, amount=1)
        use(f"{number}:before", start - microsecond, amount=1_000)
        use(f"{number}:after", end, amount=1_000)

        aggregate_usage(as_of=AS_OF)
        counted = query(
            "SELECT count(*) FROM usage_aggregates WHERE granularity = 'day' "
            "AND period_start >= :start AND period_start < :end",
            start=start,
            end=end,
        )
        assert counted == [(len(days),)]
        if row["expected_amount"] is not None and row["model"] == "days_between_local_dates":
            assert len(days) == int(row["expected_amount"])
        # What other periods of the row left here are their events of 1,000 on our edges.
        assert quantity(start, end) % 1_000 == 2 * len(days)


def _days(row: dict[str, Any]) -> list[tuple[dt.date, dt.date]]:
    """Half-open runs of days; the published last day of a boundary is part of it."""
    if row["model"] == "period_boundaries":
        return [
            (dt.date.fromisoformat(first), dt.date.fromisoformat(last) + dt.timedelta(days=1))
            for first, last in row["expected"]["periods"]
        ]
    if "period" in row["input"]:
        first, after = row["input"]["period"]
        return [(dt.date.fromisoformat(first), dt.date.fromisoformat(after))]
    first, after = (row["input"][name][:10] for name in ("from", "to"))
    return [(dt.date.fromisoformat(first), dt.date.fromisoformat(after))]


@of(PERIODS & {"period_boundaries"})
def test_published_boundaries_are_the_periods_that_usage_is_billed_in(row: dict[str, Any]) -> None:
    zone = period.zone("UTC")
    for first, after in _days(row):
        found = calendar_periods.containing(
            period.local_midnight(first, zone),
            interval=Interval.month,
            anchor=Anchor.anniversary,
            anchored_on=dt.date.fromisoformat(row["params"]["anchor"]),
            zone=zone,
        )
        assert found == Period(
            period.local_midnight(first, zone), period.local_midnight(after, zone)
        )


@of(NEXT_DATES)
def test_a_published_next_billing_date_comes_out(row: dict[str, Any]) -> None:
    anchor, months = dt.date.fromisoformat(row["params"]["anchor"]), row["params"]["months"]

    assert calendar_periods.add_months(anchor, months).isoformat() == row["expected"]["next"]


@of({"dedup"})
def test_published_duplicates_are_told_from_new_events(db: Engine, row: dict[str, Any]) -> None:
    events = [
        {"tenant_id": "acme", "metric": "m", "amount": 1, "idempotency_key": event["id"]}
        for event in row["input"]["events"]
    ]

    answer = record_usage(events=events, as_of=AS_OF)

    expected = row["expected"]
    assert (answer["accepted"], answer["duplicate"]) == (
        expected["inserted"],
        expected["duplicates"],
    )


@of({"dedup_crash_between_claim_and_write"})
def test_an_event_whose_transaction_died_is_counted_once_when_sent_again(
    db: Engine, row: dict[str, Any]
) -> None:
    at = instant("2026-04-01")
    event = {"tenant_id": "acme", "metric": "m", "amount": 1, "idempotency_key": "a", "at": at}
    with database.Session(db) as dying:
        usage.record(dying, [event], now=AS_OF)
        aggregate.roll_up(dying, limit=10, now=AS_OF)
        dying.rollback()

    assert use("a", at) == "accepted"
    assert use("a", at) == "duplicate"

    expected = Decimal(row["expected_amount"])
    assert quantity(instant("2026-04-01"), instant("2026-05-01")) == expected


@of(set(RUNS))
def test_usage_is_billed_once_however_late_and_often_the_run_comes(
    db: Engine, row: dict[str, Any]
) -> None:
    """From before a local midnight that ends a period until two hours after it."""
    zone = row["params"].get("timezone", "UTC")
    make_plan(usage_price("m", "1"), interval=RUNS[row["model"]], anchor="anniversary")
    subscribe("acme", "2026-03-04T12:00:00", timezone=zone)
    use("a", instant("2026-03-05"))
    days = 31 if RUNS[row["model"]] == "month" else 7
    last = dt.date(2026, 3, 4) + dt.timedelta(days=days)
    ends = period.local_midnight(last, period.zone(zone))

    for minutes in (-30, 30, 119, 119, 120):
        generate_invoices(as_of=ends + dt.timedelta(minutes=minutes))

    expected = int(row["expected_amount"])
    assert query("SELECT count(*), sum(total_minor) FROM invoices") == [(expected, 100)]
