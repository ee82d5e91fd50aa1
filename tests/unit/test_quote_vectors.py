"""Published prices come out, by the way that quotes and invoices share."""

import datetime as dt
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from models.rules import billing, meter, money, period, pricing
from models.rules.billing import Cycle, Days, PriceVersion, Subscription
from models.rules.period import Anchor, Interval
from models.rules.pricing import Model, StepKind
from tasks import quotes
from tests.unit.rules import vectors
from tests.unit.rules.vectors import Row

Case = tuple[str, dict[str, Any], dict[str, Any]]

PRICED = vectors.rows("pricing", *vectors.models_of("pricing")) + vectors.rows(
    "rounding", "per_unit"
)
LIMITED = vectors.rows(
    "commitment", "graduated_with_min_spend", "volume_with_min_spend", "volume_with_max_spend"
)


@pytest.mark.parametrize("row", PRICED + LIMITED, ids=vectors.row_id)
def test_a_published_price_comes_out(row: Row) -> None:
    published = Decimal(row["expected_amount"])
    for model, params, used in cases(row):
        quoted = quotes.answer(model, params, row["currency"], used)

        assert quoted["amount_minor"] == money.to_minor(published, row["currency"])
        # Some are published before rounding.
        if published != Decimal(quoted["amount"]):
            assert Decimal(quoted["exact_amount"]) == published
        steps = [step["amount_minor"] for line in quoted["lines"] for step in line["steps"]]
        assert sum(steps) == quoted["amount_minor"]


def cases(row: Row) -> Iterator[Case]:
    """What a row asks for; where it is said in words, each thing that these can mean."""
    model, params, used = row["model"], row["params"], row["input"]
    if "lines" in params:
        parts = [re.fullmatch(r"(\d+) units @(\d+)", line) for line in params["lines"]]
        tiers = {part[0]: [{"block_size": "1", "price": part[2]}] for part in parts if part}
        units = {part[0]: part[1] for part in parts if part}
        yield model, {"units": tiers}, units
    elif used.get("units") == "further units priced above 10":
        # 11 units cost the 160 that were billed; any more of them at 10 pass the maximum.
        for further in ("1.001", "2", "4", "1000"):
            yield model, params, {"units": str(11 + Decimal(further))}
    elif model == "graduated_with_min_spend" and "tiers" not in params:
        # A period in which nothing more is used than what was billed.
        tier = {"flat_fee": params["already_billed"]}
        yield model, {**params, "tiers": [tier]}, {**used, "units": "0"}
    else:
        yield model, params, used


@pytest.mark.parametrize("row", [row for row in LIMITED if "expected" in row], ids=vectors.row_id)
def test_a_published_limit_is_a_step_of_its_own(row: Row) -> None:
    (line,) = quotes.answer(row["model"], row["params"], row["currency"], row["input"])["lines"]
    steps = [(step["kind"], Decimal(step["amount"])) for step in line["steps"]]

    expected = row["expected"]
    if "lines" in expected:
        assert [amount for _, amount in steps if amount] == list(map(Decimal, expected["lines"]))
    if "gross" in expected:
        assert sum(amount for kind, amount in steps if kind != "maximum") == Decimal(
            expected["gross"]
        )
        assert ("maximum", -Decimal(expected["discount"])) in steps


@pytest.mark.parametrize("row", vectors.rows("commitment", "minimum_spend"), ids=vectors.row_id)
def test_a_published_minimum_is_reached_from_rounded_usage(row: Row) -> None:
    params = {"min_spend": row["params"]["minimum"], "exponent": row["params"]["exponent"]}
    used = {"event_amounts": [row["input"]["usage_amount"]]}

    quoted = quotes.answer("dynamic", params, row["currency"], used)

    assert true_up(quoted["lines"][0]["steps"]) == published_minor(row)
    used_minor = money.to_minor(Decimal(row["input"]["usage_amount"]), row["currency"])
    least_minor = money.to_minor(Decimal(row["params"]["minimum"]), row["currency"])
    assert quoted["amount_minor"] == max(used_minor, least_minor)


@pytest.mark.parametrize(
    "row", vectors.rows("commitment", "prorated_minimum_true_up"), ids=vectors.row_id
)
def test_a_published_minimum_is_that_of_the_days(row: Row) -> None:
    params = row["params"]
    price = pricing.read(Model.dynamic, {"amount_field": "cost", "min_spend": params["minimum"]})
    usage = pricing.Usage((pricing.Part((), charged=Decimal(params["usage"])),))
    share = Fraction(params["days_used"], params["days_in_period"])

    line = pricing.rate(price, usage, row["currency"], share=share)

    assert true_up(pricing.as_json(line.steps)) == published_minor(row)


def true_up(steps: list[dict[str, Any]]) -> int:
    found = (step["amount_minor"] for step in steps if step["kind"] == StepKind.minimum)
    return next(found, 0)


def published_minor(row: Row) -> int:
    return money.to_minor(Decimal(row["expected_amount"]), row["currency"])


@pytest.mark.parametrize("row", vectors.rows("rounding", "quantity_rounding"), ids=vectors.row_id)
def test_a_published_quantity_is_rounded_before_it_is_priced(row: Row) -> None:
    mode = {"round": "half_up", "ceil": "up", "floor": "down"}[row["params"]["function"]]
    decimals, published = row["params"]["precision"], Decimal(row["expected_amount"])
    rounding = {"mode": mode, "decimals": decimals}
    params = {"unit_price": "1", "quantity_rounding": rounding}

    quoted = quotes.answer("per_unit", params, "CLF", {"units": row["input"]["quantity"]})

    assert Decimal(quoted["exact_amount"]) == published
    rule = meter.Rounding(decimals, meter.RoundingMode(mode))
    assert rule.apply(Decimal(row["input"]["quantity"])) == published


LEVELS = vectors.rows(
    "aggregation", "weighted_sum", "prorated_recurring_sum", "time_weighted_average"
)


@pytest.mark.parametrize("row", LEVELS, ids=vectors.row_id)
def test_a_published_level_is_weighed_by_the_days_it_lasted(row: Row) -> None:
    """A price whose units live on charges each day's level its share of the period: at 1 a unit,
    that is the average."""
    params, used = level_case(row)

    quoted = quotes.answer("prorated_per_unit", {"unit_price": "1", **params}, "CLF", used)

    exact, published = Decimal(quoted["exact_amount"]), Decimal(row["expected_amount"])
    # One is published rounded up to five places.
    up = meter.Rounding(5, meter.RoundingMode.up)
    assert published in (exact, up.apply(exact))


def level_case(row: Row) -> tuple[Row, Row]:
    """What came and went on which day; the days are given in one of three ways."""
    params = row["params"]
    if row["model"] == "time_weighted_average":
        first = dt.date(2026, 1, 1)
        last = first + dt.timedelta(days=params["period_days"] - 1)
        changes, before = [], Decimal(0)
        for days, level in row["input"]["levels"]:
            day = first + dt.timedelta(days=int(re.findall(r"\d+", days)[0]) - 1)
            changes.append([day.isoformat(), str(Decimal(level) - before)])
            before = Decimal(level)
        return {"period": [first.isoformat(), last.isoformat()]}, {"events": changes}
    first_day, end = (dt.date.fromisoformat(at[:10]) for at in params["period"])
    is_instant = "T" in params["period"][1]
    last_day = end - dt.timedelta(days=1) if is_instant else end
    events = [[at[:10], units] for at, units in row["input"]["events"]]
    before_it = {"persisted_units": params.get("persisted_units", "0")}
    return {"period": [first_day.isoformat(), last_day.isoformat()], **before_it}, {
        "events": events
    }


PROGRESSIVE = vectors.rows(
    "progressive", "progressive_billing", "progressive_billing_then_terminate"
)


@pytest.mark.parametrize("row", PROGRESSIVE, ids=vectors.row_id)
def test_published_invoices_in_mid_period_are_taken_off_the_last(row: Row) -> None:
    """An invoice when the usage of the period reaches a threshold, and the rest at its end."""
    usage = {"unit_price": row["params"]["unit_price"]}
    thresholds = [Decimal(one) for one in row["params"]["thresholds"]]
    units, billed = Decimal(0), Decimal(0)
    for _, amount in row["input"]["events"]:
        units += Decimal(amount)
        params = {**usage, "already_billed": str(billed)}
        asked = {"units": str(units), "final_line_of_period": False}
        due = Decimal(quotes.answer("per_unit", params, row["currency"], asked)["amount"])
        if any(billed < threshold <= billed + due for threshold in thresholds):
            billed += due
    params = {**usage, "already_billed": str(billed)}
    rest = Decimal(
        quotes.answer("per_unit", params, row["currency"], {"units": str(units)})["amount"]
    )

    fee = billing.line(fee_of(row), pricing.NOTHING).amount_minor
    total = money.from_minor(fee, row["currency"]) + rest

    assert total == Decimal(row["expected_amount"])
    if "progressive_credit" in row["expected"]:
        assert billed == Decimal(row["expected"]["progressive_credit"])
    if "on_upgrade_instead" in row["expected"]:
        upgraded = billing.line(fee_of(row, days=0), pricing.NOTHING).amount_minor
        assert money.from_minor(upgraded, row["currency"]) + rest == Decimal(
            row["expected"]["on_upgrade_instead"]
        )


def fee_of(row: Row, days: int = 1) -> billing.Charge:
    """The fee of the month; the day of a termination is charged, that of an upgrade is not."""
    utc = period.zone("UTC")
    first = dt.date.fromisoformat(row["input"]["events"][0][0]).replace(day=1)
    whole = Days(
        first, first.replace(month=first.month % 12 + 1, year=first.year + first.month // 12)
    )
    ended_at = None
    if "terminated" in row["input"]:
        last = dt.date.fromisoformat(row["input"]["terminated"])
        ended_at = billing.midnight(last + dt.timedelta(days=days), utc)
    subscription = Subscription(
        id=UUID(int=1),
        tenant_id="acme",
        plan_key="pro",
        currency=row["currency"],
        quantity=Decimal(1),
        effective_at=billing.midnight(first, utc),
        ended_at=ended_at,
        cycle=Cycle(Interval.month, Anchor.calendar, first),
    )
    price = pricing.read(Model.fixed, {"unit_price": row["params"]["plan_price"].split()[0]})
    version = PriceVersion(
        UUID(int=2), "pro", "fee", row["currency"], None, price, None, None, None
    )
    versions = {("pro", row["currency"]): [version]}
    (charge,) = billing.charges([subscription], versions, days=whole, zone=utc)
    return charge
