"""Payments, withdrawal, writing off: each payment once, each state by its moves."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules import states
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState
from tasks.credit_notes import create_credit_note
from tasks.credit_upkeep import audit
from tasks.credits import get_balance
from tasks.invoice_runs import generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.payments import record_payment
from tasks.unpaid import void_invoice, write_off_invoice
from tests.integration.billing_world import (
    assert_reconciled,
    fee,
    instant,
    make_plan,
    make_prepaid,
    query,
    said,
    subscribe,
    top_up,
)

LATER = instant("2026-12-31")


def draft(tenant_id: str = "acme", amount: str = "100", *, currency: str = "USD") -> Any:
    make_plan(fee(amount, currency=currency))
    subscribe(tenant_id, "2026-01-01", currency=currency)
    return generate_monthly_invoice(
        tenant_id=tenant_id,
        period_start="2026-01-01",
        period_end="2026-02-01",
        currency=currency,
        as_of=LATER,
    )


def finalized(tenant_id: str = "acme", amount: str = "100", **more: Any) -> Any:
    made = draft(tenant_id, amount, **more)
    return finalize_invoice(invoice_id=made["invoice_id"], as_of=LATER)


def pay(invoice: Any, amount: str, payment_id: str = "p1", **more: Any) -> Any:
    return record_payment(
        invoice_id=invoice["invoice_id"], amount=amount, payment_id=payment_id, **more
    )


def refused(call: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        call(*arguments, **more)
    return refusal.value.code


def test_parts_add_up_and_the_last_one_pays_the_invoice(db: Engine) -> None:
    invoice = finalized()

    first = pay(invoice, "40")
    assert (first["state"], first["open_minor"]) == ("finalized", 6_000)
    assert said("billing.invoice.paid") == []
    second = pay(invoice, "60", "p2", method="bank")

    assert (second["state"], second["open_minor"], second["paid_minor"]) == ("paid", 0, 10_000)
    (event,) = said("billing.invoice.paid")
    assert (event["data"]["number"], event["data"]["paid_minor"]) == ("INV-000001", 10_000)
    assert event["sequence"] == second["version"] == get_invoice_version(invoice)
    assert_reconciled()


def get_invoice_version(invoice: Any) -> int:
    version: int = get_invoice(invoice_id=invoice["invoice_id"])["version"]
    return version


def test_the_same_payment_is_entered_once_also_when_the_invoice_is_paid(db: Engine) -> None:
    invoice = finalized()

    first = pay(invoice, "100")

    assert pay(invoice, "100") == first
    assert pay(invoice, "100.00", currency="USD") == first
    assert query("SELECT count(*) FROM payments") == [(1,)]
    assert len(said("billing.invoice.paid")) == 1


def test_a_payment_id_with_another_amount_or_invoice_is_a_conflict(db: Engine) -> None:
    invoice, other = finalized(), finalized("other")
    pay(invoice, "40")

    assert refused(pay, invoice, "41") == "payment.conflict"
    assert refused(pay, other, "40") == "payment.conflict"
    assert pay(other, "40", method="bank")["paid_minor"] == 4_000


def test_more_than_is_due_is_refused_unless_it_is_to_be_credit(db: Engine) -> None:
    invoice = finalized()
    make_prepaid()
    pay(invoice, "90")

    assert refused(pay, invoice, "30", "p2") == "payment.exceeds_due"
    answer = pay(invoice, "30", "p2", excess="credit", as_of=LATER)

    assert (answer["state"], answer["paid_minor"], answer["excess_minor"]) == (
        "paid",
        10_000,
        2_000,
    )
    assert pay(invoice, "30", "p2", excess="credit") == answer
    more = pay(invoice, "5", "p3", excess="credit", as_of=LATER)
    # It is paid already: only credit comes of it.
    assert (more["excess_minor"], more["version"]) == (500, answer["version"])
    assert len(said("billing.invoice.paid")) == 1
    assert get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)["available"] == "25"
    assert audit()["ok"]
    assert_reconciled()


def test_excess_without_a_prepaid_product_is_refused_and_nothing_is_entered(db: Engine) -> None:
    invoice = finalized()

    assert refused(pay, invoice, "130", excess="credit") == "prepaid.no_product"
    assert query("SELECT count(*) FROM payments") == [(0,)]
    assert get_invoice(invoice_id=invoice["invoice_id"])["state"] == "finalized"


@pytest.mark.parametrize(
    ("amount", "more"),
    [("1.005", {}), ("1", {"currency": "EUR"})],
)
def test_an_amount_that_can_not_be_paid_so_is_refused(
    db: Engine, amount: str, more: dict[str, Any]
) -> None:
    assert refused(pay, finalized(), amount, **more) == "payment.amount_invalid"


def test_a_currency_without_decimals_is_paid_in_whole_units(db: Engine) -> None:
    invoice = finalized(amount="1500", currency="JPY")

    assert refused(pay, invoice, "1.5") == "payment.amount_invalid"
    assert pay(invoice, "1500")["state"] == "paid"


def test_what_can_be_done_in_which_state_is_what_the_table_of_states_says(db: Engine) -> None:
    ways = {
        InvoiceState.draft: draft("draft"),
        InvoiceState.finalized: finalized("finalized"),
        InvoiceState.paid: finalized("paid"),
        InvoiceState.void: finalized("void"),
        InvoiceState.uncollectible: finalized("uncollectible"),
    }
    pay(ways[InvoiceState.paid], "100", "whole")
    void_invoice(invoice_id=ways[InvoiceState.void]["invoice_id"], reason="r")
    write_off_invoice(invoice_id=ways[InvoiceState.uncollectible]["invoice_id"], reason="r")
    acts = {
        "pay": lambda one: pay(one, "1", f"{one['invoice_id']}"),
        "write_off": lambda one: write_off_invoice(invoice_id=one["invoice_id"], reason="r"),
        "void": lambda one: void_invoice(invoice_id=one["invoice_id"], reason="r"),
    }
    repeated = {("void", InvoiceState.void), ("write_off", InvoiceState.uncollectible)}

    for event, act in acts.items():
        for state, invoice in ways.items():
            if event in states.INVOICE.transitions[state] or (event, state) in repeated:
                continue
            assert refused(act, invoice) in {"invoice.not_open", "payment.exceeds_due"}, (
                event,
                state,
            )
    for state, invoice in ways.items():
        assert get_invoice(invoice_id=invoice["invoice_id"])["state"] == state


def test_what_was_written_off_can_still_be_paid(db: Engine) -> None:
    invoice = finalized()
    pay(invoice, "30")
    answer = write_off_invoice(invoice_id=invoice["invoice_id"], reason="went bankrupt")
    assert write_off_invoice(invoice_id=invoice["invoice_id"], reason="again") == answer

    paid = pay(invoice, "70", "p2")

    assert (answer["state"], paid["state"]) == ("uncollectible", "paid")
    (event,) = said("billing.invoice.uncollectible")
    assert event["data"]["reason"] == "went bankrupt"
    assert len(said("billing.invoice.paid")) == 1


def test_a_void_invoice_gives_back_the_credit_that_paid_it(db: Engine) -> None:
    make_prepaid()
    top_up("acme", "30")
    invoice = finalized()
    assert invoice["credit_minor"] == 3_000

    answer = void_invoice(invoice_id=invoice["invoice_id"], reason="wrong", as_of=LATER)

    assert void_invoice(invoice_id=invoice["invoice_id"], reason="again") == answer
    assert get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)["available"] == "30"
    assert audit()["ok"]
    (event,) = said("billing.invoice.voided")
    assert (event["data"]["reason"], event["data"]["number"]) == ("wrong", "INV-000001")
    assert answer["open_minor"] == 0
    assert get_invoice(invoice_id=invoice["invoice_id"])["number"] == "INV-000001"


def test_the_period_of_a_void_invoice_is_billed_again_when_somebody_asks(db: Engine) -> None:
    withdrawn = finalized()
    void_invoice(invoice_id=withdrawn["invoice_id"], reason="wrong plan", as_of=LATER)
    # A subscription that was wrong can be mended: no invoice with a number stands in the way.
    make_plan(fee("50"), plan_key="extra")
    subscribe("acme", "2026-01-01", plan_key="extra", currency="USD")
    generate_invoices(as_of=LATER)
    assert query("SELECT count(*) FROM invoices WHERE period_end = '2026-02-01Z'") == [(1,)]

    again = draft()

    assert draft() == again
    assert again["invoice_id"] != withdrawn["invoice_id"]
    final = finalize_invoice(invoice_id=again["invoice_id"], as_of=LATER)
    assert (final["number"], final["total"]) == ("INV-000002", "150.00")
    assert get_invoice(invoice_id=withdrawn["invoice_id"])["state"] == "void"
    assert draft() == final


def test_what_was_paid_or_credited_in_part_is_not_withdrawn(db: Engine) -> None:
    paid, credited = finalized("one"), finalized("two")
    pay(paid, "1")
    create_credit_note(
        invoice_id=credited["invoice_id"], reason="r", amount="1", idempotency_key="k"
    )

    for invoice in (paid, credited):
        code = refused(void_invoice, invoice_id=invoice["invoice_id"], reason="r")
        assert code == "invoice.touched"


def test_an_invoice_that_nobody_knows_is_refused(db: Engine) -> None:
    nobody = {"invoice_id": UUID(int=0)}

    assert refused(pay, nobody, "1") == "invoice.unknown"
    assert refused(void_invoice, reason="r", **nobody) == "invoice.unknown"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoices SET paid_minor = paid_minor + 1",
        "UPDATE invoices SET paid_minor = paid_minor - 1",
        "UPDATE invoices SET credited_minor = total_minor + 1",
        "UPDATE invoices SET state = 'paid'",
        "UPDATE invoices SET state = 'void'",
        "UPDATE payments SET amount_minor = 1",
        "DELETE FROM payments",
        "TRUNCATE payments",
    ],
)
def test_the_database_refuses_figures_and_states_that_can_not_be(
    db: Engine, statement: str
) -> None:
    invoice = finalized()
    pay(invoice, "99.99")
    if "+ 1" in statement:
        pay(invoice, "0.01", "p2")

    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(text(statement))


@pytest.mark.parametrize("target", list(InvoiceState))
def test_the_database_knows_the_moves_of_the_table_of_states(
    db: Engine, target: InvoiceState
) -> None:
    """From void and paid nothing leads anywhere, whoever tries."""
    paid, void = finalized("paid"), finalized("void")
    pay(paid, "100")
    void_invoice(invoice_id=void["invoice_id"], reason="r")

    for invoice, state in ((paid, "paid"), (void, "void")):
        if target == state:
            continue
        with pytest.raises(IntegrityError), database.transaction() as session:
            session.execute(
                text("UPDATE invoices SET state = :state WHERE id = :id"),
                {"state": target.value, "id": invoice["invoice_id"]},
            )
