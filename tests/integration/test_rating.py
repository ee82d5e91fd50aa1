"""Invoices rate usage by every model of price, from the events where the price looks at them."""

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from models import database
from models.rules import calendar_periods, money, period, pricing
from models.rules.billing import Days
from models.rules.pricing import Event, Price
from models.store import aggregate, rating, tenant, usage
from models.store.breakdown import Want
from tasks import quoting
from tasks.invoice_runs import generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice
from tasks.meters import set_meter
from tasks.parking import list_parked
from tasks.plans import set_price
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration.billing_world import fee, instant, make_plan, said, subscribe, usage_price
from tests.unit.rules import prices, vectors
from tests.unit.rules.vectors import Row

LATER = instant("2026-12-31")
zones = st.sampled_from(["UTC", "Asia/Kathmandu"])
_keys = itertools.count()


def priced(model: str, metric: str = "calls", **params: Any) -> dict[str, Any]:
    """A usage price as `set_plan` takes it."""
    unit_price = params.pop("unit_price", None)
    return {
        "price_key": metric,
        "kind": "usage",
        "metric": metric,
        "model": model,
        "unit_amount": unit_price,
        "params": params,
        "currency": "USD",
    }


def record(at: str | dt.datetime, amount: str | Decimal = "1", **metadata: Any) -> str:
    """Record one event of acme's calls, and return its key."""
    key = f"k{next(_keys)}"
    event = {"tenant_id": "acme", "metric": "calls", "amount": str(amount), "idempotency_key": key}
    answer = record_usage(**event, at=at, metadata=metadata, as_of=LATER)
    assert answer["verdicts"] == ["accepted"]
    return key


def invoice(month: str = "2026-01-01") -> Any:
    first = dt.date.fromisoformat(month)
    return generate_monthly_invoice(
        tenant_id="acme",
        period_start=month,
        period_end=calendar_periods.add_months(first, 1).isoformat(),
        as_of=LATER,
    )


def steps(line: Any) -> list[tuple[str | None, str, str]]:
    return [(step.get("of"), step["kind"], step["amount"]) for step in line["details"]["steps"]]


# What the database reads is what the rules make of the same events.


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(prices.prices(), min_size=3, max_size=3), events=prices.events(), zone=zones)
def test_events_are_broken_down_as_the_rules_say(
    db: Engine, asked: list[Price], events: list[Event], zone: str
) -> None:
    local = period.zone(zone)
    sent = [
        {
            "tenant_id": "acme",
            "metric": "calls",
            "amount": str(event.amount),
            "at": cast("dt.datetime", event.at).replace(tzinfo=local),
            "idempotency_key": str(place),
            "metadata": dict(event.metadata),
        }
        for place, event in enumerate(events)
    ]
    january = Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1))
    wants = [Want("acme", "calls", price, january, january, local) for price in asked]

    # Never committed: the next example begins with nothing.
    with database.Session(db) as session:
        tenant.change(session, "acme", timezone=zone, now=LATER)
        # Backwards: what counts is when it happened, not when it arrived.
        for event in reversed(sent):
            usage.record(session, [event], now=LATER)
        aggregate.roll_up_tenants(session, ["acme"], now=LATER)
        found = rating.usages(session, wants)

    for price, used in zip(asked, found, strict=True):
        expected = pricing.of_events(price, events)
        assert [(part.filter, part.group) for part in used.parts] == [
            (part.filter, part.group) for part in expected.parts
        ]
        assert used.quantity == expected.quantity
        rated, reckoned = (pricing.rate(price, each, "USD") for each in (used, expected))
        assert (rated.amount, rated.amount_minor) == (reckoned.amount, reckoned.amount_minor)
        assert sorted(map(str, rated.steps)) == sorted(map(str, reckoned.steps))


# Published prices, from events to the invoice.

PUBLISHED = [
    row
    for row in vectors.rows("pricing", *vectors.models_of("pricing"))
    + vectors.rows("rounding", "per_unit")
    + vectors.rows("commitment", "volume_with_min_spend", "volume_with_max_spend")
    if "incremental" not in row["model"]
    and "already_billed" not in row["params"]
    and "lines" not in row["params"]
]


@pytest.mark.parametrize("row", PUBLISHED, ids=vectors.row_id)
def test_a_published_price_is_what_the_invoice_says(db: Engine, row: Row) -> None:
    currency = row["currency"]
    month = row["params"].get("period", ["2026-01-01"])[0]
    asked = quoting.read(row["model"], row["params"], currency, row["input"])
    terms = []
    for place, one in enumerate(asked):
        metric = f"metric-{place}"
        written = pricing.write(one.price)
        price = priced(one.price.model.value, metric, **written)
        terms.append({**price, "currency": currency})
        peaks = one.price.model is pricing.Model.capacity
        set_meter(metric=metric, allow_corrections=True, aggregation="max" if peaks else "sum")
        record_usage(events=events_of(metric, one, month), as_of=instant("2026-06-01"))
    make_plan(*terms, as_of=instant("2020-01-01"))
    subscribe("acme", month, currency=currency)

    billed = invoice(month)

    assert billed["total_minor"] == money.to_minor(Decimal(row["expected_amount"]), currency)
    for line, one in zip(billed["lines"], asked, strict=True):
        expected = one.line(currency)
        assert line["amount_minor"] == expected.amount_minor
        if not expected.is_plain:
            assert line["details"]["steps"] == pricing.as_json(expected.steps)
    assert invoice(month) == billed


def events_of(metric: str, asked: quoting.Asked, month: str) -> list[dict[str, Any]]:
    """Events that come to the usage of a published case."""
    first = dt.datetime.fromisoformat(month).replace(tzinfo=dt.UTC)
    price, found = asked.price, list[dict[str, Any]]()
    hours = itertools.count(1)

    def add(amount: Decimal, at: dt.datetime, metadata: dict[str, Any]) -> None:
        key = f"{metric}:{len(found)}"
        found.append(
            {
                "tenant_id": "acme",
                "metric": metric,
                "amount": str(amount),
                "at": at.isoformat(),
                "idempotency_key": key,
                "metadata": metadata,
            }
        )

    for part in asked.usage.parts:
        before, day = Decimal(0), first
        for amount, count in part.amounts:
            if price.recurring:
                at = first - dt.timedelta(days=40) if day == first else day
                add(amount - before, at + dt.timedelta(hours=5), {})
                before, day = amount, day + dt.timedelta(days=count)
                continue
            metadata = {} if price.group_by is None else {price.group_by: part.group}
            if price.amount_field is not None:
                metadata[price.amount_field] = str(part.charged)
            # An hour of its own, where the greatest value of an hour counts.
            add(amount, first + dt.timedelta(hours=next(hours)), metadata)
    return found


# Drafts, late usage, voids, changes.

BY_MODEL = {"match": {"model": "atlas"}, "unit_price": "10"}


def test_filters_of_a_metric_share_its_events_out(db: Engine) -> None:
    make_plan(priced("per_unit", unit_price="1", filters=[BY_MODEL]))
    subscribe("acme", "2026-01-01")
    record("2026-01-05", "2", model="atlas")
    record("2026-01-06", "3", model="hermes")
    record("2026-01-07", "4")
    record("2026-02-01", "100", model="atlas")

    (line,) = invoice()["lines"]

    assert (line["quantity"], line["unit_amount"], line["amount"]) == ("9", None, "27.00")
    assert steps(line) == [("model = atlas", "units", "20"), ("the rest", "units", "7")]


def test_a_draft_follows_late_events_and_says_so_once(db: Engine) -> None:
    make_plan(priced("percentage", rate_percent="2", fixed_per_event="0.30"))
    subscribe("acme", "2026-01-01")
    record("2026-01-05", "50")
    first = invoice()
    late = record("2026-01-04", "100")

    again = invoice()

    assert (first["total"], again["total"]) == ("1.30", "3.60")
    assert invoice() == again
    assert len(said("billing.invoice.updated")) == 1
    void_usage(tenant_id="acme", metric="calls", idempotency_key=late, reason="a test", as_of=LATER)
    assert invoice()["total"] == "1.30"


def test_a_finalized_invoice_stays_and_a_second_run_makes_none(db: Engine) -> None:
    make_plan(priced("per_unit", unit_price="1", max_per="day"))
    subscribe("acme", "2026-01-01")
    for at, amount in (("2026-01-05", "50"), ("2026-01-05T20:00:00", "70"), ("2026-01-06", "5")):
        record(at, amount)
    draft = invoice()
    final = finalize_invoice(invoice_id=draft["invoice_id"], as_of=LATER)
    record("2026-01-07", "1000")

    assert final["total"] == "75.00"
    assert invoice() == final


def test_a_day_s_greatest_value_is_that_of_the_tenant_s_day(db: Engine) -> None:
    make_plan(priced("per_unit", unit_price="1", max_per="day"))
    subscribe("acme", "2026-01-01T08:00:00Z", timezone="America/Los_Angeles")
    record("2026-01-06T07:59:59Z", "5")
    record("2026-01-05T08:00:00Z", "7")
    record("2026-01-06T08:00:00Z", "11")

    assert invoice()["total"] == "18.00"


def test_a_price_change_rates_each_part_of_the_month_with_its_share_of_the_tiers(
    db: Engine,
) -> None:
    tiers = [{"up_to": "31", "flat_fee": "31"}, {"unit_price": "1"}]
    make_plan(priced("graduated", tiers=tiers))
    subscribe("acme", "2026-01-01")
    record("2026-01-05", "20")
    record("2026-01-25", "20")
    before = invoice()
    changed = [{"up_to": "31", "flat_fee": "31"}, {"unit_price": "2"}]
    price = cast("Any", priced("graduated", tiers=changed))

    set_price(plan_key="pro", price=price, as_of=instant("2026-01-21T12:00:00"))
    after = invoice()

    # 20 of 31 days: 20 units and 20.00; 11 of them: 11 units and 11.00, and 9 above them at 2.
    assert before["total"] == "40.00"
    assert [line["amount"] for line in after["lines"]] == ["20.00", "29.00"]
    assert after["lines"][1]["details"]["steps"][-1]["above"] == "11"
    assert steps(after["lines"][0]) == [(None, "units", "0"), (None, "flat_fee", "20")]


def test_tiers_that_are_not_prorated_are_whole_for_any_days(db: Engine) -> None:
    tiers = [{"up_to": "31", "flat_fee": "31"}, {"unit_price": "1"}]
    make_plan(priced("graduated", tiers=tiers, prorate=False))
    subscribe("acme", "2026-01-22")
    record("2026-01-25", "40")

    assert invoice()["total"] == "40.00"


def test_units_live_on_in_the_next_months_until_they_are_taken_back(db: Engine) -> None:
    set_meter(metric="calls", allow_corrections=True)
    tiers = [{"up_to": "5", "unit_price": "10"}, {"unit_price": "5"}]
    make_plan(priced("graduated", tiers=tiers, recurring=True))
    subscribe("acme", "2026-01-01")
    record("2026-01-17T23:00:00", "6")
    record("2026-03-16", "-5")

    months = [invoice(month) for month in ("2026-01-01", "2026-02-01", "2026-03-01")]

    # 15 of 31 days; all of February; 6 units on 15 of 31 days, one on the rest.
    assert [one["total"] for one in months] == ["26.61", "55.00", "31.77"]
    assert [one["lines"][0]["quantity"] for one in months[:2]] == ["2.903225806452", "6"]


def test_a_fee_may_have_tiers_for_seats(db: Engine) -> None:
    tiers = [{"up_to": "5", "unit_price": "10", "flat_fee": "31"}, {"unit_price": "5"}]
    seats = {**fee("1"), "model": "graduated", "unit_amount": None, "params": {"tiers": tiers}}
    make_plan(seats)
    subscribe("acme", "2026-01-17", quantity="7")

    (line,) = invoice()["lines"]

    # 15 of 31 days of 5 x 10 + 31 + 2 x 5.
    assert (line["amount"], line["quantity"]) == ("44.03", "7")
    assert sum(step["amount_minor"] for step in line["details"]["steps"]) == 4403


def test_each_currency_has_its_own_price(db: Engine) -> None:
    dollars = priced("package", package_size="10", package_price="1.50")
    yen = {**priced("package", package_size="10", package_price="250"), "currency": "JPY"}
    make_plan(dollars, yen)
    subscribe("acme", "2026-01-01", currency="JPY")
    record("2026-01-05", "11")

    assert invoice()["total"] == "500"


def test_usage_that_can_not_be_priced_parks_its_tenant_and_no_other(db: Engine) -> None:
    make_plan(priced("dynamic", amount_field="cost"))
    for tenant_id in ("acme", "other"):
        subscribe(tenant_id, "2026-01-01")
    record("2026-01-05", "1", cost="0.70")
    bad = record("2026-01-06", "1", cost="a lot")
    run = {"as_of": instant("2026-02-01T01:00:00")}

    first = generate_invoices(**run)

    assert (first["invoices"], first["failed"]) == (1, 1)
    (parked,) = list_parked()["parked"]
    assert (parked["tenant_id"], parked["code"]) == ("acme", "usage.unpriceable")
    assert "1 events of metric 'calls' have no number in metadata.cost" in parked["reason"]

    void_usage(tenant_id="acme", metric="calls", idempotency_key=bad, reason="a test", as_of=LATER)
    record("2026-01-06", "1", cost="1.05")
    assert generate_invoices(**run, tenant_id="acme")["invoices"] == 1
    assert list_parked()["parked"] == []
    assert invoice()["total"] == "1.75"


@pytest.mark.parametrize(
    ("meter", "price"),
    [
        ({"aggregation": "unique_count"}, priced("percentage", rate_percent="1", free_events=3)),
        ({"aggregation": "unique_count"}, priced("per_unit", unit_price="1", max_per="hour")),
        ({"aggregation": "latest"}, priced("per_unit", unit_price="1", recurring=True)),
        ({"aggregation": "sum"}, priced("capacity", tiers=[{"price": "1"}], group_by="what")),
    ],
)
def test_a_meter_that_does_not_go_with_its_price_is_said(
    db: Engine, meter: dict[str, Any], price: dict[str, Any]
) -> None:
    set_meter(metric="calls", **meter)
    make_plan(price)
    subscribe("acme", "2026-01-01")
    record("2026-01-05")

    with pytest.raises(pricing.Unpriceable, match=f"'calls'.*meter|{meter['aggregation']}"):
        invoice()


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sum", 6 * (7 + 1) + (3 + 1)),
        ("count", 6 * 2 + 2),
        ("max", 6 * 7 + 3),
        ("latest", 6 * 1 + 1),
    ],
)
def test_each_filter_counts_as_the_meter_says(db: Engine, aggregation: str, expected: int) -> None:
    set_meter(metric="calls", aggregation=aggregation, filters={"region": ["eu"]})
    make_plan(priced("per_unit", unit_price="1", filters=[{**BY_MODEL, "unit_price": "6"}]))
    subscribe("acme", "2026-01-01")
    for at, amount, model in (("05", "7", "atlas"), ("06", "1", "atlas"), ("07", "3", "b")):
        record(f"2026-01-{at}", amount, model=model, region="eu")
    record("2026-01-08", "1", model="b", region="eu")
    record("2026-01-09", "900", model="atlas", region="us")

    assert invoice()["total_minor"] == 100 * expected


def test_different_values_are_counted_in_each_group(db: Engine) -> None:
    set_meter(metric="calls", aggregation="unique_count", value_field="user")
    make_plan(
        priced(
            "volume",
            tiers=[{"up_to": "1", "unit_price": "9"}, {"unit_price": "1"}],
            group_by="team",
        )
    )
    subscribe("acme", "2026-01-01")
    for team, user in (("a", "x"), ("a", "x"), ("b", "x"), ("b", "y")):
        record("2026-01-05", team=team, user=user)

    (line,) = invoice()["lines"]

    assert steps(line) == [("team = a", "units", "9"), ("team = b", "units", "2")]


def test_plain_and_other_prices_share_an_invoice(db: Engine) -> None:
    make_plan(
        usage_price("calls", "1"),
        {**priced("per_unit", unit_price="1", filters=[BY_MODEL]), "price_key": "filtered"},
        {**priced("per_unit", unit_price="31", recurring=True), "price_key": "lasting"},
        fee("5"),
    )
    subscribe("acme", "2026-01-01")
    record("2026-01-30", "2", model="atlas")

    assert [(line["description"], line["amount"]) for line in invoice()["lines"]] == [
        ("base", "5.00"),
        ("calls", "2.00"),
        ("filtered", "20.00"),
        ("lasting", "4.00"),
    ]
