"""Days of many events: counted by the quarter hours that were touched, and as exact as any."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import aggregate, full_days, locked_days, recount
from tasks import aggregation, turns
from tasks.aggregation import aggregate_daily, aggregate_usage, roll_up_in
from tasks.meters import set_meter
from tasks.recount import recount_usage
from tasks.tenants import set_tenant
from tasks.turns import Timed
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration.billing_world import instant, query

AS_OF = instant("2026-05-03T12:00:00")
DAY = instant("2026-05-01")
FULL = 3


@pytest.fixture(autouse=True)
def few_events_are_many(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locked_days, "FULL", FULL)


def use(hour: float, amount: Any = 1, *, key: str | None = None, **more: Any) -> None:
    event: Any = {"tenant_id": "acme", "metric": "api", "amount": amount}
    at = DAY + dt.timedelta(hours=hour)
    name = key or f"k{hour}"
    answer = record_usage(**{**event, "idempotency_key": name, "at": at, **more}, as_of=AS_OF)
    assert answer["verdicts"] == ["accepted"]


def fill() -> None:
    """Make the first of May full: 1, 2, 3 and 4 at one, two, three and four o'clock."""
    for hour in (1, 2, 3, 4):
        use(hour, hour)
        aggregate_usage(as_of=AS_OF)


def tamper(statement: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement))


def days() -> list[Any]:
    return [
        tuple(row)
        for row in query(
            "SELECT period_start, total, event_count FROM usage_aggregates "
            "WHERE granularity = 'day' ORDER BY tenant_id, period_start"
        )
    ]


def quarters(tenant_id: str = "acme") -> list[Any]:
    found = query("SELECT tenant_id, starts_at, total FROM usage_quarter_hours ORDER BY 1, 2")
    return [(row[1], row[2]) for row in found if row[0] == tenant_id]


def at(hour: float) -> dt.datetime:
    return DAY + dt.timedelta(hours=hour)


def test_a_day_of_few_events_keeps_no_quarter_hours() -> None:
    use(1)
    use(2)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 2, 2)]
    assert quarters() == []


def test_a_day_becomes_full_when_it_is_counted_the_next_time() -> None:
    fill()

    assert days() == [(DAY, 10, 4)]
    assert quarters() == [(at(1), 1), (at(2), 2), (at(3), 3), (at(4), 4)]


def test_quarter_hours_that_were_left_of_another_time_are_not_in_a_day() -> None:
    """The release before lets a tenant move, and leaves its quarter hours behind."""
    tamper("INSERT INTO usage_quarter_hours VALUES ('acme', 'api', '2026-05-01T01:01Z', 100, 1)")
    fill()

    assert days() == [(DAY, 10, 4)]
    assert len(quarters()) == 4


def test_of_a_full_day_only_what_was_touched_is_counted() -> None:
    fill()
    tamper("UPDATE usage_quarter_hours SET total = 100 WHERE total = 1")

    use(4.1, 5)
    aggregate_usage(as_of=AS_OF)
    assert days() == [(DAY, 114, 5)]

    use(1.1, 6)
    aggregate_usage(as_of=AS_OF)
    assert days() == [(DAY, 21, 6)]


def test_neighbours_are_counted_together_and_what_lies_between_others_is_not() -> None:
    fill()
    tamper("INSERT INTO usage_quarter_hours VALUES ('acme', 'api', '2026-05-01T01:30Z', 100, 0)")
    for hour in (1.01, 1.26, 1.76, 2.01, 2.26, 2.51):
        use(hour, 10)
    aggregate_usage(as_of=AS_OF)

    assert quarters() == [
        (at(1), 11),
        (at(1.25), 10),
        (at(1.5), 100),
        (at(1.75), 10),
        (at(2), 12),
        (at(2.25), 10),
        (at(2.5), 10),
        (at(3), 3),
        (at(4), 4),
    ]


def test_late_events_of_one_message_touch_their_quarter_hours_and_none_between() -> None:
    fill()
    tamper("UPDATE usage_quarter_hours SET total = 100 WHERE total = 2")

    events: Any = [
        {"tenant_id": "acme", "metric": "api", "amount": 1, "idempotency_key": f"m{hour}",
         "at": at(hour)}
        for hour in (1.01, 4.01, 23.99)
    ]  # fmt: skip
    record_usage(events=events, as_of=AS_OF)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 1 + 100 + 3 + 4 + 3, 7)]
    assert quarters()[-1] == (at(23.75), 1)


def test_a_voided_event_comes_off_its_quarter_hour() -> None:
    fill()
    void_usage(tenant_id="acme", metric="api", idempotency_key="k2", reason="mistake")
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 8, 3)]
    assert (at(2), 0) in quarters()


def test_a_drift_of_a_quarter_hour_is_found_at_night_and_mended() -> None:
    fill()
    tamper("UPDATE usage_quarter_hours SET total = total + 1")
    use(4.1)
    aggregate_usage(as_of=AS_OF)
    assert days() == [(DAY, 14, 5)]

    assert recount_usage(as_of=AS_OF)["drifted"] == 1
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 11, 5)]
    assert recount_usage(as_of=AS_OF)["drifted"] == 0


def test_a_drift_is_mended_also_where_the_day_is_in_two_days_of_utc() -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    fill()
    tamper("UPDATE usage_quarter_hours SET total = total + 1")
    tamper("UPDATE usage_aggregates SET total = total + 4")

    assert recount_usage(as_of=AS_OF)["drifted"] == 1
    aggregate_usage(as_of=AS_OF)

    assert days() == [(at(-9), 10, 4)]


def test_a_day_that_the_release_before_counted_is_counted_as_a_whole() -> None:
    """It takes what was touched and writes the total, and does not know of quarter hours."""
    fill()
    use(1.1, 7)
    tamper("DELETE FROM usage_touched_days")
    tamper("UPDATE usage_aggregates SET total = 17, event_count = 5, version = version + 1")

    use(4.1, 20)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 37, 6)]


@pytest.mark.parametrize("fresh", ["max", "count", "latest", "unique_count"])
def test_a_meter_that_changed_counts_all_quarter_hours_anew(fresh: Any) -> None:
    fill()
    # What is touched may be counted before the change has touched the open days.
    set_meter(metric="api", aggregation=fresh)
    tamper("UPDATE meters SET recount_after = NULL")
    use(2.1, 4)
    aggregate_usage(as_of=AS_OF)
    came_to = {"max": 4, "count": 5, "latest": 4, "unique_count": 4}
    assert days() == [(DAY, came_to[fresh], 5)]

    set_meter(metric="api", aggregation="sum")
    tamper("UPDATE meters SET recount_after = NULL")
    use(3.1, 5)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 19, 6)]


def test_a_metric_of_different_values_is_counted_from_its_events() -> None:
    set_meter(metric="api", aggregation="unique_count")
    fill()
    use(5, 4)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 4, 5)]
    assert quarters() == []


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Asia/Kathmandu", "2026-05-01"),
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2025-10-26"),
        ("Australia/Lord_Howe", "2026-04-05"),
        ("Africa/Monrovia", "1971-06-01"),
    ],
)
def test_full_days_begin_and_end_at_the_midnights_of_any_zone(zone: str, day: str) -> None:
    """Offsets of quarters, half hours and seconds, and days of 23, 24 1/2 and 25 hours."""
    set_tenant(tenant_id="acme", timezone=zone)
    count_day: Any = {"tenant_id": "acme", "metric": "api"}
    before = dt.date.fromisoformat(day) - dt.timedelta(days=1)
    starts = instant(query(f"SELECT local_midnight('{day}', '{zone}')")[0][0].isoformat())
    ends = query(f"SELECT local_midnight(date '{day}' + 1, '{zone}')")[0][0]
    second = dt.timedelta(seconds=1)
    for number, when in enumerate((starts - second, starts, ends - second, ends)):
        use(0, 10**number, key=f"edge{number}", at=when)
        use(0, 0, key=f"more{number}", at=starts + number * second)
        use(0, 0, key=f"before{number}", at=starts - (number + 2) * second)
        aggregate_usage(as_of=AS_OF)

    assert aggregate_daily(**count_day, day_start=day, as_of=AS_OF)["total"] == "110"
    assert aggregate_daily(**count_day, day_start=before, as_of=AS_OF)["total"] == "1"
    assert sum(total for _, total in quarters()) == 111


def test_a_tenant_that_moves_takes_no_quarter_hours_along() -> None:
    fill()
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    assert quarters() == []

    aggregate_usage(as_of=AS_OF)
    use(0.1, 7)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(at(-9), 17, 5)]


def leave(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk count one stretch at a time, and end after some seconds."""
    monkeypatch.setattr(full_days, "FIRST", 1)
    monkeypatch.setattr(aggregation, "CHUNK_BUDGET", patience)
    monkeypatch.setattr(turns, "SHORT", -1.0)


def test_what_there_is_no_time_for_is_counted_by_the_next_and_the_day_keeps_its_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(1, 1)
    use(2, 2)
    use(3, 3)
    aggregate_usage(as_of=AS_OF)
    leave(0.0, monkeypatch)
    monkeypatch.setattr(aggregation, "TIME_BUDGET", 0.0)
    use(23, 4)

    seen = list[Decimal]()
    for _ in range(24):
        answer = aggregate_usage(as_of=AS_OF)
        seen.append(days()[0][1])
        assert answer["changed"] == (seen[-1] == 10)

    assert seen == [6] * 23 + [10]
    assert [total for _, total in quarters()] == [1, 2, 3, 4]


def test_what_comes_while_a_day_is_being_counted_is_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for hour in (1, 2, 3):
        use(hour, hour)
    aggregate_usage(as_of=AS_OF)
    leave(0.0, monkeypatch)
    monkeypatch.setattr(aggregation, "TIME_BUDGET", 0.0)
    use(4, 4)
    for early in (0.5, 1.5, 20.5):
        for _ in range(3):
            aggregate_usage(as_of=AS_OF)
        use(early, 100)
    # In one statement now: what was touched and what is new share no quarter hour.
    monkeypatch.setattr(full_days, "FIRST", 100)
    use(0.1, 0, key="early")
    use(23.1, 0, key="late")

    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 310, 9)]
    assert recount_usage(as_of=AS_OF)["drifted"] == 0


def test_an_invoice_waits_for_no_other_roll_up_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for hour in (1, 2, 3):
        use(hour, hour)
    aggregate_usage(as_of=AS_OF)
    leave(0.0, monkeypatch)
    monkeypatch.setattr(aggregation, "TIME_BUDGET", 0.0)
    use(4, 4)
    aggregate_usage(as_of=AS_OF)
    assert days() == [(DAY, 6, 3)]

    with database.transaction() as session:
        roll_up_in(session, ["acme"], now=AS_OF)

    assert days() == [(DAY, 10, 4)]


def test_days_of_few_events_for_which_there_is_no_time_wait_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tenant_id in ("ada", "bob", "cy"):
        use(1, 1, tenant_id=tenant_id)
    monkeypatch.setattr("models.store.counted.FIRST", 1)
    with database.transaction() as session:
        chunk = aggregate.roll_up(session, limit=10, now=AS_OF, turns=Timed(0.0))

    assert not chunk.is_last
    assert len(chunk.changed) < 3
    aggregate_usage(as_of=AS_OF)
    assert [total for _, total, _ in days()] == [1, 1, 1]


def test_a_day_that_nobody_counted_for_hours_is_full_when_it_is_first_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for minute in range(FULL + 1):
        use(1 + minute / 60, 1)
    aggregate_usage(as_of=AS_OF)

    assert days() == [(DAY, 4, 4)]
    assert quarters() == [(at(1), 4)]


def test_the_night_goes_on_with_the_next_tenant_where_time_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tenant_id in ("ada", "bob", "cy"):
        use(1, 1, tenant_id=tenant_id)
        use(-5, 1, tenant_id=tenant_id)
    aggregate_usage(as_of=AS_OF)
    tamper("UPDATE usage_aggregates SET total = 7 WHERE granularity = 'day'")
    monkeypatch.setattr(recount, "FIRST", 5)

    def look(after: str, limit: int = 3) -> recount.Checked:
        with database.transaction() as session:
            return recount.check(
                session, after=after, limit=limit, days=3, now=AS_OF, turns=Timed(0.0)
            )

    first = look("")
    assert (first.last_tenant_id, first.days, first.left_out) == ("ada", 3, 0)
    assert {drift.tenant_id for drift in first.drifts} == {"ada"}
    second = look("ada")
    assert (second.last_tenant_id, second.days) == ("bob", 3)
    monkeypatch.setattr(recount, "FIRST", 1)
    last = look("bob")
    assert (last.last_tenant_id, last.days, last.left_out) == ("cy", 1, 2)
    assert last.drifts == ()
