"""Fees charged ahead: each period's when it begins, once, and what is not used is given back."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.credit_notes import create_credit_note
from tasks.invoice_list import preview_invoice
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import NothingToBill, finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.payments import record_payment
from tasks.plan_changes import reactivate_subscription
from tasks.price_terms import AdvanceNotSupported
from tasks.subscriptions import end_subscription
from tasks.tenants import set_tenant
from tasks.unpaid import InvoiceTouched, void_invoice
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    fee,
    instant,
    make_plan,
    make_prepaid,
    query,
    redeem,
    said,
    subscribe,
    tax,
    usage_price,
)
from tests.integration.test_late_usage import close, used
from tests.integration.test_plan_changes import cancel, change
from tests.integration.test_plan_terms import of_kind

LINES = """
    SELECT invoices.kind, line.kind, line.period_start::date::text, line.period_end::date::text,
           line.amount_minor
    FROM invoice_lines AS line JOIN invoices ON invoices.id = invoice_id
    ORDER BY invoices.period_end, invoices.kind, line.position
"""
NOTES = """
    SELECT note.total_minor, reduced_minor, to_credit_minor, payout_minor
    FROM credit_notes AS note ORDER BY note.created_at, note.id
"""


def ahead(unit_amount: str, **more: Any) -> dict[str, Any]:
    return fee(unit_amount, timing="advance", **more)


def lines() -> list[tuple[Any, ...]]:
    return query(LINES)


def fees() -> list[tuple[str, str, int]]:
    return [line[2:] for line in lines() if line[1] == "fixed"]


def notes() -> list[tuple[Any, ...]]:
    return query(NOTES)


def run(until: str) -> None:
    assert generate_invoices(as_of=instant(until))["failed"] == 0


def test_each_period_is_charged_when_it_begins_and_its_usage_when_it_is_over(db: Engine) -> None:
    make_plan(ahead("31"), usage_price("calls", "1"), of_kind("setup", "9", timing="advance"))
    made = subscribe("acme", "2026-01-15")
    used("2026-01-20", "2")

    assert str(made["next_invoice_at"]) == "2026-01-15T00:00:00Z"
    run("2026-01-15T00:10:00")
    assert lines() == [
        ("advance", "setup", "2026-01-15", "2026-01-16", 900),
        ("advance", "fixed", "2026-01-15", "2026-02-01", 1700),
    ]
    run("2026-01-16")
    run("2026-02-01")
    assert lines()[2:] == [
        ("subscription", "usage", "2026-01-15", "2026-02-01", 200),
        ("subscription", "fixed", "2026-02-01", "2026-03-01", 3100),
    ]
    assert query("SELECT next_invoice_at FROM subscriptions") == [(instant("2026-03-01"),)]
    run("2026-02-10")
    assert len(lines()) == 4


def test_a_currency_in_which_nothing_is_ahead_waits_for_its_period_to_be_over(db: Engine) -> None:
    make_plan(fee("31"), ahead("31", currency="EUR"))
    in_dollars = subscribe("acme", "2026-01-15")
    in_euros = subscribe("other", "2026-01-15", currency="EUR")
    assert str(in_dollars["next_invoice_at"]) == "2026-02-01T00:00:00Z"
    assert str(in_euros["next_invoice_at"]) == "2026-01-15T00:00:00Z"


def test_months_of_standstill_make_the_same_invoices_in_order(db: Engine) -> None:
    make_plan(ahead("31"))
    make_plan(ahead("7"), plan_key="week", interval="week")
    subscribe("acme", "2026-01-15", timezone="Asia/Kathmandu")
    subscribe("swift", "2026-01-15", plan_key="week")
    for day in range(1, 90):
        run(str(instant("2026-01-15") + dt.timedelta(days=day)))
    in_time = lines()
    subscribe("late", "2026-01-15", timezone="Asia/Kathmandu")
    subscribe("late too", "2026-01-15", plan_key="week")

    run("2026-04-14")

    of = "SELECT count(*), sum(total_minor) FROM invoices WHERE tenant_id = :one"
    for one, other in (("acme", "late"), ("swift", "late too")):
        assert query(of, one=one) == query(of, one=other)
    assert len(lines()) == 2 * len(in_time)


def test_a_subscription_that_ends_is_not_charged_for_what_will_not_be(db: Engine) -> None:
    make_plan(ahead("31"))
    subscribe("acme", "2026-01-01", ended_at=instant("2026-02-15"))

    run("2026-06-01")

    assert fees() == [("2026-01-01", "2026-02-01", 3100), ("2026-02-01", "2026-02-15", 1550)]
    assert query("SELECT next_invoice_at FROM subscriptions") == [(None,)]


def test_after_a_trial_the_rest_of_its_period_is_charged_when_it_ends(db: Engine) -> None:
    make_plan(ahead("28"), of_kind("setup", "9", timing="advance"))
    made = subscribe("acme", "2026-01-20", trial_days=26)

    assert str(made["next_invoice_at"]) == "2026-02-01T00:00:00Z"
    run("2026-02-14T23:59:00")
    assert lines() == []
    run("2026-02-15")
    assert fees() == [("2026-02-15", "2026-03-01", 1400)]


def test_an_anniversary_is_charged_from_its_day_on(db: Engine) -> None:
    make_plan(ahead("30"), anchor="anniversary")
    subscribe("acme", "2026-01-31", timezone="Pacific/Auckland")

    run("2026-03-31")

    assert [amount for *_, amount in fees()] == [3000, 3000, 3000]
    assert query("SELECT count(DISTINCT period_end) FROM invoices") == [(3,)]


@pytest.fixture
def acme(db: Engine) -> Any:
    """Acme paid 31.00 ahead for January; its invoice has a number."""
    make_plan(ahead("31"))
    make_plan(ahead("310"), of_kind("setup", "50"), plan_key="max")
    made = subscribe("acme", "2026-01-01")
    close("2026-01-05")
    return made


def pay() -> None:
    for (one,) in query("SELECT id FROM invoices WHERE state = 'finalized' ORDER BY period_end"):
        due = get_invoice(invoice_id=one)
        record_payment(
            invoice_id=one, payment_id=str(one), amount=str(due["amount_due_minor"] / 100)
        )


def test_an_upgrade_gives_the_unused_days_back_and_charges_the_new_plans(acme: Any) -> None:
    make_prepaid()
    pay()
    change(acme, "2026-01-11T15:00:00", plan_key="max")

    run("2026-01-11T15:10:00")
    assert fees() == [("2026-01-01", "2026-02-01", 3100), ("2026-01-11", "2026-02-01", 21000)]
    assert notes() == [(2100, 0, 2100, 0)]
    close("2026-01-20")

    newest = query("SELECT total_minor, credit_minor FROM invoices ORDER BY period_end")[-1]
    assert newest == (21000, 2100)
    close("2026-02-20")
    assert fees()[2:] == [("2026-02-01", "2026-03-01", 31000)]
    assert_reconciled()
    assert_gapless()


def test_a_plan_that_is_cancelled_now_gives_the_unused_days_back(acme: Any) -> None:
    cancel(acme, "2026-01-11", when="now")

    for _ in range(2):
        close("2026-03-01")

    assert notes() == [(2100, 2100, 0, 0)]
    assert fees() == [("2026-01-01", "2026-02-01", 3100)]
    assert said("billing.credit_note.created")[0]["data"]["reason"] == (
        "paid ahead, and not used: base of 2026-01-01 to 2026-01-31"
    )


def test_what_was_paid_is_paid_back_where_no_product_holds_credit(acme: Any) -> None:
    pay()
    cancel(acme, "2026-01-11", when="now")
    close("2026-03-01")
    assert notes() == [(2100, 0, 0, 2100)]


def test_of_what_was_discounted_no_more_comes_back_than_was_charged(db: Engine) -> None:
    make_plan(ahead("31"))
    redeem("acme", "HALF", percent="50", duration="once")
    tax("acme", ("vat", "20"))
    made = subscribe("acme", "2026-01-01")
    close("2026-01-05")
    cancel(made, "2026-01-11", when="now")
    close("2026-02-05")
    assert notes() == [(1260, 1260, 0, 0)]


def test_goodwill_is_not_given_back_twice(acme: Any) -> None:
    (one,) = query("SELECT id FROM invoices")[0]
    create_credit_note(invoice_id=one, amount="20", reason="sorry", idempotency_key="k")
    cancel(acme, "2026-01-11", when="now")
    close("2026-02-05")
    assert sorted(note[0] for note in notes()) == [1100, 2000]


def test_cancelled_at_the_end_and_taken_back_it_goes_on(acme: Any) -> None:
    cancel(acme, "2026-01-11")
    close("2026-01-12")
    reactivate_subscription(subscription_id=acme["subscription_id"], as_of=instant("2026-01-20"))
    run("2026-02-01")
    assert (notes(), [amount for *_, amount in fees()]) == ([], [3100, 3100])


def test_an_end_to_come_is_given_back_for_when_it_comes(acme: Any) -> None:
    end_subscription(
        subscription_id=acme["subscription_id"],
        ended_at=instant("2026-01-20"),
        as_of=instant("2026-01-10"),
    )
    close("2026-01-19")
    assert notes() == []
    close("2026-01-20")
    assert [note[0] for note in notes()] == [1200]
    end_subscription(
        subscription_id=acme["subscription_id"],
        ended_at=instant("2026-01-25"),
        as_of=instant("2026-01-21"),
    )
    for day in ("2026-01-22", "2026-01-24"):
        close(day)
    assert fees()[1:] == [("2026-01-20", "2026-01-25", 500)]
    # Seven days that two invoices charged for: what the newer one has first, and then of the older.
    end_subscription(
        subscription_id=acme["subscription_id"],
        ended_at=instant("2026-01-18"),
        as_of=instant("2026-01-24T12:00:00"),
    )
    for day in ("2026-01-25", "2026-03-01"):
        close(day)
    assert sorted(note[0] for note in notes()) == [200, 500, 1200]
    assert len(fees()) == 2


def test_a_change_on_the_first_day_leaves_one_invoice_and_no_note(db: Engine) -> None:
    make_plan(ahead("31"))
    make_plan(ahead("310"), plan_key="max")
    made = subscribe("acme", "2026-01-01T09:00:00")
    run("2026-01-01T09:10:00")
    change(made, "2026-01-01T12:00:00", plan_key="max")
    run("2026-01-01T12:10:00")
    # The plan of the morning is not owed any more; what a draft says of it changes by itself.
    run("2026-01-02")
    close("2026-01-05")
    assert (notes(), fees()) == ([], [("2026-01-01", "2026-02-01", 31000)])


@pytest.mark.parametrize("is_withdrawn", [False, True])
def test_two_that_begin_on_a_day_are_invoiced_though_the_first_is_numbered(
    db: Engine, is_withdrawn: bool
) -> None:
    make_plan(ahead("31"))
    make_plan(ahead("62"), plan_key="more")
    subscribe("acme", "2026-01-15T08:00:00")
    run("2026-01-15T08:10:00")
    (one,) = query("SELECT id FROM invoices")[0]
    finalize_invoice(invoice_id=one, as_of=instant("2026-01-15T08:20:00"))
    if is_withdrawn:
        void_invoice(invoice_id=one, reason="a test")
    subscribe("acme", "2026-01-15T10:00:00", plan_key="more")
    run("2026-01-15T10:10:00")
    assert len(fees()) == 1
    run("2026-01-16")
    assert fees() == [("2026-01-15", "2026-02-01", 1700), ("2026-01-15", "2026-02-01", 3400)]


def test_two_that_begin_on_a_day_share_its_draft(db: Engine) -> None:
    make_plan(ahead("31"))
    make_plan(ahead("62"), plan_key="more")
    subscribe("acme", "2026-01-15T08:00:00")
    run("2026-01-15T08:10:00")
    subscribe("acme", "2026-01-15T10:00:00", plan_key="more")

    run("2026-01-16")

    assert query("SELECT period_start FROM invoices") == [(instant("2026-01-15"),)]
    finalize_invoices(as_of=instant("2026-01-20"))
    assert query("SELECT total_minor FROM invoices") == [(5100,)]


def test_what_waits_on_the_last_day_of_a_period_is_charged_in_the_next(db: Engine) -> None:
    make_plan(ahead("31"))
    make_plan(ahead("62"), plan_key="more")
    subscribe("acme", "2026-01-31T08:00:00")
    run("2026-01-31T08:10:00")
    (one,) = query("SELECT id FROM invoices")[0]
    finalize_invoice(invoice_id=one, as_of=instant("2026-01-31T08:20:00"))
    subscribe("acme", "2026-01-31T10:00:00", plan_key="more")
    run("2026-01-31T10:10:00")
    assert len(fees()) == 1

    run("2026-02-01")

    assert sorted(fees()) == [
        ("2026-01-31", "2026-02-01", 100),
        ("2026-01-31", "2026-02-01", 200),
        ("2026-02-01", "2026-03-01", 3100),
        ("2026-02-01", "2026-03-01", 6200),
    ]


def test_a_price_that_changes_counts_from_the_period_that_begins_then(acme: Any) -> None:
    make_plan(ahead("62"), as_of=instant("2026-01-11"))
    close("2026-01-12")
    run("2026-02-01")
    assert fees() == [("2026-01-01", "2026-02-01", 3100), ("2026-02-01", "2026-03-01", 6200)]
    assert notes() == []


def test_a_fee_that_comes_to_be_charged_ahead_is_charged_once(db: Engine) -> None:
    make_plan(fee("31"))
    subscribe("acme", "2026-01-01")
    make_plan(ahead("62"), as_of=instant("2026-01-11"))
    run("2026-02-01")
    make_plan(fee("28"), as_of=instant("2026-02-11"))
    run("2026-04-01")
    assert fees() == [
        ("2026-01-01", "2026-01-11", 1000),
        ("2026-01-11", "2026-02-01", 4200),
        ("2026-02-01", "2026-03-01", 6200),
        ("2026-03-01", "2026-04-01", 2800),
    ]


def test_a_withdrawn_invoice_is_charged_again_only_when_asked_for(acme: Any) -> None:
    (one,) = query("SELECT id FROM invoices")[0]
    void_invoice(invoice_id=one, reason="a test")
    run("2026-01-20")
    assert len(fees()) == 1

    asked = {"tenant_id": "acme", "period_start": "2026-01-01", "period_end": "2026-01-02"}
    # As if before the withdrawn one was made: by its id it is the older of the two.
    again = generate_monthly_invoice(**asked, as_of=instant("2026-01-03"))
    assert str(again["invoice_id"]) < str(one)
    assert (again["total_minor"], again["state"]) == (3100, "draft")
    assert generate_monthly_invoice(**asked)["invoice_id"] == again["invoice_id"]
    close("2026-01-21")
    cancel(acme, "2026-01-22", when="now")
    close("2026-02-21")
    assert notes() == [(1000, 1000, 0, 0)]
    with pytest.raises(InvoiceTouched):
        void_invoice(invoice_id=again["invoice_id"], reason="a test")
    with pytest.raises(NothingToBill):
        generate_monthly_invoice(
            tenant_id="acme", period_start="2026-01-03", period_end="2026-01-04"
        )


def test_nothing_is_given_back_of_what_was_withdrawn(acme: Any) -> None:
    (one,) = query("SELECT id FROM invoices")[0]
    void_invoice(invoice_id=one, reason="a test")
    cancel(acme, "2026-01-11", when="now")
    close("2026-02-21")
    assert (notes(), len(fees())) == ([], 1)


def test_a_commitment_counts_the_fee_of_its_own_period(db: Engine) -> None:
    make_plan(ahead("20"), usage_price("calls", "1"), of_kind("commitment", "100"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "50")
    close("2026-02-05")
    assert [line[4] for line in lines() if line[1] == "commitment"] == [3000]
    used("2026-01-11", "10")
    close("2026-03-05")
    assert [line[4] for line in lines() if line[1] == "adjustment"] == [1000, -1000]


def test_a_once_coupon_is_on_the_first_invoice_and_a_percentage_on_each(db: Engine) -> None:
    make_plan(ahead("31"))
    redeem("acme", "ONCE", percent="50", duration="once")
    redeem("acme", "EACH", percent="10", duration="forever")
    subscribe("acme", "2026-01-01")
    run("2026-02-01")
    assert query("SELECT total_minor FROM invoices ORDER BY period_end") == [(1395,), (2790,)]


def test_a_preview_has_the_fee_of_the_period_to_come(acme: Any) -> None:
    (shown,) = preview_invoice(tenant_id="acme", as_of=instant("2026-01-10"))["invoices"]
    assert [str(line["period_start"])[:10] for line in shown["lines"]] == ["2026-02-01"]
    cancel(acme, "2026-01-11")
    (shown,) = preview_invoice(tenant_id="acme", as_of=instant("2026-01-12"))["invoices"]
    assert shown["lines"] == []


def test_fees_of_a_day_that_come_to_nothing_get_no_number(db: Engine) -> None:
    make_plan(ahead("31"))
    made = subscribe("acme", "2026-01-15")
    run("2026-01-15T00:10:00")
    cancel(made, "2026-01-15T10:00:00", when="now")
    finalize_invoices(as_of=instant("2026-01-20"))

    assert query("SELECT kind, state, number FROM invoices") == [("advance", "void", None)]
    # Who thinks again pays for the same day, on an invoice of the same day.
    make_plan(ahead("62"), plan_key="more")
    subscribe("acme", "2026-01-15", plan_key="more")
    run("2026-01-20")
    finalize_invoices(as_of=instant("2026-01-21"))
    assert fees() == [("2026-01-15", "2026-02-01", 3400)]
    assert query("SELECT number FROM invoices WHERE number IS NOT NULL") == [("INV-000001",)]
    assert_gapless()


def test_a_commitment_that_is_raised_meanwhile_counts_the_fee_once(db: Engine) -> None:
    make_plan(ahead("31"), of_kind("commitment", "62"))
    subscribe("acme", "2026-01-01")
    run("2026-01-01")
    make_plan(ahead("31"), of_kind("commitment", "93"), as_of=instant("2026-01-17"))

    run("2026-02-01")

    # 32.00 for 16 days, of which the fee that was paid on the first one is 31.00; 45.00 for 15.
    assert [line for line in lines() if line[1] == "commitment"] == [
        ("subscription", "commitment", "2026-01-01", "2026-01-17", 100),
        ("subscription", "commitment", "2026-01-17", "2026-02-01", 4500),
    ]


def test_a_tenant_that_moves_zones_owes_the_same_days(acme: Any) -> None:
    set_tenant(
        tenant_id="acme", timezone="America/Los_Angeles", as_of=instant("2026-01-31T12:00:00")
    )
    close("2026-02-05")
    cancel(acme, "2026-02-11T12:00:00", when="now")
    close("2026-03-05")
    assert [amount for *_, amount in fees()] == [3100, 3100]
    assert [note[0] for note in notes()] == [1993]


@pytest.mark.parametrize("kind", ["usage", "commitment"])
def test_usage_and_commitments_are_not_charged_ahead(db: Engine, kind: str) -> None:
    price = usage_price("calls", "1") if kind == "usage" else of_kind(kind, "1")
    with pytest.raises(AdvanceNotSupported, match="when the period is over"):
        make_plan({**price, "timing": "advance"})


def test_a_draft_whose_fee_is_not_owed_any_more_loses_it(acme: Any) -> None:
    run("2026-02-01")
    end_subscription(
        subscription_id=acme["subscription_id"],
        ended_at=instant("2026-02-01"),
        as_of=instant("2026-02-01T10:00:00"),
    )
    finalize_invoices(as_of=instant("2026-02-10"))
    assert query("SELECT count(*) FROM invoice_lines") == [(1,)]


@pytest.mark.parametrize(
    ("interval", "anchor", "amounts"),
    [
        ("day", "calendar", [100] * 60),
        ("week", "anniversary", [700] * 9),
        ("quarter", "calendar", [6067, 9100]),
        ("year", "calendar", [33500]),
    ],
)
def test_any_interval_is_charged_ahead(
    db: Engine, interval: str, anchor: str, amounts: list[int]
) -> None:
    price = {"day": "1", "week": "7", "quarter": "91", "year": "365"}[interval]
    make_plan(ahead(price), interval=interval, anchor=anchor)
    subscribe("acme", "2026-01-31", timezone="Pacific/Kiritimati")
    run("2026-03-31T20:00:00")
    assert [amount for *_, amount in fees()][:2] == amounts[:2]
    assert len(fees()) >= len(amounts)


def test_eight_runs_at_once_charge_and_give_back_once(acme: Any) -> None:
    change(acme, "2026-01-11", plan_key="max")
    gate = threading.Barrier(8)

    def wait_and_run() -> None:
        gate.wait()
        run("2026-01-11T00:10:00")

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(wait_and_run) for _ in range(8)]:
            future.result()

    assert fees() == [("2026-01-01", "2026-02-01", 3100), ("2026-01-11", "2026-02-01", 21000)]
    assert notes() == [(2100, 2100, 0, 0)]
