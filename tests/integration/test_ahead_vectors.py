"""Published cases of fees that are paid ahead, through the real path: invoices and credit notes."""

import datetime as dt
import re
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.credit_notes import create_credit_note
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.taxes import set_tax_rate, set_tenant_taxes
from tests.integration.billing_world import instant, make_plan, query, subscribe
from tests.integration.test_fees_ahead import ahead
from tests.integration.test_plan_changes import change
from tests.unit.rules import vectors
from tests.unit.rules.vectors import Row

CHOSEN_AGAINST = {
    "V141": "a plan of another rhythm begins its periods on the day of the change: 120.00, whole",
}
"""What comes out here instead, and why."""

PLANS = (
    "interval_change_month_to_year",
    "interval_change_upgrade",
    "interval_change_year_to_month",
    "plan_change_in_advance",
    "proration_change_qty_and_price",
    "upgrade_in_advance",
)


def plan(row: Row, key: str, amount: str, rhythm: str, day: str) -> None:
    make_plan(
        ahead(amount, currency=row["currency"]),
        plan_key=key,
        interval=rhythm,
        anchor="calendar" if day.endswith("-01") else "anniversary",
        as_of=instant("2010-01-01"),
    )


def both(row: Row) -> tuple[str, str, str]:
    """Put both plans of a case there; return when the first begins, and their seats."""
    params, change_day = row["params"], row["input"]["change"][:10]
    seats, amounts, rhythms = [], [], []
    for given in (
        params.get("old_price") or params["old"],
        params.get("new_price") or params["new"],
    ):
        # Such as "2 x 50", "120.00/year", "9.95 (8.02 already prorated)".
        found = re.match(r"(?:(\d+) x )?([\d.]+)(?:/(\w+))?", given)
        assert found is not None
        seats.append(found[1] or "1")
        amounts.append(found[2])
        rhythms.append(found[3] or "month")
    start = row["input"].get("period", [f"{change_day[:7]}-01"])[0]
    if "anchor_day" in params:
        start = f"2023-06-{params['anchor_day']}"
    if "already prorated" in (params.get("old") or ""):
        start = "2012-05-07"
    # Another rhythm is one whose periods begin on the day of the change, and last.
    days = (f"{start[:7]}-01" if rhythms[0] == rhythms[1] else start, change_day)
    for key, amount, rhythm, day in zip(("old", "new"), amounts, rhythms, days, strict=True):
        plan(row, key, amount, rhythm, days[0] if rhythms[0] == rhythms[1] else day)
    return start, *seats


@pytest.mark.parametrize("row", vectors.rows("proration", *PLANS), ids=vectors.row_id)
def test_published_changes_credit_the_old_and_charge_the_new_plan(db: Engine, row: Row) -> None:
    start, old_seats, new_seats = both(row)
    currency = row["currency"]
    made = subscribe("acme", start, plan_key="old", currency=currency, quantity=old_seats)
    at = instant(row["input"]["change"])
    number(at)
    change(made, at.isoformat(), plan_key="new", quantity=new_seats)

    generate_invoices(as_of=at)

    credit, charge = expected(row)
    assert query("SELECT total_minor FROM credit_notes") == [(credit,)]
    assert newest() == (12000 if row["id"] in CHOSEN_AGAINST else charge)


def number(at: dt.datetime) -> None:
    """Number what was to be charged until an instant."""
    generate_invoices(as_of=at)
    finalize_invoices(as_of=at + dt.timedelta(days=3))


def expected(row: Row) -> tuple[int, int]:
    published = row["expected"]
    charge = published.get("new_charge") or published["debit"]
    return minor(published["credit"].lstrip("-")), minor(charge)


def minor(amount: str) -> int:
    return int(amount.replace(".", ""))


def newest() -> Any:
    return query("SELECT total_minor FROM invoices ORDER BY period_end DESC, id DESC")[0][0]


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "plan_change_after_item_adjustment"), ids=vectors.row_id
)
def test_published_credit_is_no_more_than_is_left_of_the_line(db: Engine, row: Row) -> None:
    for key in ("old", "new"):
        plan(row, key, row["params"][key], "month", "2012-05-01")
    made = subscribe("acme", "2012-05-01", plan_key="old")
    number(instant("2012-05-01"))
    (billed,) = query("SELECT id FROM invoices")[0]
    create_credit_note(
        invoice_id=billed,
        amount=row["params"]["item_adjustment"].lstrip("-"),
        reason="an adjustment",
        idempotency_key="k",
        as_of=instant("2012-05-02"),
    )
    change(made, row["input"]["change"], plan_key="new")
    generate_invoices(as_of=instant(row["input"]["change"]))

    credit, charge = expected(row)
    assert query("SELECT total_minor FROM credit_notes ORDER BY sequence DESC")[0] == (credit,)
    assert newest() == charge


@pytest.mark.parametrize(
    "row", vectors.rows("proration", "in_advance_then_terminated"), ids=vectors.row_id
)
def test_published_first_part_of_a_month_is_paid_ahead_with_its_tax(db: Engine, row: Row) -> None:
    plan(row, "old", row["params"]["price"], "month", "2022-12-01")
    subscribe("acme", row["input"]["started"], plan_key="old", currency=row["currency"])
    set_tax_rate(tax_key="vat", name="VAT", percent=row["params"]["tax_percent"])
    set_tenant_taxes(tenant_id="acme", tax_keys=["vat"], effective_at=instant("2010-01-01"))

    generate_invoices(as_of=instant("2022-12-15T01:00:00"))

    assert newest() == minor(row["expected_amount"])


@pytest.mark.parametrize(
    "row", vectors.rows("timezone", "first_partial_week_in_customer_timezone"), ids=vectors.row_id
)
def test_published_first_weeks_are_paid_ahead_by_the_tenants_days(db: Engine, row: Row) -> None:
    plan_terms = ahead(row["params"]["weekly_price"], currency=row["currency"])
    make_plan(plan_terms, interval="week", as_of=instant("2010-01-01"))
    at = row["input"]["started_at"]
    subscribe("acme", at, timezone=row["params"]["timezone"], currency=row["currency"])

    generate_invoices(as_of=instant(at))

    assert newest() == minor(row["expected_amount"])
