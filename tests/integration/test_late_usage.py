"""Usage that arrives after its period was invoiced is billed once, to its own period."""

import datetime as dt
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.aggregation import aggregate_usage
from tasks.credit_notes import create_credit_note
from tasks.invoice_list import preview_invoice
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.late_usage import bill_late_usage
from tasks.parking import list_parked
from tasks.subscriptions import end_subscription
from tasks.unpaid import InvoiceTouched, void_invoice
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    fee,
    instant,
    make_plan,
    query,
    redeem,
    said,
    subscribe,
    tax,
    usage_price,
)
from tests.unit.rules import vectors

_keys = itertools.count()

INVOICES = """
    SELECT id, kind, state, total_minor FROM invoices WHERE tenant_id = :tenant_id
    ORDER BY period_end, id
"""
BILLED = """
    SELECT coalesce(sum(amount_minor), 0) FROM invoice_lines
    JOIN invoices ON invoices.id = invoice_id WHERE state IN ('finalized', 'paid')
"""


def used(at: str, amount: str = "1", tenant_id: str = "acme", metric: str = "calls") -> str:
    """Record an event; return its key."""
    key = f"event-{next(_keys)}"
    record_usage(
        tenant_id=tenant_id,
        metric=metric,
        amount=amount,
        at=at,
        idempotency_key=key,
        as_of=instant("2027-12-31"),
    )
    return key


def close(until: str) -> None:
    """Roll up, invoice and finalize all that is over, as beat would do at an instant."""
    now = instant(until)
    aggregate_usage(as_of=now)
    assert generate_invoices(as_of=now)["failed"] == 0
    bill_late_usage(as_of=now)
    assert finalize_invoices(as_of=now)["failed"] == 0


def invoices(tenant_id: str = "acme") -> list[Any]:
    rows = query(INVOICES, tenant_id=tenant_id)
    return [get_invoice(invoice_id=row[0]) for row in rows]


def lines(invoice: Any) -> list[tuple[str, str, int]]:
    """Kind, first day and amount of each line."""
    return [
        (one["kind"], str(one["period_start"])[:10], one["amount_minor"])
        for one in invoice["lines"]
    ]


@pytest.fixture
def january(db: Engine) -> None:
    """Acme pays 2.00 a call; January, with 10 calls, has its number."""
    make_plan(usage_price("calls", "2"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "10")
    close("2026-02-05")


@pytest.mark.usefixtures("january")
def test_more_is_a_line_on_the_next_invoice_that_names_its_period() -> None:
    used("2026-01-31", "3")
    used("2026-02-10", "5")

    close("2026-03-05")

    first, second = invoices()
    assert first["total_minor"] == 2000
    assert lines(second) == [("usage", "2026-02-01", 1000), ("adjustment", "2026-01-01", 600)]
    adjustment = second["lines"][1]
    assert adjustment["description"] == (
        "calls: late usage of 2026-01-01 to 2026-01-31 (INV-000001)"
    )
    assert (adjustment["quantity"], adjustment["details"]["costs_minor"]) == ("3", 2600)
    assert query("SELECT count(*) FROM late_usage") == [(0,)]


@pytest.mark.usefixtures("january")
def test_less_is_taken_off_the_next_invoice() -> None:
    key = used("2026-01-31", "3")
    used("2026-02-10", "50")
    close("2026-03-05")
    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")

    used("2026-03-10", "50")
    close("2026-04-05")

    third = invoices()[2]
    assert lines(third) == [("usage", "2026-03-01", 10000), ("adjustment", "2026-01-01", -600)]
    assert said("billing.invoice.finalized")[2]["data"]["total_minor"] == 9400


@pytest.mark.usefixtures("january")
def test_each_arrival_is_billed_once_however_often_runs_repeat() -> None:
    for month in ("03", "04", "05"):
        used("2026-01-31", "1")
        for _ in range(3):
            close(f"2026-{month}-05")

    assert [lines(one)[1:] for one in invoices()] == [
        [],
        [("adjustment", "2026-01-01", 200)],
        [("adjustment", "2026-01-01", 200)],
        [("adjustment", "2026-01-01", 200)],
    ]


@pytest.mark.usefixtures("january")
def test_a_draft_takes_what_arrives_until_it_has_its_number() -> None:
    generate_invoices(as_of=instant("2026-03-01"))
    used("2026-01-31", "3")

    finalize_invoices(as_of=instant("2026-03-05"))

    assert lines(invoices()[1])[1:] == [("adjustment", "2026-01-01", 600)]
    assert said("billing.invoice.updated")[-1]["data"]["total_minor"] == 600


@pytest.mark.usefixtures("january")
def test_only_the_oldest_draft_takes_it() -> None:
    used("2026-01-31", "3")
    generate_invoices(as_of=instant("2026-04-01"))
    february, march = invoices()[1:]

    finalize_invoice(invoice_id=march["invoice_id"], as_of=instant("2026-04-01"))
    finalize_invoices(as_of=instant("2026-04-05"))

    assert [lines(one)[1:] for one in invoices()] == [[], [("adjustment", "2026-01-01", 600)], []]
    assert february["total_minor"] == 600


@pytest.mark.usefixtures("january")
def test_late_usage_costs_what_it_cost_then() -> None:
    make_plan(usage_price("calls", "7"), as_of=instant("2026-02-01"))
    used("2026-01-31", "3")

    close("2026-03-05")

    assert lines(invoices()[1])[1:] == [("adjustment", "2026-01-01", 600)]


def test_tiers_are_filled_on_from_where_the_period_stood(db: Engine) -> None:
    tiers = [{"up_to": "10", "unit_price": "1"}, {"unit_price": "5"}]
    make_plan({**usage_price("calls", "1"), "model": "graduated", "unit_amount": None,
               "params": {"tiers": tiers}})  # fmt: skip
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "9")
    close("2026-02-05")
    used("2026-01-11", "3")

    close("2026-03-05")

    assert lines(invoices()[1])[1:] == [("adjustment", "2026-01-01", 1100)]


@pytest.mark.usefixtures("january")
def test_a_withdrawn_invoice_hands_its_late_usage_on() -> None:
    used("2026-01-31", "3")
    close("2026-03-05")
    february = invoices()[1]
    void_invoice(invoice_id=february["invoice_id"], reason="a test")

    close("2026-04-05")

    assert lines(invoices()[2])[1:] == [("adjustment", "2026-01-01", 600)]


@pytest.mark.usefixtures("january")
def test_an_invoice_whose_late_usage_is_billed_is_not_withdrawn() -> None:
    used("2026-01-31", "3")
    close("2026-03-05")

    with pytest.raises(InvoiceTouched, match="late usage"):
        void_invoice(invoice_id=invoices()[0]["invoice_id"], reason="a test")


@pytest.mark.usefixtures("january")
def test_late_usage_of_a_withdrawn_period_is_not_billed() -> None:
    void_invoice(invoice_id=invoices()[0]["invoice_id"], reason="a test")
    used("2026-01-31", "3")

    close("2026-03-05")

    assert lines(invoices()[1]) == [("usage", "2026-02-01", 0)]
    assert query("SELECT count(*) FROM late_usage") == [(0,)]


# Tenants that have left.


@pytest.fixture
def left(db: Engine) -> None:
    """Acme had 10 calls at 2.00 in January, and left."""
    make_plan(usage_price("calls", "2"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "4")
    used("2026-01-11", "6")
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-02-01"))
    close("2026-02-05")


@pytest.mark.usefixtures("left")
def test_who_has_left_gets_a_closing_invoice() -> None:
    used("2026-01-31", "3")
    close("2026-02-10T12:00:00")
    (_, closing) = invoices()
    assert (closing["state"], lines(closing)) == ("draft", [("adjustment", "2026-01-01", 600)])
    assert (closing["period_start"], closing["period_end"]) == (
        "2026-02-10T00:00:00Z",
        "2026-02-11T00:00:00Z",
    )
    used("2026-01-31", "1")
    close("2026-02-11")

    for day in ("20", "21", "22"):
        close(f"2026-02-{day}")

    (_, closing) = invoices()
    assert (closing["number"], lines(closing)) == (
        "INV-000002",
        [("adjustment", "2026-01-01", 800)],
    )
    assert query("SELECT count(*) FROM late_usage") == [(0,)]


@pytest.mark.usefixtures("left")
def test_who_has_left_gets_one_closing_invoice_a_day() -> None:
    used("2026-01-31", "3")
    close("2026-02-10")
    finalize_invoice(invoice_id=invoices()[1]["invoice_id"], as_of=instant("2026-02-10T12:00:00"))
    used("2026-01-31", "2")

    close("2026-02-10T13:00:00")
    assert (len(invoices()), query("SELECT * FROM parked_tenants")) == (2, [])
    close("2026-02-11")
    assert lines(invoices()[2]) == [("adjustment", "2026-01-01", 400)]


@pytest.mark.usefixtures("left")
def test_who_has_left_and_can_not_be_billed_is_parked_and_tried_ever_later() -> None:
    key, start = used("2026-01-31", "999999999999999999"), instant("2026-02-10T12:00:00")
    aggregate_usage(as_of=start)
    tried = [
        minutes
        for minutes in range(0, 60, 10)
        if bill_late_usage(as_of=start + dt.timedelta(minutes=minutes))["failed"]
    ]
    assert tried == [0, 10, 30]
    (kept,) = list_parked()["parked"]
    assert (kept["tenant_id"], kept["stage"], kept["tries"]) == ("acme", "late_usage", 3)

    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")
    used("2026-01-31", "3")
    close("2026-02-10T14:00:00")

    assert list_parked()["parked"] == []
    assert lines(invoices()[1]) == [("adjustment", "2026-01-01", 600)]


@pytest.mark.usefixtures("left")
def test_a_closing_invoice_charges_no_fee_of_who_comes_back() -> None:
    used("2026-01-31", "3")
    close("2026-02-10T12:00:00")
    make_plan(fee("28", timing="advance"), plan_key="anew")
    subscribe("acme", "2026-02-11", plan_key="anew")
    close("2026-02-11T10:00:00")

    close("2026-02-20")

    (_, closing, ahead) = invoices()
    assert lines(closing) == [("adjustment", "2026-01-01", 600)]
    assert lines(ahead) == [("fixed", "2026-02-11", 1800)]


@pytest.mark.usefixtures("left")
def test_who_has_left_in_one_currency_gets_a_closing_invoice_in_it() -> None:
    make_plan(usage_price("bytes", "1", currency="EUR"), plan_key="plus")
    subscribe("acme", "2026-01-01", plan_key="plus", currency="EUR")
    close("2026-02-06")
    used("2026-01-31", "3")
    used("2026-01-31", "4", metric="bytes")

    # February will have an invoice in euros.
    drafts = "SELECT kind, currency, total_minor FROM invoices WHERE state = 'draft' ORDER BY kind"
    close("2026-02-10")
    assert query(drafts) == [("closing", "USD", 600)]
    close("2026-02-14")

    # There it is, and none is to come.
    end_subscription(tenant_id="acme", plan_key="plus", ended_at=instant("2026-03-01"))
    used("2026-01-31", "1")
    close("2026-03-01T12:00:00")
    assert query(drafts) == [("closing", "USD", 200), ("subscription", "EUR", 400)]
    close("2026-03-05")
    assert query("SELECT currency, sum(total_minor) FROM invoices GROUP BY 1 ORDER BY 1") == [
        ("EUR", 400),
        ("USD", 2800),
    ]
    assert query(drafts) == []


@pytest.mark.usefixtures("left")
def test_who_has_left_is_credited_what_was_too_much() -> None:
    tax_free, key = invoices()[0], used("2026-01-12", "1")
    close("2026-02-06")
    close("2026-02-16")
    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")
    void = query("SELECT idempotency_key FROM usage_events WHERE amount = 4")[0][0]
    void_usage(tenant_id="acme", metric="calls", idempotency_key=void, reason="a test")

    for day in ("17", "18", "19"):
        close(f"2026-02-{day}")

    (note,) = query("SELECT invoice_id, total_minor, reason FROM credit_notes")
    assert note == (
        query("SELECT id FROM invoices WHERE number = 'INV-000001'")[0][0],
        1000,
        "less was used from 2026-01-01 to 2026-01-31 than was billed",
    )
    assert len(invoices()) == 2
    used("2026-01-31", "2")
    close("2026-02-20")
    assert lines(invoices()[2]) == [("adjustment", "2026-01-01", 400)]
    assert tax_free["tax_minor"] == 0


def test_a_credit_of_late_usage_has_the_discounts_and_taxes_of_its_line(db: Engine) -> None:
    make_plan(fee("100"), usage_price("calls", "2"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", "20"))
    redeem("acme", "HALF", percent="50", duration="forever")
    key = used("2026-01-11", "10")
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-02-01"))
    close("2026-02-05")
    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")

    close("2026-02-06")

    assert query("SELECT subtotal_minor, tax_minor, total_minor FROM credit_notes") == [
        (1000, 200, 1200)
    ]
    # Of the line for calls, not of the fee before it.
    assert query("SELECT position FROM credit_note_lines") == [(2,)]
    assert_reconciled()


def test_late_usage_that_a_later_invoice_billed_is_credited_to_that_invoice(db: Engine) -> None:
    make_plan(usage_price("calls", "2"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "1")
    close("2026-02-05")
    key = used("2026-01-11", "4")
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-03-01"))
    close("2026-03-05")
    closing = used("2026-01-12", "8")
    close("2026-03-06")
    close("2026-03-10")
    for event in (key, closing):
        void_usage(tenant_id="acme", metric="calls", idempotency_key=event, reason="a test")

    close("2026-03-11")
    close("2026-03-12")

    notes = """
        SELECT invoices.number, credit_notes.total_minor FROM credit_notes
        JOIN invoices ON invoices.id = invoice_id ORDER BY credit_notes.sequence
    """
    assert query(notes) == [("INV-000001", 200), ("INV-000003", 1600), ("INV-000002", 600)]
    # Both periods at once: what was taken back of a line is counted for the one it is of, and once.
    used("2026-01-31", "3")
    used("2026-02-20", "2")
    close("2026-03-20")
    assert lines(invoices()[3]) == [
        ("adjustment", "2026-01-01", 600),
        ("adjustment", "2026-02-01", 400),
    ]
    assert_reconciled()


@pytest.mark.parametrize(
    ("percent", "calls", "bytes_", "rounding"),
    [("0", "60", "20", 0), ("19", "60", "20", 0), ("7.7", "60.13", "20.37", 2)],
)
def test_what_no_note_can_take_back_is_less_on_the_closing_invoice(
    db: Engine, percent: str, calls: str, bytes_: str, rounding: int
) -> None:
    """The last invoice has late usage, and a commitment that this lessens: less is left of the
    invoice than of the usage, which turns out to be a mistake."""
    make_plan(
        usage_price("calls", "1"),
        usage_price("bytes", "1"),
        fee("40", price_key="least", kind="commitment"),
    )
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", percent))
    used("2026-01-10", "10")
    close("2026-02-05")
    late = {"calls": used("2026-01-11", calls), "bytes": used("2026-01-11", bytes_, metric="bytes")}
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-02-08"))
    close("2026-03-05")
    assert [one[2] for one in lines(invoices()[1])] == [
        0,
        0,
        1000,
        int(Decimal(bytes_) * 100),
        int(Decimal(calls) * 100),
        -3000,
    ]
    for metric, key in late.items():
        void_usage(tenant_id="acme", metric=metric, idempotency_key=key, reason="a test")

    close("2026-03-06")
    (draft,) = invoices()[2:]
    for day in ("07", "08", "09"):
        close(f"2026-03-{day}")

    (closing,) = invoices()[2:]
    assert (draft["state"], closing["lines"]) == ("draft", draft["lines"])
    less, more = (amount for _, _, amount in lines(closing))
    assert (less < 0, more) == (True, 3000)
    # All of what was not used is on the notes; only money is left.
    assert [Decimal(one["quantity"]) for one in closing["lines"]] == [0, 0]
    billed = query("SELECT sum(total_minor) - sum(credited_minor) FROM invoices")[0][0]
    assert abs(billed - (4000 + 1000) * (100 + Decimal(percent)) / 100) <= rounding
    assert query("SELECT count(*) FROM late_usage") == [(0,)]
    assert list_parked()["parked"] == []
    assert_reconciled()


def test_what_nothing_is_left_of_and_nothing_costs_more_beside_is_parked(db: Engine) -> None:
    make_plan(usage_price("calls", "1"), usage_price("bytes", "1"))
    subscribe("acme", "2026-01-01")
    billed = used("2026-01-10", "50")
    close("2026-02-05")
    void_usage(tenant_id="acme", metric="calls", idempotency_key=billed, reason="a test")
    late = used("2026-01-11", "60", metric="bytes")
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-02-08"))
    close("2026-03-05")
    assert [one["total_minor"] for one in invoices()] == [5000, 1000]
    void_usage(tenant_id="acme", metric="bytes", idempotency_key=late, reason="a test")

    close("2026-03-06")

    (kept,) = list_parked()["parked"]
    assert kept["code"] == "credit_note.exceeds_billed"
    assert "bytes: late usage of 2026-01-01 to 2026-01-31" in kept["reason"]
    assert query("SELECT count(*) FROM credit_notes") == [(0,)]


@pytest.mark.usefixtures("left")
def test_what_a_note_took_back_of_a_line_is_not_there_for_the_next_note() -> None:
    """10 calls of January were billed by its invoice, and 5 by another one."""
    late = used("2026-01-12", "5")
    close("2026-02-06")
    close("2026-02-10")
    ((six,), (four,)) = query(
        "SELECT idempotency_key FROM usage_events WHERE amount IN (4, 6) ORDER BY amount DESC"
    )
    for keys, day in (((six,), "11"), ((four, late), "12")):
        for key in keys:
            void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")
        close(f"2026-02-{day}")

    assert query("""
        SELECT invoices.number, credit_notes.total_minor FROM credit_notes
        JOIN invoices ON invoices.id = invoice_id ORDER BY credit_notes.sequence
    """) == [("INV-000001", 1200), ("INV-000001", 800), ("INV-000002", 1000)]
    assert_reconciled()


@pytest.mark.usefixtures("left")
def test_what_a_note_took_back_already_is_not_taken_back_again() -> None:
    (january,) = invoices()
    create_credit_note(
        invoice_id=january["invoice_id"], reason="goodwill", amount="15", idempotency_key="note"
    )
    for (key,) in query("SELECT idempotency_key FROM usage_events"):
        void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")

    close("2026-02-06")
    close("2026-02-07")

    assert query("SELECT total_minor FROM credit_notes ORDER BY sequence") == [(1500,), (500,)]
    assert_reconciled()


@pytest.mark.usefixtures("left")
def test_eight_runs_at_once_make_one_closing_invoice_and_one_note() -> None:
    subscribe("bea", "2026-01-01")
    key = used("2026-01-10", "4", tenant_id="bea")
    end_subscription(tenant_id="bea", plan_key="pro", ended_at=instant("2026-02-01"))
    close("2026-02-06")
    used("2026-01-31", "3")
    void_usage(tenant_id="bea", metric="calls", idempotency_key=key, reason="a test")
    aggregate_usage(as_of=instant("2026-02-07"))
    gate = threading.Barrier(8)

    def run(_: int) -> tuple[int, int]:
        gate.wait()
        answer = bill_late_usage(as_of=instant("2026-02-07"))
        return answer["invoices"], answer["credit_notes"]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(run, range(8)))

    assert [sum(one) for one in zip(*made, strict=True)] == [1, 1]
    assert_reconciled()
    assert_gapless()


@pytest.mark.usefixtures("left")
def test_a_closing_draft_whose_invoice_is_withdrawn_meanwhile_gets_no_number() -> None:
    used("2026-01-31", "3")
    close("2026-02-10T12:00:00")
    january, draft = invoices()
    void_invoice(invoice_id=january["invoice_id"], reason="a test")

    close("2026-02-20")

    closing = get_invoice(invoice_id=draft["invoice_id"])
    assert (closing["state"], closing["number"], closing["lines"]) == ("void", None, [])
    (told,) = said("billing.invoice.dropped")
    assert told["data"]["invoice_id"] == str(closing["invoice_id"])
    assert told["data"]["reason"] == "nothing is left to be billed"
    assert len(said("billing.invoice.finalized")) == 1
    assert_gapless()
    # Who asks for the period again is billed all of it, and the next number follows.
    billed = generate_monthly_invoice(
        tenant_id="acme", period_start=dt.date(2026, 1, 1), period_end=dt.date(2026, 2, 1)
    )
    assert lines(billed) == [("usage", "2026-01-01", 2600)]
    close("2026-02-25")
    assert [one["number"] for one in invoices()] == ["INV-000001", "INV-000002", None]
    assert query("SELECT count(*) FROM late_usage") == [(0,)]


@pytest.mark.usefixtures("left")
def test_a_closing_draft_is_computed_anew_to_what_is_still_owed() -> None:
    subscribe("acme", "2026-02-01")
    used("2026-02-10", "1")
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-03-01"))
    close("2026-03-05")
    used("2026-01-31", "3")
    used("2026-02-20", "5")
    close("2026-03-06")
    january, _, draft = invoices()
    assert draft["total_minor"] == 1600
    void_invoice(invoice_id=january["invoice_id"], reason="a test")

    close("2026-03-20")

    closing = get_invoice(invoice_id=draft["invoice_id"])
    assert (closing["number"], lines(closing)) == (
        "INV-000003",
        [("adjustment", "2026-02-01", 1000)],
    )


@pytest.mark.usefixtures("left")
def test_a_closing_draft_whose_late_usage_was_a_mistake_is_withdrawn() -> None:
    key = used("2026-01-31", "3")
    close("2026-02-10")
    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")

    draft = invoices()[1]
    answer = finalize_invoice(invoice_id=draft["invoice_id"], as_of=instant("2026-02-10T12:00:00"))

    assert (answer["state"], answer["number"], answer["total_minor"]) == ("void", None, 0)
    assert finalize_invoice(invoice_id=draft["invoice_id"]) == answer
    # Usage that comes after that gets an invoice of its own, on the very same day.
    used("2026-01-31", "2")
    close("2026-02-11")
    close("2026-02-15")
    assert lines(invoices()[-1]) == [("adjustment", "2026-01-01", 400)]
    assert invoices()[-1]["number"] == "INV-000002"


@pytest.mark.usefixtures("left")
def test_less_is_credited_even_while_a_closing_draft_waits() -> None:
    """Nobody holds credit in this currency: an invoice below zero could not be finalized."""
    subscribe("acme", "2026-02-01")
    key = used("2026-02-10", "9")
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-03-01"))
    close("2026-03-05")
    used("2026-01-31", "3")
    close("2026-03-06")
    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")

    for day in ("07", "10", "11", "12"):
        close(f"2026-03-{day}")

    assert lines(invoices()[2]) == [("adjustment", "2026-01-01", 600)]
    assert query("SELECT total_minor FROM credit_notes") == [(1800,)]
    assert query("SELECT count(*) FROM late_usage") == [(0,)]
    assert query("SELECT * FROM parked_tenants") == []
    assert_reconciled()


def test_usage_that_races_finalization_is_billed_once_wherever_it_lands(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    tenants = [f"t{number}" for number in range(4)]
    for tenant_id in tenants:
        subscribe(tenant_id, "2026-01-01")
    generate_invoices(as_of=instant("2026-02-01"))
    gate, now = threading.Barrier(4), instant("2026-02-05")

    def use_it(first: int) -> None:
        gate.wait()
        for number in range(12):
            used("2026-01-20", "1", tenant_id=tenants[(first + number) % 4])

    def roll_up() -> None:
        gate.wait()
        for _ in range(12):
            aggregate_usage(as_of=now)

    def finalize() -> None:
        gate.wait()
        for _ in range(4):
            finalize_invoices(as_of=now)

    with ThreadPoolExecutor(4) as pool:
        for running in [pool.submit(use_it, 0), pool.submit(use_it, 2), pool.submit(roll_up),
                        pool.submit(finalize)]:  # fmt: skip
            running.result()
    close("2026-03-05")

    assert query(BILLED) == [(24 * 100,)]
    assert query("SELECT count(*) FROM late_usage") == [(0,)]
    assert_gapless()


# Published cases.


@pytest.mark.parametrize(
    "row",
    vectors.rows("late_usage", "blocks_all_tiers", "late_usage_after_invoice"),
    ids=vectors.row_id,
)
def test_published_late_usage_is_on_lines_of_its_own_periods(db: Engine, row: vectors.Row) -> None:
    make_plan({**usage_price("calls", "1"), "model": "block", "unit_amount": None,
               "params": {"blocks": row["params"]["blocks"], "charge": "all_tiers"}},
              as_of=instant("2012-01-01"))  # fmt: skip
    subscribe("acme", "2012-04-01")
    given = row["input"]
    late = given.get("late_events_recorded_in_july", [])
    for day, amount in given.get("events", []):
        used(day, amount)
    if late:
        used("2012-06-10", "399")
        close("2012-07-05")
    for day, amount in [*late, *given.get("current_events", [])]:
        used(day, amount)

    close(f"{given['billed'][:8]}05")

    last = invoices()[-1]
    assert Decimal(last["total"]) == Decimal(row["expected_amount"])
    expected = row.get("expected", {}).get("lines", [])
    found = [
        [str(one["period_start"])[:10], str(one["period_end"])[:10], one["amount"]]
        for one in last["lines"]
    ]
    assert sorted(found) == expected or not late


@pytest.mark.parametrize("row", vectors.rows("late_usage", "late_usage_delta"), ids=vectors.row_id)
def test_published_late_usage_pays_the_blocks_that_were_not_billed(
    db: Engine, row: vectors.Row
) -> None:
    terms, total = row["params"], Decimal(row["input"]["total_after_late"])
    make_plan({**usage_price("calls", "1"), "model": "package", "unit_amount": None,
               "params": {"package_size": terms["block_size"],
                          "package_price": terms["price"]}})  # fmt: skip
    subscribe("acme", "2026-01-01")
    used("2026-01-10", "1")
    close("2026-02-05")
    assert Decimal(invoices()[0]["total"]) == Decimal(terms["already_billed"])
    used("2026-01-11", str(total - 1))

    close("2026-03-05")

    assert Decimal(invoices()[1]["total"]) == Decimal(row["expected_amount"])


@pytest.mark.usefixtures("january")
def test_a_preview_shows_late_usage_of_periods_that_are_billed_and_writes_nothing() -> None:
    key = used("2026-01-31", "3")
    used("2026-02-10", "5")
    before = query("SELECT count(*) FROM late_usage"), query("SELECT count(*) FROM outbox_messages")

    (shown,) = preview_invoice(tenant_id="acme", as_of=instant("2026-02-12"))["invoices"]

    assert lines(shown) == [("usage", "2026-02-01", 1000), ("adjustment", "2026-01-01", 600)]
    assert shown["lines"][1]["details"]["adjusts"] == "INV-000001"
    assert len(invoices()) == 1
    after = query("SELECT count(*) FROM late_usage"), query("SELECT count(*) FROM outbox_messages")
    assert after == before
    close("2026-03-05")
    assert lines(invoices()[1]) == lines(shown)

    void_usage(tenant_id="acme", metric="calls", idempotency_key=key, reason="a test")
    (shown,) = preview_invoice(tenant_id="acme", as_of=instant("2026-03-12"))["invoices"]
    assert lines(shown)[1:] == [("adjustment", "2026-01-01", -600)]


@pytest.mark.usefixtures("january")
def test_a_preview_leaves_late_usage_to_the_draft_that_takes_it() -> None:
    generate_invoices(as_of=instant("2026-03-01"))
    used("2026-01-31", "3")

    (shown,) = preview_invoice(tenant_id="acme", as_of=instant("2026-03-01T10:00:00"))["invoices"]

    assert lines(shown) == [("usage", "2026-03-01", 0)]
