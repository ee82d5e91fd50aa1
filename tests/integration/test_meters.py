"""Meters: what events come to by each of them, over days, months and any stretch of time."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.rules.meter import InvalidMeter
from models.rules.period import Period
from models.store import aggregate, metering
from models.store.metering import Window
from tasks import aggregation, contract
from tasks.aggregation import aggregate_daily, aggregate_usage
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.meters import list_meters, set_meter
from tasks.subscriptions import end_subscription
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tests.integration.billing_world import instant, make_plan, query, said, subscribe, usage_price
from tests.integration.waiting import until_somebody_waits

AS_OF = instant("2026-05-02T12:00:00")
KINDS = ["sum", "count", "max", "unique_count", "latest"]


def use(
    key: str, at: str, amount: Any = 1, *, tenant_id: str = "acme", metric: str = "api", **more: Any
) -> None:
    answer = record_usage(
        tenant_id=tenant_id,
        metric=metric,
        amount=amount,
        idempotency_key=key,
        at=at,
        as_of=AS_OF,
        **more,
    )
    assert answer["verdicts"] == ["accepted"]


def quantity(start: str, end: str, *, tenant_id: str = "acme", metric: str = "api") -> Decimal:
    window = Window(tenant_id, metric, Period(instant(start), instant(end)))
    with database.transaction() as session:
        return metering.quantities(session, [window])[0]


def totals(granularity: str = "day", metric: str = "api") -> list[Any]:
    with database.transaction() as session:
        rows = session.execute(
            text("""
                SELECT period_start, total, event_count FROM usage_aggregates
                WHERE granularity = :granularity AND metric = :metric ORDER BY 1
            """),
            {"granularity": granularity, "metric": metric},
        )
        return [(row[0].isoformat(), row[1], row[2]) for row in rows]


def some_days() -> None:
    """Three days: 5 and 2; 3 and 3; and on the first of May 4."""
    use("a", "2026-04-01T10:00:00Z", 5)
    use("b", "2026-04-01T11:00:00Z", 2)
    use("c", "2026-04-20T00:00:00Z", 3)
    use("d", "2026-04-20T01:00:00Z", "3.0")
    use("e", "2026-05-01T01:00:00Z", 4)


@pytest.mark.parametrize(
    ("aggregation", "days", "april", "may"),
    [
        ("sum", [7, 6, 4], 13, 4),
        ("count", [2, 2, 1], 4, 1),
        ("max", [5, 3, 4], 5, 4),
        ("unique_count", [2, 1, 1], 3, 1),
        ("latest", [2, 3, 4], 3, 4),
    ],
)
def test_days_months_and_stretches_come_to_what_the_meter_says(
    db: Engine, aggregation: Any, days: list[int], april: int, may: int
) -> None:
    set_meter(metric="api", aggregation=aggregation)
    some_days()

    aggregate_usage(as_of=AS_OF)

    assert [total for _, total, _ in totals()] == days
    assert [count for _, _, count in totals()] == [2, 2, 1]
    assert totals("month") == [
        ("2026-04-01T00:00:00+00:00", april, 4),
        ("2026-05-01T00:00:00+00:00", may, 1),
    ]
    assert quantity("2026-04-01", "2026-05-01") == april
    assert quantity("2026-05-01", "2026-06-01") == may
    assert quantity("2026-03-01", "2026-04-01") == 0


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("sum", 8), ("count", 3), ("max", 3), ("unique_count", 2), ("latest", 3)],
)
def test_a_stretch_that_cuts_days_is_counted_from_the_events(
    db: Engine, aggregation: Any, expected: int
) -> None:
    set_meter(metric="api", aggregation=aggregation)
    some_days()
    aggregate_usage(as_of=AS_OF)

    assert quantity("2026-04-01T10:30:00", "2026-04-20T01:00:00.000001") == expected
    assert quantity("2026-04-01T10:30:00", "2026-05-01") == expected
    assert quantity("2026-04-02", "2026-04-20T00:00:01") == (1 if "count" in aggregation else 3)


def test_different_values_of_a_month_are_not_those_of_its_days_added_up(db: Engine) -> None:
    set_meter(metric="seats", aggregation="unique_count", value_field="user")
    for day in (1, 2, 3):
        for user in ("ada", "bob"):
            use(f"{user}{day}", f"2026-04-0{day}", metric="seats", metadata={"user": user})
    use("nobody", "2026-04-04", metric="seats")

    aggregate_usage(as_of=AS_OF)

    assert [total for _, total, _ in totals(metric="seats")] == [2, 2, 2, 0]
    assert totals("month", "seats") == [("2026-04-01T00:00:00+00:00", 2, 6)]
    assert quantity("2026-04-01", "2026-05-01", metric="seats") == 2


def test_a_month_of_different_values_is_counted_again_when_its_days_come_to_the_same(
    db: Engine,
) -> None:
    set_meter(metric="seats", aggregation="unique_count", value_field="user")
    use("1", "2026-04-01", metric="seats", metadata={"user": "ada"})
    use("2", "2026-04-02", metric="seats", metadata={"user": "bob"})
    aggregate_usage(as_of=AS_OF)

    use("3", "2026-04-02", metric="seats", metadata={"user": "bob"})
    aggregate_usage(as_of=AS_OF)

    assert totals("month", "seats") == [("2026-04-01T00:00:00+00:00", 2, 3)]


def test_the_latest_is_the_last_to_happen_and_of_those_at_once_the_last_to_arrive(
    db: Engine,
) -> None:
    set_meter(metric="api", aggregation="latest")
    use("late in the day", "2026-04-01T20:00:00Z", 1)
    use("early, but sent later", "2026-04-01T08:00:00Z", 2)
    aggregate_usage(as_of=AS_OF)
    assert totals() == [("2026-04-01T00:00:00+00:00", 1, 2)]

    record_usage(
        tenant_id="acme",
        metric="api",
        amount=3,
        idempotency_key="at the same instant",
        at="2026-04-01T20:00:00Z",
        as_of=AS_OF + dt.timedelta(seconds=1),
    )
    aggregate_usage(as_of=AS_OF)

    assert totals() == [("2026-04-01T00:00:00+00:00", 3, 3)]


def test_a_value_is_read_from_metadata_where_the_meter_says(db: Engine) -> None:
    set_meter(metric="api", aggregation="max", value_field="size")
    use("a", "2026-04-01", 100, metadata={"size": 7})
    use("b", "2026-04-01", 100, metadata={"size": "12.5"})
    use("c", "2026-04-01", 100, metadata={"other": 99})
    use("d", "2026-04-01", 100)

    aggregate_usage(as_of=AS_OF)

    assert totals() == [("2026-04-01T00:00:00+00:00", Decimal("12.5"), 2)]


@pytest.mark.parametrize("value", ["many", True, None, [1], "NaN", 10**18, "1e3", -1])
def test_a_value_the_meter_can_not_count_rejects_its_event_alone(db: Engine, value: Any) -> None:
    set_meter(metric="api", value_field="size")
    event: Any = {"tenant_id": "acme", "metric": "api", "amount": 1, "at": "2026-04-01"}

    answer = record_usage(
        events=[
            event | {"idempotency_key": "good", "metadata": {"size": 2}},
            event | {"idempotency_key": "bad", "metadata": {"size": value}},
            event | {"idempotency_key": "none"},
        ],
        as_of=AS_OF,
    )

    assert answer["verdicts"] == ["accepted", "rejected", "accepted"]
    assert answer["refused"][0]["field"] == "metadata.size"


def test_only_events_that_pass_every_filter_count(db: Engine) -> None:
    set_meter(metric="api", filters={"region": ["eu", "us"], "tier": ["1"]})
    use("a", "2026-04-01", 1, metadata={"region": "eu", "tier": 1})
    use("b", "2026-04-01", 10, metadata={"region": "us", "tier": "1"})
    use("c", "2026-04-01", 100, metadata={"region": "asia", "tier": "1"})
    use("d", "2026-04-01", 1000, metadata={"region": "eu"})
    use("e", "2026-04-01", 10_000)

    aggregate_usage(as_of=AS_OF)

    assert totals() == [("2026-04-01T00:00:00+00:00", 11, 2)]
    assert quantity("2026-04-01", "2026-04-02") == 11
    assert quantity("2026-04-01", "2026-04-01T12:00:00") == 11


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ({"decimals": 0, "mode": "half_up"}, "3"),
        ({"decimals": 0, "mode": "up"}, "3"),
        ({"decimals": 0, "mode": "down"}, "2"),
        ({"decimals": 1, "mode": "up"}, "2.6"),
        (None, "2.51"),
    ],
)
def test_the_quantity_of_a_period_is_rounded_and_no_event_or_day_is(
    db: Engine, rounding: Any, expected: str
) -> None:
    set_meter(metric="api", rounding=rounding)
    for day in range(1, 4):
        use(f"k{day}", f"2026-04-0{day}", "0.83" if day < 3 else "0.85")

    aggregate_usage(as_of=AS_OF)

    assert [total for _, total, _ in totals()] == [Decimal("0.83")] * 2 + [Decimal("0.85")]
    assert quantity("2026-04-01", "2026-05-01") == Decimal(expected)


def test_a_correction_is_taken_where_the_meter_allows_it_and_nowhere_else(db: Engine) -> None:
    set_meter(metric="api", allow_corrections=True)
    event: Any = {"tenant_id": "acme", "at": "2026-04-01", "amount": "-2.5"}

    answer = record_usage(
        events=[
            event | {"metric": "api", "idempotency_key": "use", "amount": 10},
            event | {"metric": "api", "idempotency_key": "fix"},
            event | {"metric": "storage", "idempotency_key": "fix"},
        ],
        as_of=AS_OF,
    )

    assert answer["verdicts"] == ["accepted", "accepted", "rejected"]
    assert answer["refused"][0]["field"] == "amount"
    aggregate_usage(as_of=AS_OF)
    assert totals() == [("2026-04-01T00:00:00+00:00", Decimal("7.5"), 2)]
    with pytest.raises(contract.InvalidMessage, match="corrections"):
        use("alone", "2026-04-01", -1, metric="storage")


def test_corrections_may_leave_less_than_nothing(db: Engine) -> None:
    set_meter(metric="api", allow_corrections=True, aggregation="max")
    use("a", "2026-04-01", -3)
    use("b", "2026-04-02", -2)

    aggregate_usage(as_of=AS_OF)

    assert totals("month") == [("2026-04-01T00:00:00+00:00", -2, 2)]


def test_a_changed_meter_counts_open_days_of_every_tenant_anew(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "TENANTS_CHUNK", 2)
    for number in range(5):
        for amount in (2, 3):
            use(f"k{amount}", "2026-04-01", amount, tenant_id=f"t{number}")
    aggregate_usage(as_of=AS_OF)
    assert [total for _, total, _ in totals()] == [5] * 5

    set_meter(metric="api", aggregation="max")
    assert aggregate_usage(as_of=AS_OF) == {"days": 5, "changed": 5}

    assert [total for _, total, _ in totals()] == [3] * 5
    assert [total for _, total, _ in totals("month")] == [3] * 5
    assert aggregate_usage(as_of=AS_OF) == {"days": 0, "changed": 0}
    assert query("SELECT recount_after, definition FROM meters") == [(None, 1)]


def test_a_change_of_unit_or_rounding_counts_nothing_anew(db: Engine) -> None:
    some_days()
    aggregate_usage(as_of=AS_OF)

    first = set_meter(metric="api", unit="call", rounding={"decimals": 0, "mode": "up"})
    second = set_meter(metric="api", unit="request", rounding={"decimals": 0, "mode": "up"})
    third = set_meter(metric="api", unit="request", rounding={"decimals": 0, "mode": "up"})

    assert [one["version"] for one in (first, second, third)] == [1, 2, 2]
    assert aggregate_usage(as_of=AS_OF) == {"days": 0, "changed": 0}


def test_days_that_a_finalized_invoice_charged_for_are_not_counted_anew(db: Engine) -> None:
    make_plan(usage_price("api", "1"))
    subscribe("acme", "2026-03-01")
    for month in ("03", "04"):
        for amount in (2, 3):
            use(f"{month}:{amount}", f"2026-{month}-10", amount)
    generate_invoices(as_of=instant("2026-04-01"))
    finalize_invoices(as_of=instant("2026-04-03"))
    aggregate_usage(as_of=AS_OF)

    set_meter(metric="api", aggregation="max")
    generate_invoices(as_of=instant("2026-05-01"))

    assert query("SELECT quantity FROM invoice_lines ORDER BY period_start") == [(5,), (3,)]
    aggregate_usage(as_of=AS_OF)
    assert [total for _, total, _ in totals()] == [5, 3]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("sum", 9), ("count", 3), ("max", 4), ("unique_count", 2), ("latest", 4)],
)
def test_an_invoice_of_part_of_a_period_charges_for_the_days_it_covers(
    db: Engine, aggregation: Any, expected: int
) -> None:
    set_meter(metric="api", aggregation=aggregation, value_field=None)
    make_plan(usage_price("api", "2"))
    subscription = subscribe("acme", "2026-04-10T12:00:00", timezone="America/New_York")
    end_subscription(
        subscription_id=subscription["subscription_id"], ended_at=instant("2026-04-20T12:00:00")
    )
    use("before", "2026-04-10T03:59:59Z", 100)
    use("first", "2026-04-10T04:00:00Z", 1)
    use("middle", "2026-04-15T04:00:00Z", 4)
    use("last", "2026-04-20T03:59:59Z", 4)
    use("after", "2026-04-20T04:00:00Z", 1000)

    generate_invoices(as_of=instant("2026-05-02"))

    assert query("SELECT quantity, amount_minor FROM invoice_lines") == [(expected, expected * 200)]


def test_an_invoice_after_a_change_of_zone_still_counts_its_own_days(db: Engine) -> None:
    make_plan(usage_price("api", "1"))
    subscribe("acme", "2026-04-01")
    use("outside", "2026-03-31T23:00:00Z", 100)
    use("first", "2026-04-01T01:00:00Z", 1)
    use("last", "2026-04-30T23:00:00Z", 2)
    use("next", "2026-05-01T00:00:00Z", 1000)
    generate_invoices(as_of=instant("2026-05-01"))

    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    finalize_invoices(as_of=instant("2026-05-05"))

    assert query("SELECT state, total_minor FROM invoices") == [("finalized", 300)]


def test_sequences_of_a_day_go_on_rising_after_a_change_of_zone(db: Engine) -> None:
    use("a", "2026-04-01T10:00:00Z", 1)
    aggregate_usage(as_of=AS_OF)
    use("b", "2026-04-01T11:00:00Z", 2)
    aggregate_usage(as_of=AS_OF)

    for zone in ("Asia/Tokyo", "UTC"):
        set_tenant(tenant_id="acme", timezone=zone)
        aggregate_usage(as_of=AS_OF)

    said_of_the_day = sorted(
        (body["sequence"], body["data"]["total"])
        for body in said("billing.usage_aggregated")
        if body["data"]["day_start"] == "2026-04-01T00:00:00Z"
    )
    assert said_of_the_day == [(1, "1"), (2, "3"), (4, "3")]
    assert totals() == [("2026-04-01T00:00:00+00:00", 3, 2)]


def test_one_day_counted_on_request_changes_its_month_too(db: Engine) -> None:
    some_days()

    aggregate_daily(tenant_id="acme", metric="api", day_start="2026-04-20", as_of=AS_OF)

    assert totals("month") == [("2026-04-01T00:00:00+00:00", 6, 2)]


def test_months_begin_at_the_tenants_own_midnight(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    use("a", "2026-03-31T14:59:59Z", 1)
    use("b", "2026-03-31T15:00:00Z", 2)

    aggregate_usage(as_of=AS_OF)

    assert totals("month") == [
        ("2026-02-28T15:00:00+00:00", 1, 1),
        ("2026-03-31T15:00:00+00:00", 2, 1),
    ]


def test_what_is_used_and_not_priced_is_listed_as_such(db: Engine) -> None:
    make_plan(usage_price("priced", "1"), usage_price("quiet", "1"))
    set_meter(metric="metered", aggregation="max", unit="GB")
    set_meter(metric="retired", active=False)
    for metric in ("priced", "metered", "unheard of"):
        use("a", "2026-04-01", metric=metric)
    aggregate_usage(as_of=AS_OF)

    answer = list_meters(as_of=AS_OF)

    found = {one["metric"]: one for one in answer["meters"]}
    assert list(found) == ["metered", "priced", "unheard of"]
    assert answer["unpriced"] == ["metered", "unheard of"]
    assert (found["priced"]["used"], found["priced"]["priced"]) == (True, True)
    assert (found["metered"]["aggregation"], found["metered"]["unit"]) == ("max", "GB")
    assert (found["unheard of"]["aggregation"], found["unheard of"]["version"]) == ("sum", 0)
    assert "retired" in [one["metric"] for one in list_meters(show="all")["meters"]]


def test_meters_are_listed_in_pages(db: Engine) -> None:
    for number in range(5):
        set_meter(metric=f"m{number}")

    pages, after = [], ""
    while True:
        page = list_meters(limit=2, after=after)
        pages.append([one["metric"] for one in page["meters"]])
        if page["next_after"] is None:
            break
        after = page["next_after"]

    assert pages == [["m0", "m1"], ["m2", "m3"], ["m4"]]


def test_a_count_with_a_value_field_is_refused(db: Engine) -> None:
    with pytest.raises(InvalidMeter, match="unique_count"):
        set_meter(metric="api", aggregation="count", value_field="user")


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("aggregation", {"aggregation": "avg"}),
        ("rounding.decimals", {"rounding": {"decimals": 13, "mode": "up"}}),
        ("rounding.mode", {"rounding": {"decimals": 1, "mode": "sideways"}}),
        ("filters.region", {"filters": {"region": []}}),
        ("value_field", {"value_field": ""}),
        ("metric", {"metric": ""}),
    ],
)
def test_a_meter_that_makes_no_sense_is_refused_by_field(
    db: Engine, field: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(contract.InvalidMessage, match=field):
        set_meter(**{"metric": "api", **arguments})


def test_a_change_of_meter_waits_for_a_roll_up_with_the_old_one(db: Engine) -> None:
    use("a", "2026-04-01", 2)
    use("b", "2026-04-01", 3)
    with ThreadPoolExecutor(1) as pool, database.Session(db) as first:
        aggregate.roll_up(first, limit=10, now=AS_OF)
        change = pool.submit(set_meter, metric="api", aggregation="max")
        until_somebody_waits()
        first.commit()
        change.result()

    aggregate_usage(as_of=AS_OF)

    assert totals() == [("2026-04-01T00:00:00+00:00", 3, 2)]
