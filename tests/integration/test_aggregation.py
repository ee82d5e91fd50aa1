"""Daily totals: by the tenant's own days, never stale, announced once when they change."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy import Engine, text

from models import database
from models.rules import period
from models.store import aggregate, usage
from models.store.aggregate import Wanted
from models.store.tenant import UnknownTenant
from tasks import aggregation, contract
from tasks.aggregation import aggregate_daily, aggregate_usage, roll_up_in
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tests.integration.waiting import until_somebody_waits

AS_OF = dt.datetime(2026, 5, 2, 12, tzinfo=dt.UTC)
DAYS = "FROM usage_aggregates WHERE granularity = 'day'"
MICROSECOND = dt.timedelta(microseconds=1)


def use(key: str, at: dt.datetime | str, amount: int = 1, metric: str = "api") -> None:
    answer = record_usage(
        tenant_id="acme", metric=metric, amount=amount, idempotency_key=key, at=at, as_of=AS_OF
    )
    assert answer["verdicts"] == ["accepted"]


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def count_day(day_start: Any, tenant_id: str = "acme") -> Any:
    return aggregate_daily(tenant_id=tenant_id, metric="api", day_start=day_start, as_of=AS_OF)


def daily_totals() -> dict[dt.datetime, Decimal]:
    found = rows(f"SELECT period_start, total {DAYS} ORDER BY 1")
    return {row.period_start: row.total for row in found}


def announced() -> list[tuple[str, str, int]]:
    """Day, total and sequence of each event in the outbox, oldest first."""
    bodies = [orjson.loads(row.body) for row in rows("SELECT body FROM outbox_messages")]
    return sorted(
        (body["data"]["day_start"], body["data"]["total"], body["sequence"]) for body in bodies
    )


def test_a_touched_day_is_counted_and_announced_once(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=2)
    use("b", "2026-05-01T23:59:59.999999Z", amount=3)

    assert aggregate_usage(as_of=AS_OF) == {"days": 1, "changed": 1}
    assert aggregate_usage(as_of=AS_OF) == {"days": 0, "changed": 0}

    assert daily_totals() == {dt.datetime(2026, 5, 1, tzinfo=dt.UTC): Decimal(5)}
    assert announced() == [("2026-05-01T00:00:00Z", "5", 1)]
    assert rows("SELECT count(*) FROM usage_touched_days") == [(0,)]


def test_a_late_event_changes_its_old_day_and_is_announced_once(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z")
    use("b", "2026-05-02T10:00:00Z")
    aggregate_usage(as_of=AS_OF)

    use("late", "2026-05-01T00:00:00Z", amount=4)

    assert aggregate_usage(as_of=AS_OF) == {"days": 1, "changed": 1}
    assert aggregate_usage(as_of=AS_OF) == {"days": 0, "changed": 0}
    assert announced() == [
        ("2026-05-01T00:00:00Z", "1", 1),
        ("2026-05-01T00:00:00Z", "5", 2),
        ("2026-05-02T00:00:00Z", "1", 1),
    ]


def test_a_day_that_is_touched_but_counts_the_same_is_not_announced(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z")
    aggregate_usage(as_of=AS_OF)
    use("nothing", "2026-05-01T11:00:00Z", amount=0)

    assert aggregate_usage(as_of=AS_OF) == {"days": 1, "changed": 0}
    assert rows(f"SELECT total, event_count {DAYS}") == [(1, 2)]
    assert len(announced()) == 1


def test_a_first_total_of_zero_is_announced(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=0)

    aggregate_usage(as_of=AS_OF)

    assert announced() == [("2026-05-01T00:00:00Z", "0", 1)]


def test_a_day_between_two_events_that_has_none_gets_no_total(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    use("a", "2026-05-01T16:00:00Z")

    aggregate_usage(as_of=AS_OF)

    assert list(daily_totals()) == [dt.datetime(2026, 5, 1, 15, tzinfo=dt.UTC)]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-03-29", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2025-10-26", 25),
        ("Asia/Kathmandu", "2026-01-01", 24),
        ("America/Havana", "2025-11-02", 25),  # midnight comes twice
        ("America/St_Johns", "2006-10-29", 25),  # 00:01 goes back to 23:01 of the day before
        ("America/St_Johns", "2006-10-28", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),  # there is no midnight
        ("Pacific/Apia", "2011-12-29", 24),  # the 30th was skipped
        ("Pacific/Apia", "2011-12-31", 24),
    ],
)
def test_an_event_belongs_to_the_local_day_whose_instants_hold_it(
    db: Engine, zone: str, day: str, hours: int
) -> None:
    bounds = period.day_bounds(dt.date.fromisoformat(day), ZoneInfo(zone))
    assert bounds.end - bounds.start == hours * dt.timedelta(hours=1)
    set_tenant(tenant_id="acme", timezone=zone)
    use("before", bounds.start - MICROSECOND, amount=1)
    use("first", bounds.start, amount=10)
    use("noon", bounds.start + dt.timedelta(hours=12), amount=100)
    use("last", bounds.end - MICROSECOND, amount=1000)
    use("after", bounds.end, amount=10_000)

    aggregate_usage(as_of=AS_OF)

    found = rows(f"SELECT period_start, period_end, total {DAYS} ORDER BY 1")
    assert [row.total for row in found] == [1, 1110, 10_000]
    assert [row.period_end for row in found[:2]] == [row.period_start for row in found[1:]]
    assert found[1].period_start == bounds.start
    assert count_day(day)["total"] == "1110"


def test_another_time_zone_counts_everything_anew_by_its_own_days(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=1)
    use("b", "2026-05-01T20:00:00Z", amount=2)
    aggregate_usage(as_of=AS_OF)

    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    aggregate_usage(as_of=AS_OF)

    assert daily_totals() == {
        dt.datetime(2026, 4, 30, 15, tzinfo=dt.UTC): Decimal(1),
        dt.datetime(2026, 5, 1, 15, tzinfo=dt.UTC): Decimal(2),
    }


def test_only_the_named_tenant_is_rolled_up(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z")
    record_usage(tenant_id="other", metric="api", amount=1, idempotency_key="a", as_of=AS_OF)

    assert aggregate_usage(tenant_id="other", as_of=AS_OF) == {"days": 1, "changed": 1}
    assert rows("SELECT tenant_ids FROM usage_touched_days") == [(["acme"],)]


def test_more_touched_days_than_one_chunk_are_all_counted(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "CHUNK", 3)
    for number in range(10):
        use(f"k{number}", dt.datetime(2026, 4, 1 + number, tzinfo=dt.UTC))

    assert aggregate_usage(as_of=AS_OF) == {"days": 10, "changed": 10}


def test_a_run_that_is_out_of_time_leaves_the_rest_to_the_next(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "CHUNK", 3)
    monkeypatch.setattr(aggregation, "TIME_BUDGET", -1.0)
    for number in range(5):
        use(f"k{number}", dt.datetime(2026, 4, 1 + number, tzinfo=dt.UTC))

    assert [aggregate_usage(as_of=AS_OF)["days"] for _ in range(3)] == [3, 2, 0]


def test_one_day_can_be_counted_by_its_date_or_the_instant_it_begins(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Kathmandu")
    use("a", "2026-05-01T18:14:59Z", amount=1)
    use("b", "2026-05-01T18:15:00Z", amount=2)
    answer = {
        "tenant_id": "acme",
        "metric": "api",
        "day_start": "2026-05-01T18:15:00Z",
        "total": "2",
    }

    assert count_day("2026-05-02") == answer
    again = count_day("2026-05-02T00:00:00+05:45")
    assert again == answer
    assert announced() == [("2026-05-01T18:15:00Z", "2", 1)]


@pytest.mark.parametrize(
    "day_start", ["2026-05-02T00:00:00Z", "2026-05-01T18:15:00.000001Z", "2026-05-02T18:14:59Z"]
)
def test_an_instant_within_a_day_is_not_its_beginning(db: Engine, day_start: str) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Kathmandu")

    with pytest.raises(aggregation.NotADay, match="Asia/Kathmandu"):
        count_day(day_start)


def test_a_day_that_the_zone_skipped_is_refused(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Pacific/Apia")

    with pytest.raises(aggregation.NotADay, match="skipped"):
        count_day("2011-12-30")


@pytest.mark.parametrize(
    "day_start", [None, 5, "", "today", "2026-02-30", "9999-12-31", "0001-01-01"]
)
def test_what_is_no_day_is_refused_by_its_name(db: Engine, day_start: Any) -> None:
    with pytest.raises(contract.InvalidMessage, match="day_start"):
        count_day(day_start)


def test_a_day_of_an_unknown_tenant_is_refused(db: Engine) -> None:
    with pytest.raises(UnknownTenant, match="nobody"):
        count_day("2026-05-01", tenant_id="nobody")


def test_a_day_without_usage_is_zero_and_leaves_nothing_behind(db: Engine) -> None:
    set_tenant(tenant_id="acme")

    answer = count_day("2026-05-01")

    assert answer["total"] == "0"
    assert daily_totals() == {}
    assert announced() == []


def test_totals_of_many_metrics_and_periods_come_in_the_order_they_were_asked(db: Engine) -> None:
    for day in range(1, 5):
        use(f"k{day}", dt.datetime(2026, 4, day, tzinfo=dt.UTC), amount=10**day)
        use(f"k{day}", dt.datetime(2026, 4, day, tzinfo=dt.UTC), amount=day, metric="storage")
    aggregate_usage(as_of=AS_OF)
    first, third, fifth = (dt.datetime(2026, 4, day, tzinfo=dt.UTC) for day in (1, 3, 5))

    with database.transaction() as session:
        totals = aggregate.totals(
            session,
            [
                Wanted("acme", "storage", third, fifth),
                Wanted("acme", "api", first, fifth),
                Wanted("nobody", "api", first, fifth),
                Wanted("acme", "api", first, third),
            ],
        )

    assert totals == [7, 11_110, 0, 110]


def test_an_event_committed_after_the_roll_up_looked_is_counted_by_the_next(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=1)
    with database.Session(db) as slow:
        late = {
            "tenant_id": "acme",
            "metric": "api",
            "amount": 2,
            "idempotency_key": "slow",
            "at": dt.datetime(2026, 5, 1, 11, tzinfo=dt.UTC),
        }
        usage.record(slow, [late], now=AS_OF)
        aggregate_usage(as_of=AS_OF)
        assert list(daily_totals().values()) == [1]
        slow.commit()

    aggregate_usage(as_of=AS_OF)

    assert list(daily_totals().values()) == [3]


def test_two_roll_ups_of_one_day_end_with_the_newer_total(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=1)
    with ThreadPoolExecutor(1) as pool, database.Session(db) as first:
        assert aggregate.roll_up(first, limit=10, now=AS_OF).days == 1
        use("b", "2026-05-01T11:00:00Z", amount=2)
        second = pool.submit(aggregate_usage, as_of=AS_OF)
        until_somebody_waits()
        first.commit()
        second.result()

    assert rows(f"SELECT total, version {DAYS}") == [(3, 2)]


def test_an_invoice_waits_for_a_roll_up_of_its_tenant_under_way(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=1)

    def invoice() -> list[Decimal]:
        day = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
        with database.transaction() as session:
            roll_up_in(session, ["acme"], now=AS_OF)
            return aggregate.totals(
                session, [Wanted("acme", "api", day, day + dt.timedelta(days=1))]
            )

    with ThreadPoolExecutor(1) as pool, database.Session(db) as first:
        aggregate.roll_up(first, limit=10, now=AS_OF)
        totals = pool.submit(invoice)
        until_somebody_waits()
        first.commit()

        assert totals.result() == [1]


def test_a_change_of_zone_waits_for_a_roll_up_with_the_old_one(db: Engine) -> None:
    use("a", "2026-05-01T10:00:00Z", amount=1)
    with ThreadPoolExecutor(1) as pool, database.Session(db) as first:
        aggregate.roll_up(first, limit=10, now=AS_OF)
        change = pool.submit(set_tenant, tenant_id="acme", timezone="Asia/Tokyo")
        until_somebody_waits()
        first.commit()
        change.result()

    aggregate_usage(as_of=AS_OF)

    assert daily_totals() == {dt.datetime(2026, 4, 30, 15, tzinfo=dt.UTC): Decimal(1)}
