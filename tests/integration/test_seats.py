"""Other seats in place: one subscription, fees by the seats of each day, usage untouched."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.plan_changes import NothingToChange
from tasks.subscribing import PeriodFinalized
from tasks.subscription_list import get_subscription
from tests.integration.allowance import allow, check
from tests.integration.billing_world import (
    assert_reconciled,
    fee,
    instant,
    make_plan,
    query,
    said,
    subscribe,
    usage_price,
)
from tests.integration.command import Command
from tests.integration.test_ahead_vectors import minor
from tests.integration.test_fees_ahead import ahead, fees, notes, run
from tests.integration.test_late_usage import close, used
from tests.integration.test_plan_changes import cancel, change
from tests.unit.rules import vectors

GRADUATED: dict[str, Any] = {
    "model": "graduated",
    "unit_amount": None,
    "params": {"tiers": [{"up_to": "5", "unit_price": "10"}, {"unit_price": "4"}]},
}
TIERS = {**GRADUATED, "params": {"tiers": [{"up_to": "10", "unit_price": "1"}, {"flat_fee": "0"}]}}


def seats(found: Any, at: str, quantity: str, **more: Any) -> Any:
    answer = change(found, at, quantity=quantity, **more)
    assert answer["replaced"] is None
    return answer["subscription"]


def test_in_arrears_each_number_of_seats_has_a_line_and_tiers_are_not_split(db: Engine) -> None:
    make_plan(fee("31"), {**usage_price("calls", "0"), **TIERS})
    acme = subscribe("acme", "2026-01-01")
    for day in ("2026-01-05", "2026-01-15", "2026-01-25"):
        used(day, "6")
    changed = seats(acme, "2026-01-11T15:00:00", "5")
    assert changed["subscription_id"] == acme["subscription_id"]
    seats(acme, "2026-01-21", "2")

    generate_invoices(as_of=instant("2026-02-01"))

    assert query("SELECT kind, amount_minor FROM invoice_lines ORDER BY position") == [
        ("fixed", 1000),
        ("fixed", 5000),
        ("fixed", 2200),
        ("usage", 1000),
    ]
    assert query("SELECT count(*) FROM subscriptions") == [(1,)]
    told = [one["data"] for one in said("billing.subscription_set")]
    assert [one["quantity_from"][:10] for one in told if one["quantity"] == "2"] == ["2026-01-21"]


@pytest.fixture
def two(db: Engine) -> Any:
    """Two seats of 31.00 each are paid ahead for January."""
    make_plan(ahead("31"))
    made = subscribe("acme", "2026-01-01", quantity="2")
    close("2026-01-05")
    return made


def test_seats_that_are_added_are_charged_for_the_days_that_are_left(two: Any) -> None:
    seats(two, "2026-01-11", "5")
    run("2026-01-11T00:10:00")
    run("2026-02-01")
    assert fees() == [
        ("2026-01-01", "2026-02-01", 6200),
        ("2026-01-11", "2026-02-01", 6300),
        ("2026-02-01", "2026-03-01", 15500),
    ]
    assert notes() == []
    (added,) = query("SELECT description, quantity FROM invoice_lines WHERE amount_minor = 6300")
    assert (added[0], int(added[1])) == ("base: 3 more seats", 3)


def test_seats_that_are_added_while_a_draft_waits_are_on_the_invoice_of_their_day(
    db: Engine,
) -> None:
    make_plan(ahead("31"))
    made = subscribe("acme", "2026-01-01", quantity="2")
    run("2026-01-01T00:10:00")
    seats(made, "2026-01-11", "5")
    run("2026-01-11T00:10:00")
    finalize_invoices(as_of=instant("2026-01-20"))
    totals = query("SELECT period_start, total_minor FROM invoices ORDER BY number")
    assert totals == [(instant("2026-01-01"), 6200), (instant("2026-01-11"), 6300)]


def test_seats_that_go_are_given_back_of_what_was_charged_last(two: Any) -> None:
    seats(two, "2026-01-11", "5")
    close("2026-01-15")
    seats(two, "2026-01-21", "1")
    close("2026-01-25")

    assert sorted(note[0] for note in notes()) == [1100, 3300]
    cancel(two, "2026-01-31", when="now")
    close("2026-02-25")
    assert sorted(note[0] for note in notes()) == [100, 1100, 3300]
    assert_reconciled()


def test_seats_that_go_are_given_back_when_somebody_looks_on_that_very_day(two: Any) -> None:
    seats(two, "2026-01-21", "1")

    run("2026-01-21T00:10:00")
    assert [note[0] for note in notes()] == [1100]
    close("2026-02-10")
    assert [note[0] for note in notes()] == [1100]


def test_seats_to_come_change_nothing_until_they_come(two: Any) -> None:
    answer = seats(two, "2026-01-11", "1", when="period_end")
    assert (answer["quantity"], answer["seats"][-1]["quantity"]) == ("2", "1")
    close("2026-01-31")
    assert (fees(), notes()) == ([("2026-01-01", "2026-02-01", 6200)], [])
    run("2026-02-01")
    assert fees()[1:] == [("2026-02-01", "2026-03-01", 3100)]


def test_seats_by_tiers_are_charged_by_their_difference(db: Engine) -> None:
    make_plan({**ahead("1"), **GRADUATED})
    made = subscribe("acme", "2026-01-01", quantity="4")
    close("2026-01-05")
    seats(made, "2026-01-17", "7")
    close("2026-01-20")
    # 58 - 40 for 15 of 31 days.
    assert fees()[1:] == [("2026-01-17", "2026-02-01", 871)]


def test_several_changes_on_a_day_are_one_line(two: Any) -> None:
    for hour, quantity in (("09", "3"), ("10", "9"), ("11", "4")):
        seats(two, f"2026-01-11T{hour}:00:00", quantity)
        run(f"2026-01-11T{hour}:10:00")
    close("2026-01-15")
    assert fees()[1:] == [("2026-01-11", "2026-02-01", 4200)]
    assert notes() == []


@pytest.mark.parametrize("row", vectors.rows("proration", "proration_quantity"), ids=vectors.row_id)
def test_published_seats_that_are_added_are_charged_for_what_is_left(
    db: Engine, row: vectors.Row
) -> None:
    terms, day = row["params"], row["input"]["change"]
    make_plan(ahead(terms["unit_price"]), as_of=instant("2024-01-01"))
    made = subscribe("acme", "2024-03-01", quantity=str(terms["from"]))
    close("2024-03-05")
    seats(made, day, str(terms["to"]))
    run(day)
    assert fees()[-1][2] == minor(row["expected_amount"])


def test_seats_of_days_that_have_a_number_are_refused_and_so_is_nothing(db: Engine) -> None:
    make_plan(fee("31"))
    acme = subscribe("acme", "2026-01-01")
    close("2026-02-05")
    with pytest.raises(PeriodFinalized):
        change(acme, "2026-01-20", quantity="3")
    with pytest.raises(NothingToChange):
        change(acme, "2026-02-20", plan_key="pro")


def test_a_plan_changed_later_keeps_the_seats_of_then(two: Any) -> None:
    make_plan(ahead("62"), plan_key="max")
    seats(two, "2026-01-11", "5")
    after = change(two, "2026-01-21", plan_key="max")["subscription"]
    assert after["quantity"] == "5"
    close("2026-02-05")
    shown = get_subscription(subscription_id=two["subscription_id"])
    assert [one["quantity"] for one in shown["seats"]] == ["2", "5"]
    # Ten days of two seats, ten of five, eleven of five on the other plan.
    given_back = sum(note[0] for note in notes())
    assert sum(amount for *_, amount in fees()[:3]) - given_back == 2000 + 5000 + 11000


def test_rights_by_the_seat_follow_the_seats_of_the_instant(two: Any) -> None:
    allow(10, plan_key="pro", per_seat=True, as_of=instant("2026-01-01"))
    seats(two, "2026-01-11T12:00:00", "5")
    assert check(when=instant("2026-01-11T11:59:59"))["limit"] == "20"
    assert check(when=instant("2026-01-11T12:00:00"))["limit"] == "50"


def test_an_operator_sees_the_seats_there_were(billing: Command, two: Any) -> None:
    one = str(two["subscription_id"])
    changed = billing("subscription", "change", one, "--quantity", "5", "--key", "k", "--as-of",
                      "2026-01-11")  # fmt: skip
    assert changed.status == 0
    shown = json.loads(billing("subscription", "show", one, "--json").out)
    assert [each["quantity"] for each in shown["seats"]] == ["2", "5"]
    assert "2026-01-11 00:00" in billing("subscription", "show", one).out
