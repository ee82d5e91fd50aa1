"""Setup fees, minimum commitments and trials: what a plan charges beside fees and usage."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import get_invoice
from tasks.price_terms import InvalidTerms
from tests.integration.billing_world import (
    assert_reconciled,
    fee,
    instant,
    make_plan,
    query,
    redeem,
    subscribe,
    usage_price,
)
from tests.integration.test_late_usage import close, used
from tests.unit.rules import vectors


def of_kind(kind: str, amount: str, **more: Any) -> dict[str, Any]:
    return fee(amount, price_key=kind, kind=kind, **more)


def billed() -> list[list[tuple[str, int]]]:
    """Kind and amount of each line, invoice by invoice."""
    ids = query("SELECT id FROM invoices ORDER BY period_end, tenant_id")
    return [
        [(line["kind"], line["amount_minor"]) for line in get_invoice(invoice_id=one)["lines"]]
        for (one,) in ids
    ]


def test_a_setup_fee_is_charged_whole_in_the_first_period_and_never_again(db: Engine) -> None:
    make_plan(of_kind("setup", "99"), fee("31"))
    subscribe("acme", "2026-01-16", quantity="3")

    generate_invoices(as_of=instant("2026-03-01"))

    assert billed() == [[("setup", 9900), ("fixed", 4800)], [("fixed", 9300)]]


def test_a_commitment_is_charged_with_what_is_missing_to_it(db: Engine) -> None:
    make_plan(fee("20"), usage_price("calls", "1"), of_kind("commitment", "100"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "50")
    used("2026-02-10", "500")

    generate_invoices(as_of=instant("2026-03-01"))

    assert billed() == [
        [("fixed", 2000), ("usage", 5000), ("commitment", 3000)],
        [("fixed", 2000), ("usage", 50000), ("commitment", 0)],
    ]


def test_late_usage_takes_the_place_of_what_was_missing(db: Engine) -> None:
    make_plan(usage_price("calls", "1"), of_kind("commitment", "100"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "50")
    close("2026-02-05")
    used("2026-01-11", "70")
    used("2026-02-11", "100")

    close("2026-03-05")

    assert billed()[1] == [
        ("usage", 10000),
        ("commitment", 0),
        ("adjustment", 7000),
        ("adjustment", -5000),
    ]
    assert_reconciled()


def test_each_subscription_has_its_own_commitment(db: Engine) -> None:
    make_plan(fee("20"), of_kind("commitment", "30"))
    make_plan(fee("50"), plan_key="extra")
    subscribe("acme", "2026-01-01")
    subscribe("acme", "2026-01-01", plan_key="extra")

    generate_invoices(as_of=instant("2026-02-01"))

    assert billed() == [[("fixed", 5000), ("fixed", 2000), ("commitment", 1000)]]


@pytest.mark.parametrize(
    "row", vectors.rows("commitment", "plan_minimum_commitment_true_up"), ids=vectors.row_id
)
def test_published_commitments_are_trued_up(db: Engine, row: vectors.Row) -> None:
    terms = row["params"]
    euro = {"currency": row["currency"]}
    make_plan(
        fee(terms["subscription_price"], **euro),
        {**usage_price("calls", "1"), **euro},
        of_kind("commitment", terms["commitment"], **euro),
        interval="quarter",
        as_of=instant("2024-01-01"),
    )
    subscribe("acme", terms["start"], **euro)
    redeem("acme", "ALL", instant("2024-01-01"), amount="10000", currency="EUR", duration="forever")
    used(terms["start"], row["input"]["usage_amount"])

    generate_invoices(as_of=instant("2024-04-01"))

    (lines,) = billed()
    assert Decimal(lines[-1][1]) / 100 == Decimal(row["expected_amount"])


def test_a_trial_charges_for_nothing_and_then_for_its_share(db: Engine) -> None:
    make_plan(of_kind("setup", "9"), fee("28"), usage_price("calls", "1"),
              of_kind("commitment", "56"))  # fmt: skip
    subscribe("acme", "2026-01-20", trial_days=26)
    for day in ("2026-01-25", "2026-02-14", "2026-02-15"):
        used(day, "1")

    assert query("SELECT trial_ends_at FROM subscriptions") == [(instant("2026-02-15"),)]
    generate_invoices(as_of=instant("2026-03-01"))

    assert billed() == [[("setup", 900), ("fixed", 1400), ("usage", 100), ("commitment", 1300)]]


def test_a_trial_that_outlives_its_subscription_bills_nothing(db: Engine) -> None:
    make_plan(fee("28"), of_kind("setup", "9"))
    subscribe("acme", "2026-01-01", trial_days=60, ended_at=instant("2026-02-01"))

    assert generate_invoices(as_of=instant("2026-06-01"))["invoices"] == 0
    assert query("SELECT next_invoice_at FROM subscriptions") == [(None,)]
    assert finalize_invoices(as_of=instant("2026-06-05"))["invoices"] == 0


@pytest.mark.parametrize("kind", ["setup", "commitment"])
@pytest.mark.parametrize(
    "terms",
    [
        {"model": "per_unit"},
        {"metric": "calls"},
        {"model": "graduated", "unit_amount": None, "params": {"tiers": [{"unit_price": "1"}]}},
    ],
)
def test_a_setup_fee_and_a_commitment_have_one_amount(
    db: Engine, kind: str, terms: dict[str, Any]
) -> None:
    with pytest.raises(InvalidTerms, match=kind):
        make_plan({**of_kind(kind, "1"), **terms})
