"""Totals of what is closed stay as they are, whatever is changed, counted or asked afterwards."""

import datetime as dt
import itertools
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.rules.period import Period
from models.store import locked_days, metering, metering_alike, recount
from models.store.horizon import UsageArchived
from models.store.metering import Window
from models.store.metering_alike import Windows
from tasks.aggregation import aggregate_daily, aggregate_usage
from tasks.invoice_runs import generate_invoices
from tasks.invoices import generate_monthly_invoice
from tasks.meters import set_meter
from tasks.recount import recount_usage
from tasks.tenants import set_tenant
from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import instant, query

AGGREGATIONS: list[Any] = ["sum", "count", "max", "unique_count", "latest"]
MARCH = instant("2026-03-01")


@pytest.fixture(autouse=True)
def folder(db: Engine, tmp_path: Path) -> Path:
    """A folder for archives, and the rule that usage goes there."""
    world.keep_in(tmp_path)
    return tmp_path


def a_purged_winter(*, purge_at: dt.datetime = MARCH + world.AGE, timezone: str = "UTC") -> None:
    """January and February are closed and purged; what was used in March and April is there."""
    world.on_a_plan(timezone=timezone)
    world.record(
        event("1", "2026-01-05T10:00:00Z", "5"),
        event("2", "2026-01-05T20:00:00Z", "7"),
        event("3", "2026-02-28T23:00:00Z", "5"),
        event("4", "2026-03-01T01:00:00Z", "4"),
        event("5", "2026-04-02T10:00:00Z", "7"),
    )
    world.bill()
    assert world.archive(purge_at)["closed"] == 1


def quantity(start: str, end: str, metric: str = "api") -> Decimal:
    window = Window("acme", metric, Period(instant(start), instant(end)))
    with database.transaction() as session:
        found = metering.quantities(session, [window])
        together = Windows([window.tenant_id], window.metric, window.period)
        assert metering_alike.quantities(session, [together]) == [found]
        return found[0]


def touch_everything() -> None:
    """Log every day there is as touched, as whatever comes to mind might."""
    with database.transaction() as session:
        session.execute(
            text("""
                INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
                SELECT array_agg(tenant_id), array_agg(metric), array_agg(period_start),
                       array_agg(period_end - interval '1 microsecond')
                FROM usage_aggregates WHERE granularity = 'day'
            """)
        )


def test_quarter_hours_of_what_is_closed_are_gone_and_the_totals_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locked_days, "FULL", 0)

    a_purged_winter()

    assert query("SELECT starts_at, total FROM usage_quarter_hours ORDER BY 1") == [
        (instant("2026-03-01T01:00"), 4),
        (instant("2026-04-02T10:00"), 7),
    ]
    assert quantity("2026-01-01", "2026-03-01") == 17
    assert recount_usage(as_of=world.OLD)["drifted"] == 0


def test_a_roll_up_of_closed_days_changes_nothing(folder: Path) -> None:
    a_purged_winter()
    before = world.totals(), world.totals("month")
    touch_everything()

    assert aggregate_usage(as_of=world.OLD) == {"days": 2, "changed": 0}

    assert (world.totals(), world.totals("month")) == before
    assert query("SELECT count(*) FROM usage_touched_days") == [(0,)]


def test_asking_for_a_closed_day_gives_the_total_it_had(folder: Path) -> None:
    a_purged_winter()

    answer = aggregate_daily(
        tenant_id="acme", metric="api", day_start=dt.date(2026, 1, 5), as_of=world.OLD
    )

    assert answer["total"] == "12"


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_change_of_the_meter_counts_open_days_alone(folder: Path, aggregation: Any) -> None:
    set_meter(metric="disk", aggregation="max")
    world.record(
        event("x", "2026-01-05T10:00:00Z", "5", metric="disk"),
        event("y", "2026-01-05T11:00:00Z", "3", metric="disk"),
        event("z", "2026-05-05T10:00:00Z", "5", metric="disk"),
        event("z2", "2026-05-05T11:00:00Z", "3", metric="disk"),
        as_of=world.OLD,
    )
    a_purged_winter()
    closed = [row for row in world.totals() if row[2] < MARCH]

    set_meter(metric="disk", aggregation=aggregation)
    set_meter(metric="api", aggregation=aggregation)
    aggregate_usage(as_of=world.OLD)

    assert [row for row in world.totals() if row[2] < MARCH] == closed
    (may,) = [row[3] for row in world.totals() if row[1] == "disk" and row[2] >= MARCH]
    assert may == {"sum": 8, "count": 2, "max": 5, "unique_count": 2, "latest": 3}[aggregation]


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"])
def test_a_change_of_the_zone_keeps_closed_totals_and_loses_no_hour(
    folder: Path, zone: str
) -> None:
    a_purged_winter()
    closed = [row for row in world.totals() if row[2] < MARCH]
    closed_months = [row for row in world.totals("month") if row[2] < MARCH]

    set_tenant(tenant_id="acme", timezone=zone, as_of=world.OLD)
    aggregate_usage(as_of=world.OLD)

    assert [row for row in world.totals() if row[2] < MARCH] == closed
    assert [row for row in world.totals("month") if row[2] < MARCH] == closed_months
    spans = query(
        "SELECT granularity, period_start, period_end FROM usage_aggregates ORDER BY 1, 2"
    )
    for granularity in ("day", "month"):
        mine = [(start, end) for kind, start, end in spans if kind == granularity]
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(mine))
        assert all(start >= MARCH or end <= MARCH for start, end in mine)
    assert sum(row[3] for row in world.totals()) == 28
    assert sum(row[3] for row in world.totals("month")) == 28
    assert recount_usage(as_of=instant("2026-03-04T12:00:00"))["drifted"] == 0
    assert quantity("2026-01-01", "2026-05-01") == 28
    # Back again: what was counted by the other zone goes, and nothing counts twice.
    set_tenant(tenant_id="acme", timezone="UTC", as_of=world.OLD)
    aggregate_usage(as_of=world.OLD)
    assert sum(row[3] for row in world.totals()) == 28


def test_after_a_change_of_the_zone_the_next_month_closes_where_the_last_one_ended(
    folder: Path,
) -> None:
    a_purged_winter()
    set_tenant(tenant_id="acme", timezone="America/New_York", as_of=world.OLD)
    aggregate_usage(as_of=world.OLD)
    world.keep_in(folder, even_uninvoiced=True)
    # The days that were counted by another zone are looked at by the invoice that comes next.
    assert world.archive(instant("2026-08-01"))["purged"] == 0
    world.bill("2026-08-02")

    assert world.archive(instant("2026-08-01"))["purged"] == 2

    assert query("SELECT period_start, period_end FROM usage_archives ORDER BY period_start")[
        2:
    ] == [
        (MARCH, instant("2026-03-01T05:00:00")),
        (instant("2026-04-01T04:00:00"), instant("2026-05-01T04:00:00")),
    ]
    assert [len(world.lines(path)) for path in world.files(folder)] == [2, 1, 1, 1]


def test_the_nightly_count_leaves_closed_days_alone(folder: Path) -> None:
    a_purged_winter()

    assert recount_usage(as_of=instant("2026-01-06T12:00:00"))["drifted"] == 0
    assert recount_usage(as_of=instant("2026-03-02T12:00:00")) == {
        "days": 1,
        "drifted": 0,
        "drifts": [],
        "next_after": None,
    }
    with database.transaction() as session:
        recount.touch(
            session,
            [
                recount.Drift(
                    "acme", "api", instant("2026-01-05"), instant("2026-01-06"), None, Decimal(0)
                )
            ],
        )
    aggregate_usage(as_of=world.OLD)
    assert world.totals()[0][3:] == (12, 2)


def test_usage_that_goes_on_after_the_purge_is_counted_as_ever(folder: Path) -> None:
    a_purged_winter()

    world.record(event("6", "2026-03-01T00:00:00Z", "1"), as_of=world.OLD)
    aggregate_usage(as_of=world.OLD)

    assert [row[3] for row in world.totals()] == [12, 5, 5, 7]
    assert [row[3] for row in world.totals("month")] == [12, 5, 5, 7]


ENTIRELY_CLOSED = ("2026-01-01", "2026-02-01")
ONE_CLOSED_DAY = ("2026-01-05", "2026-01-06")
NOTHING_USED = ("2026-01-06", "2026-02-28")
ACROSS_THE_HORIZON = ("2026-02-01", "2026-04-01")
TO_MID_DAY = ("2026-01-01", "2026-04-02T10:00:01")
TO_THE_FIRST_OPEN_HOUR = ("2026-02-01", "2026-03-01T00:30:00")
ENTIRELY_OPEN = ("2026-03-01", "2026-05-01")
ENDS_WITHIN_A_CLOSED_DAY = ("2026-01-01", "2026-01-05T12:00:00")

REFUSED = None

EXPECTED: dict[str, dict[tuple[str, str], int | None]] = {
    aggregation: dict(
        zip(
            (
                ENTIRELY_CLOSED,
                ONE_CLOSED_DAY,
                NOTHING_USED,
                ACROSS_THE_HORIZON,
                TO_MID_DAY,
                TO_THE_FIRST_OPEN_HOUR,
                ENTIRELY_OPEN,
                ENDS_WITHIN_A_CLOSED_DAY,
            ),
            row,
            strict=True,
        )
    )
    for aggregation, row in {
        "sum": (12, 12, 0, 9, 28, 5, 11, REFUSED),
        "count": (2, 2, 0, 2, 5, 1, 2, REFUSED),
        "max": (7, 7, 0, 5, 7, 5, 7, REFUSED),
        "unique_count": (2, 2, 0, REFUSED, REFUSED, REFUSED, 2, REFUSED),
        "latest": (7, 7, 0, 4, 7, 5, 7, REFUSED),
    }.items()
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_quantity_is_what_it_was_before_the_purge_or_is_refused(
    folder: Path, aggregation: Any
) -> None:
    set_meter(metric="api", aggregation=aggregation)
    a_purged_winter()

    for (start, end), expected in EXPECTED[aggregation].items():
        if expected is REFUSED:
            with pytest.raises(UsageArchived, match="metric 'api' of tenant 'acme'"):
                quantity(start, end)
        else:
            assert quantity(start, end) == expected, (start, end)


def test_negative_values_do_not_pass_for_nothing(folder: Path) -> None:
    set_meter(metric="api", aggregation="max", allow_corrections=True)
    world.on_a_plan()
    world.record(event("1", "2026-01-05T10:00:00Z", "-5"), event("2", "2026-04-05", "-7"))
    world.bill()
    world.archive()

    assert quantity("2026-01-01", "2026-05-01") == -5
    assert quantity("2026-02-01", "2026-05-01") == -7
    assert quantity("2026-01-01", "2026-04-05") == -5


def test_a_subscription_from_before_the_horizon_is_billed_from_the_totals_that_stay(
    folder: Path,
) -> None:
    world.keep_in(folder, even_uninvoiced=True)
    world.record(event("1", "2026-01-05T10:00:00Z", "5"), event("2", "2026-02-05", "7"))
    aggregate_usage(as_of=world.ARRIVED)
    assert world.archive()["purged"] == 2

    world.on_a_plan()
    generate_invoices(as_of=world.ARRIVED)

    lines = query("SELECT quantity FROM invoice_lines ORDER BY period_start LIMIT 3")
    assert lines == [(5,), (7,), (0,)]


def test_a_month_from_before_a_move_is_billed_by_its_own_days(folder: Path) -> None:
    """They begin where the closed ones end, and not at a midnight of the new zone before that."""
    world.on_a_plan()
    world.record(
        event("1", "2026-01-31T20:00:00Z", "5"),
        event("2", "2026-02-01T00:30:00Z", "7"),
        event("3", "2026-02-27T00:30:00Z", "1"),
    )
    world.bill("2026-02-05")
    assert world.archive(instant("2026-02-01") + world.AGE)["purged"] == 1
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo", as_of=world.OLD)

    invoice = generate_monthly_invoice(
        tenant_id="acme",
        period_start=dt.date(2026, 2, 1),
        period_end=dt.date(2026, 3, 1),
        as_of=world.OLD,
    )

    assert invoice["period_start"] == "2026-02-01T00:00:00Z"
    assert [line["quantity"] for line in invoice["lines"]] == ["8"]
